"""What ``gc`` would reclaim: decided from a snapshot, without changing anything. Pure.

A block stays while a name, a lease of a living process, its linger time, its living creator, or a block that stays
holds it. Leases of ended processes hold nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .units import nbytes, some

if TYPE_CHECKING:
    from ..manifest import Block, Process, Snapshot

__all__ = ["Reclaimable", "reclaimable"]


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
        counts = ((self.leases, "lease"), (self.permits, "permit"), (len(self.blocks), "block"))
        memory = [nbytes(self.nbytes)] if self.nbytes else []
        return [some(number, noun) for number, noun in counts if number] + memory

    def __str__(self) -> str:
        """``1 process ended and left 2 leases, 80 KiB``."""
        said = ", ".join(self.parts) or "a file that is to go"
        ended = some(len(self.processes), "process")
        return f"{ended} ended and left {said}" if self.processes else f"nobody needs {said} any more"


def reclaimable(snapshot: Snapshot, now: int | None = None) -> Reclaimable:
    """What the next ``gc`` gives back; ``now`` is a time of ``monotonic_ns``."""
    stale = snapshot.summary.stale
    alive = {process.slot for process in snapshot.processes if process.alive}
    kept = _reachable(snapshot, _roots(snapshot, alive, time.monotonic_ns() if now is None else now))
    gone = tuple(block for row, block in snapshot.blocks.items() if row not in kept)
    return Reclaimable(
        processes=stale,
        leases=sum(len(process.leases) for process in stale),
        permits=sum(process.permits for process in stale),
        blocks=gone,
        nbytes=_nbytes(snapshot, kept, gone),
    )


def _roots(snapshot: Snapshot, alive: set[int], now: int) -> set[int]:
    return {row for row, block in snapshot.blocks.items() if _is_root(block, alive, now)}


def _is_root(block: Block, alive: set[int], now: int) -> bool:
    if block.state == "creating":
        return block.owner in alive
    if block.state != "live":
        return False
    # The linger time starts again when the last lease ends, also by the death of its holder.
    lingers = block.expires > now or (block.expires > 0 and bool(block.holders))
    return block.name is not None or lingers or not alive.isdisjoint(block.holders)


def _reachable(snapshot: Snapshot, roots: set[int]) -> set[int]:
    kept, pending = set(roots), list(roots)
    while pending:
        for other in snapshot.blocks[pending.pop()].references:
            if other in snapshot.blocks and other not in kept:
                kept.add(other)
                pending.append(other)
    return kept


def _nbytes(snapshot: Snapshot, kept: set[int], gone: tuple[Block, ...]) -> int:
    still_used = {snapshot.blocks[row].segment for row in kept}
    emptied = {block.segment for block in gone} - still_used
    return sum(snapshot.segments[row].nbytes for row in emptied if row in snapshot.segments)
