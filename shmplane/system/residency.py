"""What of a mapped file is in memory: hints to the kernel, and giving pages back.

Rule 1. Advice changes cost and never contents. Pages of a private mapping may be the only copy of what was written, so they
are never dropped: they are paged out, which keeps what was changed.
Rule 2. A page that cannot be read is found out before it is touched where the kernel can tell (``MADV_POPULATE_READ``, Linux
5.14): touching it would be SIGBUS.
"""

from __future__ import annotations

import errno
import mmap
import os

from . import libc
from .capabilities import PAGE_NBYTES
from .cgroups import memory_limit
from .datafiles import DataFile, open_data_file
from .handlers import ignoring, own
from .mapping import Mapping, Pages, reserve, round_to_pages

__all__ = [
    "ADVICE",
    "advise",
    "drop_cached",
    "drop_pages",
    "is_half_of_memory",
    "is_readable",
    "scratch_pages",
    "write_back",
]

ADVICE = {
    "normal": mmap.MADV_NORMAL,
    "sequential": mmap.MADV_SEQUENTIAL,
    "random": mmap.MADV_RANDOM,
    "willneed": mmap.MADV_WILLNEED,
}
_PAGEOUT = 21
_LARGE_NBYTES = 4 << 20
_POPULATE_READ = 22
_CANNOT_READ = (errno.EFAULT, errno.EHWPOISON if hasattr(errno, "EHWPOISON") else 133)


def scratch_pages(nbytes: int) -> Pages:
    """Private memory of this process, in large pages where that pays and the kernel has them."""
    pages = reserve(nbytes, writable=True)
    if nbytes >= _LARGE_NBYTES:
        with ignoring(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def advise(mapping: Mapping, advice: str, *, at: int, nbytes: int) -> None:
    """Say how ``nbytes`` from ``at`` will be read; one of ``ADVICE``. What the kernel does not know it does not do."""
    with ignoring(OSError):
        _advise(mapping, ADVICE[advice], at, nbytes)


def drop_pages(mapping: Mapping, *, at: int, nbytes: int, private: bool) -> None:
    """Give pages back; they are read anew when they are touched again."""
    with ignoring(OSError):
        _advise(mapping, _PAGEOUT if private else mmap.MADV_DONTNEED, at, nbytes)


def drop_cached(path: str, known: DataFile, *, at: int, nbytes: int) -> None:
    """Drop what the kernel keeps of a file, of the pages that nobody has mapped or changed."""
    with ignoring(OSError), open_data_file(path) as (fd, found):
        if found[:2] == known[:2]:
            os.posix_fadvise(fd, at, nbytes, os.POSIX_FADV_DONTNEED)


def is_readable(mapping: Mapping, at: int) -> bool:
    """Whether the page at ``at`` can be touched; True as well when the kernel cannot tell."""
    try:
        _advise(mapping, _POPULATE_READ, at, 1)
    except own(OSError) as error:
        return error.errno not in _CANNOT_READ
    return True


def write_back(mapping: Mapping) -> None:
    """Write what was stored through a shared mapping to the disk, and wait for it; gives up the GIL."""
    # Safety: exactly the range of this mapping, which lives over the call.
    libc.msync(mapping.address, mapping.nbytes)


def is_half_of_memory(nbytes: int) -> bool:
    """Whether this is more than half of what the machine, or the memory cgroup, has."""
    limit = memory_limit()
    physical = os.sysconf("SC_PHYS_PAGES") * PAGE_NBYTES
    return 2 * nbytes > min(physical, limit.limit_nbytes if limit is not None else physical)


def _advise(mapping: Mapping, advice: int, at: int, nbytes: int) -> None:
    """For the pages that any of the bytes lie in, as far as they are of the mapping."""
    start = at // PAGE_NBYTES * PAGE_NBYTES
    end = min(round_to_pages(at + nbytes), mapping.nbytes)
    if start < end:
        # Safety: the range lies within the mapping, which lives over the call; no advice above changes what is read.
        libc.madvise(mapping.address + start, end - start, advice)
