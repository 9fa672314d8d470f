"""What a pool says of itself: one line, and in a notebook a small page, which is loaded when it is shown."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from .reports import holders_of

if TYPE_CHECKING:
    from threading import RLock

    from ..observe import Health
    from .roster import Roster
    from .statistics import PoolStatistics

__all__ = ["ShowsItself"]


class ShowsItself:
    """The part of a pool that is for people."""

    name: str
    _lock: RLock
    _roster: Roster

    if TYPE_CHECKING:

        def stats(self) -> PoolStatistics: ...
        def health(self) -> Health: ...

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if stats.is_closed else f"{stats.used} used, {stats.idle} idle, {stats.waiting} waiting"
        return f"<{type(self).__name__} {self.name!r}: {state}, at most {stats.max_size}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from .display import html_of_pool

        stats, health = self.stats(), self.health()
        with self._lock:
            holders = holders_of(self._roster, monotonic())
        return {"text/plain": repr(self), "text/html": html_of_pool(type(self).__name__, stats, health, holders)}
