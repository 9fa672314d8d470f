"""What happened in a cache, counted by every process and summed over the host; what a killed one had counted stays.
Whether the cache is well is judged from that, and from the room that its directory has.

A process says what it has counted when something happens that takes its time anyway, and of hits in memory at most every
50 ms, since one of those takes less than saying so.
"""

from __future__ import annotations

import atexit
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ShmplaneError
from ..observe import Check, Health, nbytes
from ..plane import PoolMeter
from ..system import disk_of, ignoring, own, run_in_forked_child
from .measuring import EVENTS, METER_PREFIX, OTHER_CACHES

if TYPE_CHECKING:
    from ..plane import Plane

__all__ = ["CacheStatistics", "Tally", "TierStatistics", "disk_room", "judge"]

_LEVELS = 16
_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class TierStatistics:
    """One tier of a cache."""

    hits: int
    evictions: int
    nbytes: int  #: B in use
    limit_nbytes: int


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """A cache, over all processes that had or have it open since its plane was made.

    Attributes:
        hits: of both tiers.
        computes: how often a value was computed.
        computes_alone: of these, how many without a lock, because no semaphore was free.
        stale_hits: values handed out after their time, within their grace.
        promotions: values that went from disk to memory.
        damaged: rows and files that were refused.
        past_memory, past_disk: values that went past a tier that had no room for them.
    """

    hits: int
    misses: int
    computes: int
    evictions: int
    memory: TierStatistics
    disk: TierStatistics
    computes_alone: int = 0
    stale_hits: int = 0
    sets: int = 0
    promotions: int = 0
    damaged: int = 0
    past_memory: int = 0
    past_disk: int = 0


class Tally:
    """One process's counts."""

    def __init__(self, plane: Plane, prefix: str) -> None:
        self._plane, self._name = plane, (METER_PREFIX + prefix).encode()
        self._found: PoolMeter | None = None
        self._words = dict.fromkeys(EVENTS, 0)
        self._said = 0.0
        _living.add(self)

    @property
    def _meter(self) -> PoolMeter:
        if self._found is None:
            self._found = PoolMeter(self._plane._open(), self._name, OTHER_CACHES.encode())
        return self._found

    def begin_again_in_child(self) -> None:
        """In a forked child: what the parent counted is the parent's."""
        self._found, self._words = None, dict.fromkeys(EVENTS, 0)

    def hit(self) -> None:
        """A hit in memory."""
        self._words["memory_hits"] += 1
        if time.monotonic() - self._said > _EVERY_S:
            self.say()

    def count(self, event: str, number: int = 1) -> None:
        """Anything else."""
        self._words[event] += number
        self.say()

    def count_with_next(self, event: str) -> None:
        """Anything else, of who holds a lock of the plane: to release it takes a transaction, which says this as well."""
        self._words[event] += 1
        with ignoring(ShmplaneError):
            self._meter.publish_with_next([*[0] * _LEVELS, *self._words.values()])

    def say(self) -> None:
        """Let others know."""
        self._said = time.monotonic()
        with ignoring(ShmplaneError):
            self._meter.publish([*[0] * _LEVELS, *self._words.values()])

    def totals(self) -> dict[str, int]:
        """Over all processes, by event."""
        self.say()
        return dict(zip(EVENTS, self._meter.total()[_LEVELS:], strict=False))

    def close(self) -> None:
        """This process will count no more."""
        self.say()
        with ignoring(ShmplaneError):
            self._meter.close()
        _living.discard(self)


_living: weakref.WeakSet[Tally] = weakref.WeakSet()


def _say_all() -> None:
    for tally in list(_living):
        tally.say()


def _begin_again() -> None:
    for tally in list(_living):
        tally.begin_again_in_child()


atexit.register(_say_all)
run_in_forked_child(_begin_again)


def disk_room(directory: str) -> int:
    """B that files in a directory can still take; 0 when it is not there any more."""
    try:
        return disk_of(directory).free_nbytes
    except own(OSError):
        return 0


def judge(stats: CacheStatistics, free_nbytes: int) -> Health:
    """Say how a cache is, and what to do about it.

    Args:
        free_nbytes: of the file system that its directory lies on.
    """
    return Health.of((_room(stats, free_nbytes), _damage(stats), _large_values(stats), _locks(stats)))


def _room(stats: CacheStatistics, free_nbytes: int) -> Check:
    more = max(0, stats.disk.limit_nbytes - stats.disk.nbytes)
    found = (
        f"{nbytes(stats.disk.nbytes)} of {nbytes(stats.disk.limit_nbytes)} on disk, {nbytes(free_nbytes)} free there"
    )
    if more > free_nbytes:
        return Check("disk", "warn", found, "Make room there, or open the cache with a smaller disk=.")
    return Check("disk", "pass", found)


def _damage(stats: CacheStatistics) -> Check:
    if not stats.damaged:
        return Check("contents", "pass", "nothing was refused that lies on disk")
    found = (
        f"{stats.damaged:,} rows or files of the directory did not fit what the cache writes, and counted as missing"
    )
    return Check("contents", "warn", found, "See what else writes there, or to the disk; clear() begins anew.")


def _large_values(stats: CacheStatistics) -> Check:
    found = f"{stats.past_memory} values went past memory and {stats.past_disk} past the disk, being too large"
    if stats.past_disk:
        return Check("large values", "warn", found, "Open the cache with a larger disk=, or cut the values.")
    return Check("large values", "pass", found)


def _locks(stats: CacheStatistics) -> Check:
    found = f"{stats.computes} values computed, {stats.computes_alone} of them without a lock"
    if stats.computes_alone:
        cure = "The plane had no semaphore left, so a value may be computed twice: use fewer locks and names at once."
        return Check("computing", "warn", found, cure)
    return Check("computing", "pass", found)
