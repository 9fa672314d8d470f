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

from . import libc
from .handlers import own

__all__ = ["OfdRange"]

_GETLK, _SETLK = 36, 37
_FLOCK = struct.Struct("hhqqi4x")


class OfdRange:
    """A byte range of an open file that can be locked, unlocked and asked about.

    Not safe for use by several threads at once: callers hold a mutex.
    """

    __slots__ = ("_asking", "fd", "locking", "unlocking")

    def __init__(self, fd: int, start: int = 0, length: int = 1) -> None:
        self.fd: int = fd
        #: ``struct flock`` for the two calls; the kernel only reads them
        self.locking: bytes = _FLOCK.pack(fcntl.F_WRLCK, 0, start, length, 0)
        self.unlocking: bytes = _FLOCK.pack(fcntl.F_UNLCK, 0, start, length, 0)
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

    def first_locked(self, start: int, length: int) -> int | None:
        """A byte in ``[start, start + length)`` that another description holds, or None."""
        _FLOCK.pack_into(self._asking, 0, fcntl.F_WRLCK, 0, start, length, 0)
        # Safety: the buffer is ours and 32 bytes long, as the kernel expects.
        libc.fcntl_or_raise(self.fd, _GETLK, self._asking)
        kind, _, found, _, _ = _FLOCK.unpack(self._asking.raw[: _FLOCK.size])
        return None if kind == fcntl.F_UNLCK else max(start, found)
