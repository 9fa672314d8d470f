"""Waiting that ends: for a child, for a block of code."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator

#: far above what anything here takes, also on a machine with ten times as much to do as it has cores
HANG_S = 60.0


class Hang(AssertionError):
    """Something took longer than it may."""


@contextlib.contextmanager
def deadline(what: str, seconds: float = HANG_S) -> Iterator[None]:
    """``Hang`` when the block takes longer. For the main thread."""

    def too_long(signum: int, frame: object) -> None:
        raise Hang(f"{what} took longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def wait_for(pid: int, seconds: float = HANG_S) -> int | None:
    """The exit status of a child, or None when it hung; then it is killed."""
    handle = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([handle], [], [], seconds)
    finally:
        os.close(handle)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return status if ready else None
