"""Directories on disk that are to take what has no room in memory: what they can do, and what tells one boot from the next."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import NamedTuple

from ..errors import UnsupportedPlatform
from . import libc
from .cgroups import read_text
from .handlers import own

__all__ = ["Disk", "boot_id", "disk_of", "file_system_of", "require_fallocate"]

_CANNOT_ALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS)


class Disk(NamedTuple):
    """The file system of a directory; what others may not use is not free."""

    nbytes: int
    free_nbytes: int


def disk_of(directory: str) -> Disk:
    found = os.statvfs(directory)
    return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def boot_id() -> str:
    """Of the kernel that runs now, the same in every container of it; empty where it is not told."""
    try:
        return read_text("/proc/sys/kernel/random/boot_id").strip()
    except own(OSError):
        return ""


def file_system_of(path: str) -> str:
    """The type of the file system that a path is on: the last mount of its device."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    kind = "an unknown file system"
    for line in read_text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            kind = after.split()[0]
    return kind


def require_fallocate(directory: str) -> None:
    """``UnsupportedPlatform`` unless files there can be given all their room at once: else a store could be SIGBUS."""
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            libc.fallocate(file.fileno(), 0, offset=0, nbytes=4096)
        except own(OSError) as error:
            if error.errno not in _CANNOT_ALLOCATE:
                raise
            kind = file_system_of(directory)
            raise UnsupportedPlatform(
                f"spill={directory!r} is on {kind}, which cannot reserve room for a file (fallocate). Choose a directory on "
                f"another file system, such as ext4, xfs or btrfs.",
                directory=directory,
                file_system=kind,
            ) from None
