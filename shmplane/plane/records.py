"""What a plane tells about itself: frozen records, totals over all processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from ..manifest import BLOCK_STATES, FREE, KINDS, USED, WARM, held_rows

if TYPE_CHECKING:
    from ..manifest import SemaphoreUse, Transaction

__all__ = ["BlockInfo", "PlaneStatistics", "Reclaimed", "SemaphoreInfo", "block_infos", "statistics", "timestamp"]


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One block at the time of the snapshot.

    Attributes:
        name: None for superseded, deleted and anonymous blocks that somebody still holds.
        nbytes: of the value.
        leases: how many processes lease it.
        holders: their slots.
    """

    name: str | None
    version: int
    kind: str
    nbytes: int
    state: str
    leases: int
    holders: tuple[int, ...]
    created: datetime


@dataclass(frozen=True, slots=True)
class SemaphoreInfo:
    """A lock or semaphore that somebody holds or waits for at the time of the snapshot.

    Attributes:
        kind: ``lock``, ``semaphore``, ``pool limit`` (of connection pools) or ``loading`` (``get_or_put``).
        permits: how many may be held in all; ``held`` of them are.
        holders: pids of the processes that hold any.
        waiters: pids of the processes in which somebody waits, the next one first.
    """

    kind: str
    name: str
    permits: int
    held: int
    holders: tuple[int, ...]
    waiters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlaneStatistics:
    """Totals; ``used_nbytes + recycled_nbytes + free_nbytes == capacity``.

    Attributes:
        permits: of all locks and semaphores, held over all processes.
        semaphores: those that somebody holds or waits for.
    """

    capacity: int
    used_nbytes: int
    recycled_nbytes: int
    free_nbytes: int
    blocks: int
    segments: int
    processes: int
    leases: int
    permits: int = 0
    semaphores: tuple[SemaphoreInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What one ``gc`` gave back; ``planes`` are temporary ones, ``files`` those of scopes."""

    processes: int = 0
    leases: int = 0
    permits: int = 0
    blocks: int = 0
    nbytes: int = 0
    planes: int = 0
    files: int = 0


def timestamp(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC).astimezone()


def block_infos(tx: Transaction) -> list[BlockInfo]:
    """A row per block that is not free; under the lock."""
    blocks, high = tx.blocks, tx.manifest.blocks_high
    holders: dict[int, list[int]] = {}
    for slot in tx.space.slots_in_use():
        for row in held_rows(tx, slot):
            holders.setdefault(row, []).append(slot)
    infos = []
    for row, state in enumerate(blocks.state[:high].tolist()):
        if state == FREE:
            continue
        name = blocks.name[row] - 1
        infos.append(
            BlockInfo(
                name=tx.index.read(name) if name >= 0 and tx.is_named(row) else None,
                version=blocks.version[row],
                kind=KINDS.get(blocks.kind[row], "unknown"),
                nbytes=blocks.body_nbytes[row],
                state=BLOCK_STATES.get(state, "unknown"),
                leases=len(holders.get(row, ())),
                holders=tuple(holders.get(row, ())),
                created=timestamp(blocks.created[row]),
            )
        )
    return infos


def statistics(tx: Transaction) -> PlaneStatistics:
    """Totals; under the lock."""
    header = tx.header
    capacity, used, recycled = header.capacity[0], header.used_nbytes[0], header.recycled_nbytes[0]
    slots = tx.space.slots_in_use()
    semaphores = tuple(map(partial(_semaphore_info, tx), tx.coordination.uses()))
    return PlaneStatistics(
        capacity=capacity,
        used_nbytes=used,
        recycled_nbytes=recycled,
        free_nbytes=capacity - used - recycled,
        blocks=header.live_blocks[0],
        segments=sum(state in (USED, WARM) for state in tx.segments.state[: tx.manifest.segments_high].tolist()),
        processes=len(slots),
        leases=sum(len(held_rows(tx, slot)) for slot in slots),
        permits=sum(semaphore.held for semaphore in semaphores),
        semaphores=semaphores,
    )


def _semaphore_info(tx: Transaction, use: SemaphoreUse) -> SemaphoreInfo:
    pid = tx.manifest.processes.pid
    return SemaphoreInfo(
        kind=use.kind,
        name=use.name,
        permits=use.permits,
        held=sum(use.holders.values()),
        holders=tuple(pid[slot] for slot in use.holders),
        waiters=tuple(pid[slot] for slot in use.waiting),
    )
