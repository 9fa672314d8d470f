"""How much shared memory there is to have: what the file system has free, and what the memory cgroup lets us use of it.

At a cgroup's limit no call fails: the kernel kills the writer. The tightest limit on the way up counts.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .cgroups import MOUNT, cgroups_of, read_text
from .handlers import own

__all__ = ["MemoryLimit", "free_nbytes", "memory_limit"]

#: version 1 says "no limit" with a number near 2**63
_UNLIMITED = 1 << 60


class MemoryLimit(NamedTuple):
    """Of one group; shared memory counts as used, and what the kernel keeps of files on disk as cached."""

    limit_nbytes: int
    used_nbytes: int
    cached_nbytes: int = 0

    @property
    def room_nbytes(self) -> int:
        """What can still be had: the cache gives way."""
        return max(0, self.limit_nbytes - self.used_nbytes + min(self.cached_nbytes, self.used_nbytes))


def free_nbytes(directory: str) -> int:
    """What files in a directory of shared memory can still take."""
    found = os.statvfs(directory)
    limit = memory_limit()
    free = found.f_bavail * found.f_frsize
    return free if limit is None else min(free, limit.room_nbytes)


def memory_limit(mount: str | os.PathLike[str] = MOUNT, said: str | None = None) -> MemoryLimit | None:
    """The limit with the least room, or None; ``said`` is what ``/proc/self/cgroup`` says."""
    groups = cgroups_of("memory", mount, said)
    found = [limit for group, is_unified in groups if (limit := _read(group, is_unified)) is not None]
    return min(found, key=lambda limit: limit.room_nbytes, default=None)


def _read(group: str, is_unified: bool) -> MemoryLimit | None:
    names = ("memory.max", "memory.current") if is_unified else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        limit = read_text(f"{group}/{names[0]}").strip()
        used = int(read_text(f"{group}/{names[1]}"))
    except own(OSError, ValueError):
        return None
    if not limit.isdigit() or int(limit) >= _UNLIMITED:
        return None
    return MemoryLimit(int(limit), used, _read_cached(group))


def _read_cached(group: str) -> int:
    """Pages of files on disk; those of shared memory are on other lists of the kernel."""
    try:
        said = dict(line.split() for line in read_text(f"{group}/memory.stat").splitlines())
        # Version 1 has both its own and those with all groups below.
        prefix = "total_" if "total_inactive_file" in said else ""
        return int(said[f"{prefix}inactive_file"]) + int(said[f"{prefix}active_file"])
    except own(OSError, ValueError, KeyError):
        return 0
