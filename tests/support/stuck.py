"""The plane's host-wide lock in the hands of somebody who does not go on: a stopped process, or somebody outside of the plane.

It goes on by itself after some seconds, so that a call which would wait for it returns too late instead of hanging.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import psutil

from tests.support.inside import change, directory_of, lock_word, manifest_of, seat_of
from tests.support.lines import until
from tests.support.processes import Child

_OFD_SETLK = 37
GOES_ON_AFTER_S = 8.0


class Neighbour:
    """Who has the lock."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self._has_it = True
        self._let_go: list[Any] = []

    @property
    def has_it(self) -> bool:
        """False once it was let go, or went on because the test waited for it."""
        return self._has_it

    def go_on(self) -> None:
        if self._has_it:
            self._has_it = False
            for let_go in self._let_go:
                let_go()

    def _then(self, let_go: Any) -> None:
        self._let_go.append(let_go)


@contextlib.contextmanager
def lock_taken(plane: Any) -> Iterator[Neighbour]:
    """By another open description of the files, which is to the kernel what another process is."""
    with stranger_to(plane) as stranger:
        until(stranger.take)  # threads of pools may be inside
        neighbour = Neighbour(None)
        neighbour._then(stranger.give)
        with _patience_is_limited(neighbour):
            yield neighbour


class Stranger(NamedTuple):
    """Who can take a plane's lock without being in it, and the descriptor of the file by which it is alive."""

    take: Callable[[], bool]
    give: Callable[[], object]
    fd: int


@contextlib.contextmanager
def stranger_to(plane: Any) -> Iterator[Stranger]:
    is_word = manifest_of(plane).lock == "word"
    fd = os.open(directory_of(plane) / ("tokens" if is_word else "lock"), os.O_RDWR | os.O_CLOEXEC)
    try:
        if is_word:
            seat = seat_of(plane, fd)
            assert seat is not None
            word = lock_word(plane, fd, seat)
            yield Stranger(word.try_lock, word.give, fd)
        else:
            yield Stranger(partial(_try_lock, fd), partial(_unlock, fd), fd)
    finally:
        os.close(fd)


def _unlock(fd: int) -> None:
    fcntl.fcntl(fd, _OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, 0, 0, 1, 0))


def _try_lock(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, _OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def stopped_inside(plane: Any) -> Iterator[Neighbour]:
    """By a child that stops itself in the middle of a transaction."""
    with Child(_stop_inside, plane, method="fork") as child:
        assert child.next() == "ready"
        child._tell("next")
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        neighbour = Neighbour(child.pid)
        neighbour._then(child.go_on)
        with _patience_is_limited(neighbour):
            yield neighbour
        assert child._receive("yielded", 10) == "went on"


def _stop_inside(plane: Any) -> Iterator[str]:
    yield "ready"
    change(plane, lambda tx: os.kill(os.getpid(), signal.SIGSTOP))
    yield "went on"


@contextlib.contextmanager
def _patience_is_limited(neighbour: Neighbour) -> Iterator[None]:
    timer = threading.Timer(GOES_ON_AFTER_S, neighbour.go_on)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        neighbour.go_on()
