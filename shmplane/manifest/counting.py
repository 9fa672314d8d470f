"""Counting: what each process has done, in words of its own that only grow, and the sums over all that ever were.

A process counts under the lock, where the act is anyway: one store into its own row. When it has ended, its row is folded
into a base row (``folding``). Counts are no facts: a death between an act and its count loses that one count, and nothing
else depends on them.

Rows: two base rows, one for whoever has no slot yet and counts under the lock, and one per process.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from .folding import Folding, folded_slot
from .limits import COUNTER_ROWS_BEFORE
from .schema import Counters

if TYPE_CHECKING:
    from ..tables import Column
    from .store import Manifest

__all__ = ["WAIT_BOUNDS", "Counting", "read_counters"]

#: upper bounds of the buckets of waits, in seconds; one more takes what is above
WAIT_BOUNDS = (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0)
_ALL_ARE_COUNTS = (True,) * Counters.row_words


class Waited(Protocol):
    """A lock, as far as it says how many seconds whoever has it waited for it."""

    waited: float


class Counting:
    """One process's row. ``row`` is where it stands in the table; -1 as slot: of nobody yet."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest: Manifest = manifest
        self.counters: Counters = manifest.counters
        self.row: int = COUNTER_ROWS_BEFORE - 1
        self._folding = Folding(
            manifest.header.counted,
            manifest.limits.max_processes,
            base_row=lambda bit: manifest.counter_row(bit - COUNTER_ROWS_BEFORE),
            row_of=manifest.counter_row,
        )

    def act_for(self, slot: int) -> int:
        """Count for the process of ``slot`` from now on; the row that it has."""
        self.row = slot + COUNTER_ROWS_BEFORE
        return self.row

    def begin(self, slot: int) -> None:
        """A row that is about to be used is zero and has memory behind it; ``PlaneFull``."""
        self._folding.finish()
        self._manifest.reserve(self.counters, slot + COUNTER_ROWS_BEFORE + 1)
        self._folding.clear(slot)

    def fold(self, slot: int) -> None:
        """The process of ``slot`` has ended."""
        self._folding.fold(slot, _ALL_ARE_COUNTS)

    def missed(self) -> None:
        """A name was looked up that is not there."""
        self.counters.misses[self.row] += 1

    def conflicted(self) -> None:
        """A put or commit was refused since its name had moved on."""
        self.counters.conflicts[self.row] += 1

    def evicted(self) -> None:
        """A block went to make room."""
        self.counters.evictions[self.row] += 1

    def expired(self) -> None:
        """A name's time had come."""
        self.counters.expirations[self.row] += 1

    def reclaimed(self) -> None:
        """A process that has ended was given back for."""
        self.counters.reclaimed[self.row] += 1

    def recovered(self) -> None:
        """A transaction that somebody left unfinished was put right."""
        self.counters.recoveries[self.row] += 1

    def waited(self, lock: Waited) -> None:
        """The plane's lock, which we have now, was not to be had at once."""
        seconds, lock.waited = lock.waited, 0.0
        self.counters.waits[_bucket(seconds)][self.row] += 1
        self.counters.waited_ns[self.row] += int(seconds * 1e9)

    def permitted(self, since: float) -> None:
        """Somebody got a permit, having waited since that time.monotonic; 0: not at all."""
        seconds = monotonic() - since if since else 0.0
        self.counters.permit_waits[_bucket(seconds)][self.row] += 1
        if seconds:
            self.counters.permit_waited_ns[self.row] += int(seconds * 1e9)


def _bucket(seconds: float) -> int:
    """Which of the counts a wait belongs to; most often the first, of who did not wait."""
    return sum(seconds > bound for bound in WAIT_BOUNDS) if seconds else 0


def read_counters(manifest: Manifest) -> dict[str, list[int]]:
    """The words of each column, summed over all processes that are or were in the plane; under the lock.

    A total never goes back: who ends is in the base from the store on that takes him out of the sum.
    """
    word = manifest.header.counted[0]
    slots = [slot for slot in manifest.slots_in_use() if slot != folded_slot(word)]
    rows: list[Column] = [manifest.counter_row(slot) for slot in ((word & 1) - COUNTER_ROWS_BEFORE, -1, *slots)]
    sums = [sum(words) for words in zip(*(row.tolist() for row in rows), strict=True)]
    return {
        name: sums[start : start + item.words]
        for (name, start), item in zip(Counters.offsets.items(), Counters.declared.values(), strict=True)
    }
