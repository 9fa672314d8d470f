"""Copying into memory that is there already: without the GIL when it is worth that, and on two cores when it is large.

A core copies 10 to 20 GB/s, two together more. A second thread costs 0.1 ms, and into fresh pages two are slower than one,
since they wait for each other in the kernel: those are written by ``pwrite``.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from ... import system
from ...system import PAGE_NBYTES, own

__all__ = ["copy_bytes"]

_WITHOUT_GIL_NBYTES = 128 * 1024
_IN_TWO_NBYTES = 8 << 20


def copy_bytes(target: memoryview, source: memoryview) -> None:
    """Copy ``source`` to ``target``; both are of bytes and equally long."""
    numpy = sys.modules.get("numpy") if source.nbytes >= _WITHOUT_GIL_NBYTES else None
    # One that another thread is just importing has no functions yet.
    if numpy is None or not hasattr(numpy, "frombuffer"):
        target[:] = source
    elif source.nbytes < _IN_TWO_NBYTES or not system.can_run_beside() or not system.has_idle_core():
        _copy(numpy, target, source)
    else:
        _copy_in_two(numpy, target, source)


def _copy(numpy: Any, target: memoryview, source: memoryview) -> None:
    numpy.copyto(numpy.frombuffer(target, "u1"), numpy.frombuffer(source, "u1"))


def _copy_in_two(numpy: Any, target: memoryview, source: memoryview) -> None:
    middle = source.nbytes // 2 // PAGE_NBYTES * PAGE_NBYTES
    second = partial(_copy, numpy, target[middle:], source[middle:])
    try:
        system.run_beside(partial(_copy, numpy, target[:middle], source[:middle]), second)
    except own(RuntimeError):  # no more threads
        _copy(numpy, target, source)
