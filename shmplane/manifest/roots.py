"""What keeps a block alive, once for all who ask: transactions, recovery, and those who foretell what ``gc`` will do. Pure.

A block is rooted by a name, by the lease of a living process, by its linger time, by a living process that it is kept for,
or by one that makes it.
It lives while it is rooted, or while a block that lives refers to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from .states import CREATING, LIVE

__all__ = ["emptied_segments", "is_needed", "is_rooted", "reach"]


class Keepers(Protocol):
    """What is known of blocks, by row: words under the lock, facts for recovery, or a snapshot."""

    def state_of(self, row: int) -> int:
        """``CREATING``, ``LIVE`` or what goes anyway."""

    def is_named(self, row: int) -> bool:
        """Whether a name points to it."""

    def is_leased(self, row: int) -> bool:
        """Whether a living process leases it."""

    def is_lingering(self, row: int) -> bool:
        """Whether its linger time is not over."""

    def is_kept(self, row: int) -> bool:
        """Whether it is kept for a process that lives."""

    def is_being_made(self, row: int) -> bool:
        """Whether the process that makes it lives."""


def is_rooted(known: Keepers, row: int) -> bool:
    """Whether a block lives by itself."""
    state = known.state_of(row)
    return is_needed(known, row) if state == LIVE else state == CREATING and known.is_being_made(row)


def is_needed(known: Keepers, row: int) -> bool:
    """Whether a LIVE block lives by itself. What costs least is asked first."""
    return known.is_named(row) or known.is_lingering(row) or known.is_kept(row) or known.is_leased(row)


def reach(roots: Iterable[int], references: Callable[[int], Iterable[int]]) -> set[int]:
    """The roots, and whatever they refer to."""
    reached = set(roots)
    pending = list(reached)
    while pending:
        for other in references(pending.pop()):
            if other not in reached:
                reached.add(other)
                pending.append(other)
    return reached


def emptied_segments(going: Iterable[int], staying: Iterable[int]) -> set[int]:
    """Of the segments in which blocks lie that go, those in which none lies that stays."""
    return set(going) - set(staying)
