"""A scope for plain code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from shmplane.scopes.base import ScopeBase
from shmplane.scopes.stack import Reckoning

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Scope"]


class Scope(ScopeBase):
    """Cleans up what it was given, last in, first out, whatever happens.

    Every cleanup runs, also when others fail or Ctrl-C comes in between. Cleanup errors form an
    ``ExceptionGroup``, which an ``Exception`` of the body joins; ``KeyboardInterrupt`` and ``SystemExit``
    go on as they are. A forked child does not clean up what its parent acquired.
    """

    def close(self) -> None:
        """Clean up now; safe to call again.

        Raises:
            ExceptionGroup: of what the cleanups raised.
        """
        self._close(None)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._close(error)

    def _close(self, body: BaseException | None) -> bool:
        self._closed = True
        reckoning = Reckoning(self.name, body)
        while (entry := self._pop()) is not None:
            try:
                if entry.cleanup(reckoning.under_way):
                    reckoning.swallow()
            except BaseException as error:  # noqa: BLE001  booked, and raised when all is done
                reckoning.add(error, entry)
        return reckoning.settle()
