"""How much of a mapped file is in memory, as the kernel says."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

PAGE = mmap.PAGESIZE


def mapped_nbytes(path: Path) -> int:
    """Bytes of a file that this process has in its page tables, over all mappings of it."""
    resident, ours = 0, False
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            first, *rest = line.split(maxsplit=5)
            if "-" in first and not first.endswith(":"):
                ours = len(rest) == 5 and rest[-1].strip().startswith(str(path))
            elif ours and first == "Rss:":
                resident += int(rest[0]) * 1024
    return resident


def cached_nbytes(path: Path) -> int:
    """Bytes of a file that the kernel has in its cache (``mincore``)."""
    nbytes = path.stat().st_size
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), nbytes) as pages:
        flags = (ctypes.c_ubyte * -(-nbytes // PAGE))()
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), flags) == 0
        return sum(flag & 1 for flag in flags) * PAGE


def drop_cache(path: Path) -> None:
    """Write a file to the disk and have the kernel forget it."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
