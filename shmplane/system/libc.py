"""The calls of the C library that Python lacks or wraps in the wrong way.

``fcntl`` and ``mmap`` go through ``PyDLL``, which keeps the GIL: whoever holds the host-wide lock must not hand the
GIL to a CPU-bound thread in the middle (measured: p99 of another process's wait 18 ms against 0.12 ms).
Waiting calls go through ``CDLL``, which gives it up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any, NoReturn

__all__ = [
    "KEEPING_GIL",
    "fallocate",
    "fcntl_keeping_gil",
    "fcntl_or_raise",
    "futex",
    "madvise",
    "msync",
    "raise_errno",
]

_keeping = ctypes.PyDLL(None)
KEEPING_GIL = ctypes.PyDLL(None, use_errno=True)
_waiting = ctypes.CDLL(None, use_errno=True)

_FUTEX = {"x86_64": 202}.get(os.uname().machine, 98)

# Safety: called with two ints and a 32-byte ``struct flock`` that the kernel only reads; without argtypes, since converting
# through them costs as much as the call itself.
fcntl_keeping_gil: Any = _keeping.fcntl

# Safety: as above, or with a buffer of that size for GETLK; this one also says why a call failed, which costs more.
_fcntl_errno = KEEPING_GIL.fcntl

# Safety: takes no pointers.
_fallocate = _waiting.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)
_fallocate.restype = ctypes.c_int

# Safety: only ``madvise`` and ``msync`` call these, over a range within a mapping that their caller keeps alive.
_madvise = _waiting.madvise
_madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
_madvise.restype = ctypes.c_int
_msync = _waiting.msync
_msync.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
_msync.restype = ctypes.c_int
_MS_SYNC = 4

# Safety: the address is that of a word in a mapping which the caller keeps alive over the call.
_syscall = _waiting.syscall
_syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_uint32,
)
_syscall.restype = ctypes.c_long


def raise_errno(what: str) -> NoReturn:
    """``OSError`` for a call that has just failed."""
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


def fcntl_or_raise(fd: int, command: int, flock: object) -> None:
    """``fcntl`` with a ``struct flock`` as bytes or ctypes buffer; ``OSError`` when it fails."""
    # Safety: the structure lives in the caller's frame for the length of the call.
    if _fcntl_errno(fd, command, flock) != 0:
        raise_errno("fcntl")


def madvise(address: int, nbytes: int, advice: int) -> None:
    """Advise the kernel about a range of whole pages; ``OSError`` when it does not know the advice."""
    # Safety: the caller keeps the mapping alive, and gives no advice that changes what is read from it.
    if _madvise(address, nbytes, advice) != 0:
        raise_errno(f"madvise of {nbytes:,} B")


def msync(address: int, nbytes: int) -> None:
    """Write a shared mapping of whole pages to its file, and wait for that."""
    # Safety: the caller keeps the mapping alive; nothing in memory changes.
    while _msync(address, nbytes, _MS_SYNC) != 0:
        if ctypes.get_errno() != errno.EINTR:
            raise_errno(f"msync of {nbytes:,} B")


def fallocate(fd: int, mode: int, *, offset: int, nbytes: int) -> None:
    """Linux ``fallocate``, again when a signal interrupts it."""
    # Safety: takes no pointers.
    while _fallocate(fd, mode, offset, nbytes) != 0:
        if ctypes.get_errno() != errno.EINTR:
            raise_errno(f"fallocate of {nbytes:,} B")


def futex(address: int, operation: int, value: int, timeout_ns: int | None = None) -> int:
    """One futex call on the 4-byte word at ``address``; the result, or minus the error number."""
    timeout = None if timeout_ns is None else struct.pack("qq", *divmod(timeout_ns, 1_000_000_000))
    # Safety: the caller keeps the mapping with the word alive; the time-out is a local.
    result = int(_syscall(_FUTEX, address, operation, value, timeout, None, 0))
    return result if result >= 0 else -ctypes.get_errno()
