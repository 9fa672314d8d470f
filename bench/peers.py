"""What we are compared with: warm memory, the standard library, LMDB.

Each is used the way its users would who want speed: LMDB without syncing, on the same file system as we are.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

lmdb: Any
try:
    import lmdb
except ImportError:  # an optional dependency of the benchmark
    lmdb = None

SHARED_MEMORY = "/dev/shm"

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def warm_shared_memory(nbytes: int) -> Bytes:
    """Shared memory whose pages exist and are mapped: copying into it costs what a copy costs."""
    descriptor, path = tempfile.mkstemp(dir=SHARED_MEMORY)
    os.unlink(path)
    os.ftruncate(descriptor, nbytes)
    memory = np.frombuffer(mmap.mmap(descriptor, nbytes), np.uint8)
    os.close(descriptor)
    memory[:] = 1
    return memory


def create_and_copy(source: Bytes) -> SharedMemory:
    """The standard library's way to share an array."""
    shared = SharedMemory(create=True, size=source.nbytes)
    # The view is gone before anybody closes what it looks at.
    np.copyto(_view(shared), source)
    return shared


def create_copy_unlink(source: Bytes) -> None:
    """The same, and taken back."""
    shared = create_and_copy(source)
    shared.close()
    shared.unlink()


def attach_read_close(name: str) -> None:
    """The standard library's way to see an array that another process shared."""
    shared = attach_untracked(name)
    _view(shared)
    shared.close()


def _view(shared: SharedMemory) -> Bytes:
    memory: Any = shared.buf
    return np.frombuffer(memory, np.uint8)


if sys.version_info >= (3, 13):

    def attach_untracked(name: str) -> SharedMemory:
        """Attach without the resource tracker, which would unlink what it does not own."""
        return SharedMemory(name=name, track=False)

else:

    def attach_untracked(name: str) -> SharedMemory:
        """Attach without the resource tracker, which would unlink what it does not own."""
        register = resource_tracker.register
        resource_tracker.register = _do_not_register
        try:
            return SharedMemory(name=name)
        finally:
            resource_tracker.register = register

    def _do_not_register(name: Any, rtype: str) -> None:
        pass


class Lmdb:
    """A key-value store in mapped memory, in a directory of its own on the shared-memory file system."""

    def __init__(self, directory: str, map_size: int) -> None:
        self.env = lmdb.open(directory, map_size=map_size, sync=False, metasync=False, writemap=True, map_async=True)

    def put(self, key: bytes, value: Any) -> None:
        with self.env.begin(write=True) as transaction:
            transaction.put(key, value)

    def delete(self, key: bytes) -> None:
        with self.env.begin(write=True) as transaction:
            transaction.delete(key)

    def put_and_delete(self, key: bytes, value: Any) -> None:
        self.put(key, value)
        self.delete(key)

    def get(self, key: bytes) -> None:
        """Look at the value where it lies, as an array."""
        with self.env.begin(buffers=True) as transaction:
            np.frombuffer(transaction.get(key), np.uint8)

    def contains(self, key: bytes) -> bool:
        with self.env.begin(buffers=True) as transaction:
            return bool(transaction.get(key) is not None)


@contextlib.contextmanager
def open_lmdb(map_size: int) -> Iterator[Lmdb | None]:
    """An empty store, removed afterwards; None when LMDB is not installed."""
    if lmdb is None:
        yield None
        return
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix="shmplane-bench-") as directory:
        store = Lmdb(directory, map_size)
        try:
            yield store
        finally:
            store.env.close()
