"""When to connect again after a connect failed: doubling pauses, half of each left to chance."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["BACKOFF_LIMIT", "Backoff"]

BACKOFF = 0.05  #: seconds before the second try; doubles up to the next
BACKOFF_LIMIT = 5.0


class Backoff:
    """The connects that failed in a row."""

    __slots__ = ("_chance", "error", "failures", "retry_at")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self.succeeded()

    def succeeded(self) -> None:
        self.failures: int = 0
        self.retry_at: float = -math.inf
        self.error: BaseException | None = None

    def failed(self, error: BaseException, now: float) -> None:
        """Wait a little longer than the last time; failures of connects that ran side by side count once."""
        self.error = error
        if now >= self.retry_at:
            delay = min(BACKOFF * 2 ** min(self.failures, 16), BACKOFF_LIMIT)
            self.retry_at = now + delay * (0.5 + self._chance())
            self.failures += 1
