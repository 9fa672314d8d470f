"""Is the cache well? Judged from its statistics, and from the room that its directory has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..observe import Check, Health, nbytes
from ..system import disk_of, own

if TYPE_CHECKING:
    from .tally import CacheStatistics

__all__ = ["disk_room", "judge"]


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
