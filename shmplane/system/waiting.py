"""Waiting on a word in shared memory, woken by another process (futex).

A wait is a slice: it ends when the word changes, when somebody wakes it, or when its time is over, and its caller looks
again in any case. So a waker that was killed between its store and its call delays a waiter, and never loses it.
"""

from __future__ import annotations

import errno
import os

from . import libc

__all__ = ["wait_for_change", "wake_all"]

_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
_HARMLESS = (0, -errno.EAGAIN, -errno.EINTR, -errno.ETIMEDOUT)


def wait_for_change(address: int, expected: int, seconds: float) -> None:
    """Return when the 4-byte word is not ``expected`` any more, or after ``seconds``; gives up the GIL."""
    # Safety: the caller keeps the mapping that holds the word alive during the call.
    result = libc.futex(address, _FUTEX_WAIT, expected & 0xFFFF_FFFF, max(0, int(seconds * 1e9)))
    if result not in _HARMLESS:
        raise OSError(-result, f"futex: {os.strerror(-result)}")


def wake_all(address: int) -> None:
    """Wake everybody who waits on the word."""
    # Safety: as above; the kernel only uses the address as a key.
    libc.futex(address, _FUTEX_WAKE, 2**31 - 1)
