"""The standard library's ``SharedMemory`` without its resource tracker.

From 3.13 ``track=False`` says so. Before, every attached segment is registered with a tracker process, which removes the
name when the program ends although others still use it (measured on 3.11 and 3.12); so the object is filled by hand there.
"""

from __future__ import annotations

import mmap
import os
import sys
from multiprocessing.shared_memory import SharedMemory
from typing import Any

__all__ = ["attach_untracked"]


def attach_untracked(name: str, path: str) -> SharedMemory:
    """Attach the segment of ``name``, whose file is ``path``, so that this process never removes it."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name=name, track=False)
    attached: Any = SharedMemory.__new__(SharedMemory)
    attached._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    attached._name = f"/{name}"
    attached._size = os.fstat(attached._fd).st_size
    attached._mmap = mmap.mmap(attached._fd, attached._size)
    attached._buf = memoryview(attached._mmap)
    return attached  # type: ignore[no-any-return]
