"""Open-file-description (OFD) locks: the kernel says who holds what, and drops it at death.

An OFD lock belongs to an open file description, not to a process: it survives ``close`` of another descriptor of the
same file, is dropped when the last descriptor of its description goes (that is, after the memory of a killed
process), and means the same in every PID namespace. A forked child shares the parent's descriptions, so it must
close them and use its own.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from . import libc
from .handlers import own

__all__ = ["OfdRange", "WholeLock", "sleep_and_try"]

_GETLK, _SETLK = 36, 37
_FLOCK = struct.Struct("hhqqi4x")


class WholeLock(Protocol):
    """A lock between processes: a byte of a file, or the word of a plane (``core.LockWord``).

    Attributes:
        take: one try; 0: it is ours. C code, so that no signal handler runs between that and its return.
        give: give it back, also when we do not have it; C code as well.
    """

    @property
    def take(self) -> Callable[[], int]: ...
    @property
    def give(self) -> Callable[[], object]: ...
    def try_lock(self) -> bool:
        """``take``, and ``OSError`` when it cannot be asked for; ``ValueError`` when it says what cannot be."""
        ...

    def wait(self, waited: float, left: float, /) -> bool:
        """Wait for a moment, after so many seconds, and for ``left`` at most; whether it is ours. Errors as of ``try_lock``."""
        ...

    def is_held_elsewhere(self) -> bool: ...


def sleep_and_try(lock: WholeLock, waited: float, left: float) -> bool:
    """``WholeLock.wait`` by polling: half of what was waited already, at most 1 ms."""
    time.sleep(min(0.001, waited / 2, left))
    return lock.try_lock()


class OfdRange:
    """A byte range of an open file that can be locked, unlocked and asked about.

    Not safe for use by several threads at once: callers hold a mutex.
    """

    __slots__ = ("_asking", "fd", "give", "locking", "start", "take", "unlocking")

    def __init__(self, fd: int, start: int = 0, length: int = 1) -> None:
        self.fd: int = fd
        #: ``struct flock`` for the two calls; the kernel only reads them
        self.locking: bytes = _FLOCK.pack(fcntl.F_WRLCK, 0, start, length, 0)
        self.unlocking: bytes = _FLOCK.pack(fcntl.F_UNLCK, 0, start, length, 0)
        self.start: int = start
        # Whoever passes these calls the kernel by C code alone.
        self.take: Callable[[], int] = partial(libc.fcntl_keeping_gil, fd, _SETLK, self.locking)
        self.give: Callable[[], object] = partial(libc.fcntl_keeping_gil, fd, _SETLK, self.unlocking)
        self._asking = ctypes.create_string_buffer(_FLOCK.size)

    def try_lock(self) -> bool:
        """Take the lock if no other description holds it."""
        try:
            libc.fcntl_or_raise(self.fd, _SETLK, self.locking)
        except own(OSError) as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def wait(self, waited: float, left: float) -> bool:
        """Sleep and try; a wait in the kernel could not be given a deadline."""
        return sleep_and_try(self, waited, left)

    def is_held_elsewhere(self) -> bool:
        """Whether another description holds its first byte."""
        return OfdRange(self.fd).first_locked(self.start, 1) is not None

    def first_locked(self, start: int, length: int) -> int | None:
        """A byte in ``[start, start + length)`` that another description holds, or None."""
        _FLOCK.pack_into(self._asking, 0, fcntl.F_WRLCK, 0, start, length, 0)
        # Safety: the buffer is ours and 32 bytes long, as the kernel expects.
        libc.fcntl_or_raise(self.fd, _GETLK, self._asking)
        kind, _, found, _, _ = _FLOCK.unpack(self._asking.raw[: _FLOCK.size])
        return None if kind == fcntl.F_UNLCK else max(start, found)
