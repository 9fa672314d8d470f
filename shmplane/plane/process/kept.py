"""Roots of views that are kept for a moment, so that a name which is got over and over is not leased each time.

A kept root lies in a list that the drain timer's bell is rung with: one call into C keeps it, and sees to it that the thread
empties the list at its next tick, within 50 ms, whatever interrupts the caller. Who is about to replace, delete or reclaim a
block forgets its root first.

Nothing is kept without that thread, since nobody would empty the list, and not too much: what is let out at one tick is given
back in one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...system import own

if TYPE_CHECKING:
    from .drain import DrainTimer

__all__ = ["KeptRoots"]

_MOST = 256


class KeptRoots:
    """Attributes:
    lists: by name, the lists that roots are kept in; for a quick look whether there are any.
    """

    def __init__(self, timer: DrainTimer) -> None:
        self._timer = timer
        self.lists: dict[str, list[Any]] = {}

    def __contains__(self, name: str) -> bool:
        return bool(self.lists.get(name))

    def keep(self, name: str, root: Any) -> None:
        """Keep the root that a name's views share until the next tick."""
        if not self._timer.running:
            return
        if len(self.lists) >= _MOST:
            if next(iter(list(self.lists.values()))):
                return  # not even the oldest was emptied
            self.lists.clear()  # what is in younger lists stays until the tick
        kept = [root]
        self._timer.ring(kept)  # first: what is rung with is emptied in time
        before = self.lists.get(name)
        self.lists[name] = kept
        if before:
            before.clear()  # another version, which somebody else replaced: nobody could forget it any more

    def forget(self, name: object) -> None:
        """Its block is about to be replaced or deleted."""
        kept = self.lists.pop(name, None) if isinstance(name, str) else None
        if kept is not None:
            kept.clear()

    def forget_all(self) -> None:
        """Somebody wants to know, or needs, what is not in use."""
        while self.lists:
            try:
                _, kept = self.lists.popitem()
            except own(KeyError):
                break  # another thread did the same
            kept.clear()
        self._timer.empty()
