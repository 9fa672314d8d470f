"""The memory limit of this process's cgroup, version 1 or 2; the tightest on the way up counts."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["MemoryLimit", "memory_limit"]

_MOUNT = Path("/sys/fs/cgroup")
#: version 1 says "no limit" with a number near 2**63
_UNLIMITED = 1 << 60


class MemoryLimit(NamedTuple):
    limit_nbytes: int
    used_nbytes: int

    @property
    def room_nbytes(self) -> int:
        return max(0, self.limit_nbytes - self.used_nbytes)


def memory_limit(mount: Path = _MOUNT, said: str | None = None) -> MemoryLimit | None:
    """The limit with the least room, or None; ``said`` is what ``/proc/self/cgroup`` says."""
    if said is None:
        try:
            said = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        except OSError:
            return None
    found = [limit for line in said.splitlines() for limit in _limits_of(mount, line)]
    return min(found, key=lambda limit: limit.room_nbytes, default=None)


def _limits_of(mount: Path, line: str) -> list[MemoryLimit]:
    _, controllers, group = line.split(":", 2)
    if controllers == "":
        top, names = mount, ("memory.max", "memory.current")
    elif "memory" in controllers.split(","):
        top, names = mount / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
    else:
        return []
    # A container sees its own group as the top, whatever the path says.
    relative = PurePosixPath(group.lstrip("/"))
    groups = [top / relative, *(top / parent for parent in relative.parents)]
    return [limit for path in groups if (limit := _read(path, *names)) is not None]


def _read(group: Path, limit_name: str, used_name: str) -> MemoryLimit | None:
    try:
        limit = (group / limit_name).read_text(encoding="ascii").strip()
        used = int((group / used_name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    if not limit.isdigit() or int(limit) >= _UNLIMITED:
        return None
    return MemoryLimit(int(limit), used)
