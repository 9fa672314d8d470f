"""What a plane tells about itself: frozen records, totals over all processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["BlockInfo", "PlaneStatistics", "Reclaimed", "SemaphoreInfo", "timestamp"]


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One block at the time of the snapshot.

    Attributes:
        name: None for superseded, deleted and anonymous blocks that somebody still holds.
        nbytes: of the value.
        leases: how many processes lease it.
        holders: their slots.
        place: where its own bytes lie: ``memory``, or ``spill`` when they were moved to the spill directory.
    """

    name: str | None
    version: int
    kind: str
    nbytes: int
    state: str
    leases: int
    holders: tuple[int, ...]
    created: datetime
    place: str = "memory"


@dataclass(frozen=True, slots=True)
class SemaphoreInfo:
    """A lock or semaphore that somebody holds or waits for at the time of the snapshot, or a rate that somebody waits for.

    Attributes:
        kind: ``lock``, ``semaphore``, ``pool limit`` (of connection pools), ``loading`` (``get_or_put``) or ``rate``.
        permits: how many may be held in all, of a rate 0; ``held`` of them are.
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
        spilled_nbytes: of the files in the spill directory, which the capacity does not limit.
        engine: what this process works in the plane with: ``core``, where the compiled core is there, or ``python``.
        lock: the kind of the plane's host-wide lock: ``word`` or ``ofd``.
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
    spilled_nbytes: int = 0
    engine: str = "python"
    lock: str = "ofd"


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
