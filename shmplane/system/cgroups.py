"""The control groups that this process is in, from its own up to the top: what limits one of them limits the process.

Both versions are understood.
"""

from __future__ import annotations

import os

from .handlers import own

__all__ = ["MOUNT", "cgroups_of", "read_text"]

MOUNT = "/sys/fs/cgroup"


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
