"""Which pages of a private mapping were written: those that the kernel copied, and nothing else.

Three ways, the first that works: the ``PAGEMAP_SCAN`` call (Linux 6.7; its cost grows with the pages that were touched),
``/proc/self/pagemap`` (8 bytes a page), and comparing with what was there. The first two also count a page that was
written with what it had; comparing does not.

A page of a private mapping is dirty when it is present or swapped out and is not the file's own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from .capabilities import PAGE_NBYTES
from .handlers import ignoring, own

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .mapping import Mapping, Runs

__all__ = ["DIRTY_METHODS", "dirty_runs", "is_unwritten"]

DIRTY_METHODS = ("scan", "pagemap", "compare")

_PAGEMAP = "/proc/self/pagemap"
_PAGEMAP_SCAN = 0xC0606610
#: size, flags, start, end, walk_end, vec, vec_len, max_pages, then the masks: inverted, all of, any of, returned
_SCAN_ARGUMENT = struct.Struct("<12Q")
_FILE, _PRESENT, _SWAPPED = 4, 8, 16
_REGIONS = 4096
_PAGES_PER_READ = 1 << 17
_COMPARED_NBYTES = 1 << 20
_NOT_THERE = (errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.ENOENT, errno.EOPNOTSUPP)


def dirty_runs(mapping: Mapping, clean: Callable[[], memoryview], *, method: str | None = None) -> Runs:
    """First page and number of pages of each run of dirty pages, ascending.

    Args:
        mapping: laid privately; nobody writes it meanwhile.
        clean: what it had before, asked for only when there is nothing better than to compare.
        method: one of ``DIRTY_METHODS``; None: the first that works.
    """
    for candidate in DIRTY_METHODS if method is None else (method,):
        try:
            if candidate == "scan":
                return _joined(_scan(mapping))
            if candidate == "pagemap":
                return _joined(_read_pagemap(mapping))
        except own(OSError) as error:
            if method is not None or error.errno not in _NOT_THERE:
                raise
    return _joined(_compare(mapping.view, clean()))


def is_unwritten(mapping: Mapping) -> bool:
    """Whether the kernel says that no page of it was written; False where it cannot say: nothing is compared."""
    for look in (_scan, _read_pagemap):
        with ignoring(OSError):
            return not len(look(mapping))
    return False


def _scan(mapping: Mapping) -> Runs:
    import numpy as np

    regions = np.empty((_REGIONS, 3), np.uint64)
    # Safety: the kernel writes at most _REGIONS regions there, and the array lives until the last call is over.
    vec = regions.__array_interface__["data"][0]
    position, end = mapping.address, mapping.address + mapping.nbytes
    found = []
    # The file object owns the descriptor, also when Ctrl-C comes at once. It is opened each time, since after a fork an
    # older descriptor would show the parent's pages.
    with open(_PAGEMAP, "rb", buffering=0) as pagemap:
        while position < end:
            argument = bytearray(
                _SCAN_ARGUMENT.pack(
                    _SCAN_ARGUMENT.size, 0, position, end, 0, vec, _REGIONS, 0, _FILE, _FILE, _PRESENT | _SWAPPED, _FILE
                )
            )
            count = fcntl.ioctl(pagemap.fileno(), _PAGEMAP_SCAN, argument, True)
            found.append((regions[:count, :2] - mapping.address) // PAGE_NBYTES)
            # On from the last region: ``walk_end`` may be that of an earlier step of the same call (seen on Linux 6.18
            # from 512 regions on), and what lies in between would be found twice.
            position = int(regions[count - 1, 1]) if count == _REGIONS else end
    runs = np.concatenate(found).astype(np.int64)
    runs[:, 1] -= runs[:, 0]
    return runs


def _read_pagemap(mapping: Mapping) -> Runs:
    import numpy as np

    pages = mapping.nbytes // PAGE_NBYTES
    found = []
    with open(_PAGEMAP, "rb", buffering=0) as pagemap:
        for start in range(0, pages, _PAGES_PER_READ):
            count = min(_PAGES_PER_READ, pages - start)
            data = os.pread(pagemap.fileno(), 8 * count, (mapping.address // PAGE_NBYTES + start) * 8)
            entries = np.frombuffer(data, np.uint64) >> np.uint64(61)
            # Of the three bits left, from the highest: present, swapped out, of a file.
            dirty = (entries > 1) & (entries & np.uint64(1) == 0)
            found.append(_runs_of(dirty, start))
    return np.concatenate(found)


def _compare(view: memoryview, clean: memoryview) -> Runs:
    import numpy as np

    ours, theirs = np.frombuffer(view, np.uint8), np.frombuffer(clean, np.uint8)
    # Behind the value there may be more in the mapping; nobody can write that.
    ours = ours[: len(theirs)]
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(ours), _COMPARED_NBYTES):
        mine, its = ours[start : start + _COMPARED_NBYTES], theirs[start : start + _COMPARED_NBYTES]
        if not np.array_equal(mine, its):
            differs = np.zeros(-(-len(mine) // PAGE_NBYTES) * PAGE_NBYTES, bool)
            np.not_equal(mine, its, out=differs[: len(mine)])
            touched: npt.NDArray[np.bool_] = np.logical_or.reduce(differs.reshape(-1, PAGE_NBYTES), axis=1)
            found.append(_runs_of(touched, start // PAGE_NBYTES))
    return np.concatenate(found)


def _runs_of(flags: npt.NDArray[np.bool_], start: int) -> Runs:
    """Runs of True."""
    import numpy as np

    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    runs = edges.reshape(-1, 2).astype(np.int64)
    runs[:, 1] -= runs[:, 0]
    runs[:, 0] += start
    return runs


def _joined(runs: Runs) -> Runs:
    """Join runs that touch, as they do at the seams of reading in pieces."""
    import numpy as np

    if len(runs) < 2:
        return runs
    ends = runs[:, 0] + runs[:, 1]
    first = np.concatenate(([True], runs[1:, 0] != ends[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.stack((runs[first, 0], ends[last] - runs[first, 0]), axis=1)
