"""Waiting on a word in shared memory, woken by another process (futex).

A wait is a slice: it ends when the word changes, when somebody wakes it, or when its time is over, and its caller looks
again in any case. So a waker that was killed between its store and its call delays a waiter, and never loses it.

Under gevent's monkey patch a wait in the kernel would stop every greenlet of the thread, also the one that is waited for.
There it looks at the word between sleeps of gevent's.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from . import libc

__all__ = ["wait_for_change", "wake_all"]

_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
#: of a greenlet between two looks
_LONGEST_PAUSE_S = 0.01
_HARMLESS = (0, -errno.EAGAIN, -errno.EINTR, -errno.ETIMEDOUT)


def wait_for_change(address: int, expected: int, seconds: float) -> None:
    """Return when the 4-byte word is not ``expected`` any more, or after ``seconds``; gives up the GIL."""
    if _is_patched_by_gevent():
        _wait_among_greenlets(address, expected, seconds)
    else:
        _wait(address, expected, seconds)


def _wait(address: int, expected: int, seconds: float) -> int:
    # Safety: the caller keeps the mapping that holds the word alive during the call.
    result = libc.futex(address, _FUTEX_WAIT, expected & 0xFFFF_FFFF, max(0, int(seconds * 1e9)))
    if result not in _HARMLESS:
        raise OSError(-result, f"futex: {os.strerror(-result)}")
    return result


def _wait_among_greenlets(address: int, expected: int, seconds: float) -> None:
    deadline, pause = time.monotonic() + seconds, 0.0005
    # A wait of no time says whether the word is as expected.
    while _wait(address, expected, 0) != -errno.EAGAIN:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _is_patched_by_gevent() -> bool:
    """Whether ``time.sleep`` lets other greenlets run."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("time"))


def wake_all(address: int) -> None:
    """Wake everybody who waits on the word."""
    # Safety: as above; the kernel only uses the address as a key.
    libc.futex(address, _FUTEX_WAKE, 2**31 - 1)
