"""What ``gc`` would reclaim: decided from a snapshot, without changing anything. Pure.

Leases of ended processes keep nothing; what else keeps a block, ``roots`` says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..manifest import BLOCK_STATES, FREE, emptied_segments, is_rooted, reach
from .units import nbytes, some

if TYPE_CHECKING:
    from ..manifest import Block, Process, Snapshot

__all__ = ["Reclaimable", "parts_of", "reclaimable"]

_STATES = {name: state for state, name in BLOCK_STATES.items()}


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """What ended processes hold, and what goes when it is reclaimed.

    Attributes:
        processes: those that have ended and hold something.
        leases: how many leases they hold.
        permits: of locks and semaphores that they hold.
        blocks: rows that nothing else holds, those that were being created included.
        nbytes: of the segments that come back; a slab counts when no other block lies in it.
    """

    processes: tuple[Process, ...] = ()
    leases: int = 0
    permits: int = 0
    blocks: tuple[Block, ...] = ()
    nbytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.processes or self.blocks)

    @property
    def parts(self) -> list[str]:
        """What comes back, in words, what there is none of left out: ``2 leases``, ``1 block``, ``80 KiB``."""
        return parts_of(leases=self.leases, permits=self.permits, blocks=len(self.blocks), freed_nbytes=self.nbytes)

    def __str__(self) -> str:
        """``1 process ended and left 2 leases, 80 KiB``."""
        said = ", ".join(self.parts) or "a file that is to go"
        ended = some(len(self.processes), "process")
        return f"{ended} ended and left {said}" if self.processes else f"nobody needs {said} any more"


def parts_of(*, leases: int, permits: int, blocks: int, freed_nbytes: int) -> list[str]:
    """What came back, or would, in words; what there is none of is left out."""
    counts = ((leases, "lease"), (permits, "permit"), (blocks, "block"))
    memory = [nbytes(freed_nbytes)] if freed_nbytes else []
    return [some(number, noun) for number, noun in counts if number] + memory


def reclaimable(snapshot: Snapshot, now: int | None = None) -> Reclaimable:
    """What the next ``gc`` gives back; ``now`` is a time of ``monotonic_ns``."""
    stale, blocks = snapshot.summary.stale, snapshot.blocks
    known = _Known(snapshot, now if now is not None else time.monotonic_ns())
    kept = reach((row for row in blocks if is_rooted(known, row)), known.references)
    gone = tuple(block for row, block in blocks.items() if row not in kept)
    emptied = emptied_segments((block.segment for block in gone), (blocks[row].segment for row in kept))
    return Reclaimable(
        processes=stale,
        leases=sum(len(process.leases) for process in stale),
        permits=sum(process.permits for process in stale),
        blocks=gone,
        nbytes=sum(snapshot.segments[row].nbytes for row in emptied if row in snapshot.segments),
    )


class _Known:
    """What keeps a block, as far as a snapshot tells."""

    def __init__(self, snapshot: Snapshot, now: int) -> None:
        self._blocks, self._now = snapshot.blocks, now
        self._alive = {process.slot for process in snapshot.processes if process.alive}

    def state_of(self, row: int) -> int:
        return _STATES.get(self._blocks[row].state, FREE)

    def is_named(self, row: int) -> bool:
        return self._blocks[row].name is not None

    def is_leased(self, row: int) -> bool:
        return not self._alive.isdisjoint(self._blocks[row].holders)

    def is_lingering(self, row: int) -> bool:
        # The linger time starts again when the last lease ends, also by the death of its holder.
        block = self._blocks[row]
        return block.expires > self._now or (block.expires > 0 and bool(block.holders))

    def is_kept(self, row: int) -> bool:
        return self._blocks[row].queue >= 0 or self._blocks[row].kept_for in self._alive

    def is_being_made(self, row: int) -> bool:
        return self._blocks[row].owner in self._alive

    def references(self, row: int) -> list[int]:
        return [other for other in self._blocks[row].references if other in self._blocks]
