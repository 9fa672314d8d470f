"""How many processors there are to use: what the process may use at all, and whether one of them has nothing to do now.

A second thread helps only on a core that would be idle: on any other it takes turns with somebody, and is slower than one.
When in doubt there is none, as on a large machine of which the process may use two cores while others are busy elsewhere.
"""

from __future__ import annotations

import os
import time
from math import inf

from .cgroups import MOUNT, cgroups_of, read_text
from .handlers import own

__all__ = ["has_idle_core", "usable_cores"]

#: a group's quota is changed by hand, if at all
_LOOKS_AGAIN_S = 10.0
_known = (-inf, inf)


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
