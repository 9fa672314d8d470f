"""What this process may use of the host: processors, and shared memory, as far as its control groups let it.

What limits a group on the way from its own up to the top limits the process; both versions are understood. At a group's limit
of memory no call fails: the kernel kills the writer. A second thread helps only on a core that would be idle: on any other it
takes turns with somebody, and is slower than one. When in doubt there is none, as on a large machine of which the process may
use two cores while others are busy elsewhere.
"""

from __future__ import annotations

import os
import time
from math import inf
from typing import NamedTuple

from .handlers import own

__all__ = ["MemoryLimit", "free_nbytes", "has_idle_core", "memory_limit", "read_text"]

MOUNT = "/sys/fs/cgroup"
#: version 1 says "no limit" with a number near 2**63
_UNLIMITED = 1 << 60
#: a group's quota is changed by hand, if at all
_LOOKS_AGAIN_S = 10.0
_known = (-inf, inf)


def cgroups_of(
    controller: str, mount: str | os.PathLike[str] = MOUNT, said: str | None = None
) -> list[tuple[str, bool]]:
    """Directories of the groups, and whether each is of version 2; ``said`` is what ``/proc/self/cgroup`` says."""
    if said is None:
        try:
            said = read_text("/proc/self/cgroup")
        except own(OSError):
            return []
    return [group for line in said.splitlines() for group in _on_the_way_up(os.fspath(mount), controller, line)]


def _on_the_way_up(mount: str, controller: str, line: str) -> list[tuple[str, bool]]:
    _, controllers, group = line.split(":", 2)
    if controllers and controller not in controllers.split(","):
        return []
    # A container sees its own group as the top, whatever the path says.
    top, steps = f"{mount}/{controller}" if controllers else mount, [step for step in group.split("/") if step]
    return [("/".join([top, *steps[:depth]]), not controllers) for depth in range(len(steps), -1, -1)]


def read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def has_idle_core() -> bool:
    """Whether a second thread of this process would have a core of its own just now. Cost: 30 µs."""
    usable = usable_cores()
    try:
        return usable >= 2 and _running() < usable
    except own(OSError, ValueError, IndexError):
        return False


def usable_cores() -> float:
    """What the affinity and the quotas of the control groups leave to this process."""
    global _known  # noqa: PLW0603 - a cache, replaced as a whole
    now, (since, quota) = time.monotonic(), _known
    if now - since > _LOOKS_AGAIN_S:
        quota = quota_in_cores()
        _known = (now, quota)
    return min(len(os.sched_getaffinity(0)), quota)


def quota_in_cores(mount: str | os.PathLike[str] = MOUNT, said: str | None = None) -> float:
    """The least quota of any group, in processors; infinite without one."""
    return min((_quota(*group) for group in cgroups_of("cpu", mount, said)), default=inf)


def _quota(group: str, is_unified: bool) -> float:
    try:
        if is_unified:
            quota, period = read_text(f"{group}/cpu.max").split()
        else:
            quota, period = read_text(f"{group}/cpu.cfs_quota_us"), read_text(f"{group}/cpu.cfs_period_us")
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else inf
    except own(OSError, ValueError, ZeroDivisionError):
        return inf


def _running() -> int:
    """Threads that run or could run, on the whole machine, this one among them."""
    return int(read_text("/proc/loadavg").split()[3].partition("/")[0])


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
