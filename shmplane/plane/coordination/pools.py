"""The host-wide limit of connection pools: a semaphore of the plane, as pools want to see it.

Pools know a protocol only (``connections.permits.HostPermits``), so they do without a plane; this is its real
implementation. Permits belong to the process and come back when it dies; a forked child asks for an object of its own.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from ...errors import ClosedError

if TYPE_CHECKING:
    from .semaphores import Semaphore

__all__ = ["PoolPermits"]


class PoolPermits:
    """One pool's part in the permits of all pools of its name on this host."""

    def __init__(self, semaphore: Semaphore) -> None:
        self._semaphore = semaphore
        self._mutex = threading.Lock()
        self._held = 0
        self._closed = False

    def try_acquire(self) -> bool:
        """Take a permit if that can be done at once and nobody waits."""
        return not self._closed and self._semaphore.try_acquire() and self._keep()

    def acquire(self, timeout: float) -> bool:
        """Take a permit; False when none came within ``timeout`` seconds, or ``close`` was called meanwhile."""
        return self._semaphore.acquire_unless(lambda: self._closed, timeout) and self._keep()

    def _keep(self) -> bool:
        with self._mutex:
            if not self._closed:
                self._held += 1
                return True
        self._semaphore.release()
        return False

    def release(self) -> None:
        """Give one permit back; after ``close`` they all are already."""
        with self._mutex:
            if not self._held:
                return
            self._held -= 1
        with contextlib.suppress(ClosedError):
            self._semaphore.release()

    def waiting_elsewhere(self) -> int:
        """How many other processes wait for a permit at this moment."""
        return self._semaphore.waiting_elsewhere()

    def close(self) -> None:
        """Give back what this pool still holds, and leave. Idempotent."""
        with self._mutex:
            self._closed = True
            held, self._held = self._held, 0
        for _ in range(held):
            # The plane may be gone already, and with it the permits.
            with contextlib.suppress(ClosedError, RuntimeError):
                self._semaphore.release()
