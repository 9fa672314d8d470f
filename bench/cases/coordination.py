"""What do host-wide permits and waiting for a version cost?

Ours: ``acquire`` and ``release`` of a free permit; a permit handed to and fro between two processes; ``plane.wait`` woken by
a put of another process, and the answer waited for likewise.
Baseline: of the hand-over a bare futex in the same choreography, which is what a wake costs on this machine; else none, the
figures are times. Peers: ``multiprocessing.BoundedSemaphore`` (a killed holder's permit is lost for
ever) and SysV semaphores with SEM_UNDO (no order, no names, no asyncio), a byte through a pipe and back.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, interleave
from shmplane.system import wait_for_change, wake_all

_IPC_PRIVATE, _IPC_CREAT, _IPC_RMID, _SETVAL, _SEM_UNDO = 0, 0o1000, 0, 16, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


class SysvSemaphore:
    """A System V semaphore whose operations the kernel takes back when their process dies."""

    def __init__(self, permits: int) -> None:
        self._id = _libc.semget(_IPC_PRIVATE, 1, _IPC_CREAT | 0o600)
        if self._id < 0 or _libc.semctl(self._id, 0, _SETVAL, permits) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        # Safety: the kernel reads one ``struct sembuf`` of 6 bytes.
        self._take = ctypes.create_string_buffer(struct.pack("Hhh", 0, -1, _SEM_UNDO), 6)
        self._give = ctypes.create_string_buffer(struct.pack("Hhh", 0, 1, _SEM_UNDO), 6)

    def acquire(self) -> None:
        if _libc.semop(self._id, self._take, 1) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def release(self) -> None:
        if _libc.semop(self._id, self._give, 1) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def remove(self) -> None:
        _libc.semctl(self._id, 0, _IPC_RMID)


def run(scale: Scale) -> Iterator[Row]:
    context = multiprocessing.get_context("fork")
    sysv: list[SysvSemaphore] = []

    def make_sysv(permits: int) -> SysvSemaphore:
        sysv.append(SysvSemaphore(permits))
        return sysv[-1]

    with shmplane.Plane.temporary(capacity="64MiB") as plane:
        try:
            yield _free_permit(scale, plane, context, make_sysv)
            yield _hand_over(scale, plane, context, make_sysv)
            yield _wake_up(scale, plane, context)
        finally:
            for semaphore in sysv:
                semaphore.remove()


def _free_permit(scale: Scale, plane: shmplane.Plane, context: Any, make_sysv: Callable[[int], SysvSemaphore]) -> Row:
    number = scale.pick(10_000, 2_000)
    contestants = {
        "ours": _taken_and_given(plane.semaphore("free", 4), number),
        "multiprocessing": _taken_and_given(context.BoundedSemaphore(4), number),
        "SysV SEM_UNDO": _taken_and_given(make_sysv(4), number),
    }
    times = interleave(contestants, scale.rounds)
    return absolute("acquire and release of a free permit", times, unit="us", target=12.0)


def _taken_and_given(semaphore: Any, number: int) -> Contestant:
    def run() -> None:
        semaphore.acquire()
        semaphore.release()

    return Contestant(run, number)


# Between two processes


def _hand_over(scale: Scale, plane: shmplane.Plane, context: Any, make_sysv: Callable[[int], SysvSemaphore]) -> Row:
    """To another process and back. Ours is one lock that both always want; the peers know no order, so each has a pair."""
    number = scale.pick(1_000, 300)
    lock, turns = plane.lock("handed over"), Turns()
    fair = {"ours": FairLock(lambda _: lock), "a bare futex": FairLock(turns.of)}
    with contextlib.ExitStack() as stack:
        contestants = {}
        for name, one in fair.items():
            stack.enter_context(_other_process(context, partial(one.have, 1)))
            contestants[name] = Contestant(partial(one.have, 0), number, one.start, one.stop)
        for name, make in {"multiprocessing": context.Semaphore, "SysV SEM_UNDO": make_sysv}.items():
            there, back = make(0), make(0)
            stack.enter_context(_other_process(context, partial(_answer, there, back)))
            contestants[name] = Contestant(partial(_ask, there, back), number)
        times = interleave(contestants, scale.rounds)
    halved = {name: [seconds / 2 for seconds in its] for name, its in times.items()}
    halved |= {name: one.hand_overs_s[-scale.rounds :] for name, one in fair.items()}
    note = "from before a release to behind the acquire of who is in line; of the others half of to and fro by a pair"
    return absolute("hand-over of a permit to another process", halved, unit="us", target=10.0, note=note)


class Turns:
    """Whose turn it is, in a word that the other one sleeps on."""

    def __init__(self) -> None:
        self._word = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        # Safety: the word lies in memory that lives as long as this object does.
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._word))

    @contextlib.contextmanager
    def of(self, me: int) -> Iterator[None]:
        while self._word[0] != me:
            wait_for_change(self._address, 1 - me, 0.1)
        yield
        self._word[0] = 1 - me
        wake_all(self._address)


class FairLock:
    """A lock that two processes always want; each holds it until the other stands in line, and says when it lets go."""

    def __init__(self, take: Callable[[int], contextlib.AbstractContextManager[Any]]) -> None:
        self._take = take
        #: who stands in line, of the two, and when it was given last
        self._said = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self._took_ns: list[int] = []
        self.hand_overs_s: list[float] = []

    def have(self, me: int) -> None:
        said = self._said
        said[me] = 1
        with self._take(me):
            self._took_ns.append(time.perf_counter_ns() - said[2])
            said[me] = 0
            while not said[1 - me]:
                time.sleep(1e-5)
            time.sleep(1e-4)
            said[2] = time.perf_counter_ns()

    def start(self) -> None:
        self._took_ns.clear()

    def stop(self) -> None:
        self.hand_overs_s.append(statistics.mean(self._took_ns) / 1e9)


def _ask(there: Any, back: Any) -> None:
    there.release()
    back.acquire()


def _answer(there: Any, back: Any) -> None:
    there.acquire()
    back.release()


@contextlib.contextmanager
def _other_process(context: Any, repeat: Callable[[], Any]) -> Iterator[None]:
    def for_ever() -> None:
        while True:
            repeat()

    process = context.Process(target=for_ever)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join(10)


def _wake_up(scale: Scale, plane: shmplane.Plane, context: Any) -> Row:
    number = scale.pick(1_000, 300)
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    plane["question"] = plane["answer"] = 0

    asked = answered = 1

    def answer_puts() -> None:
        nonlocal answered
        with plane.wait("question", newer_than=answered) as block:
            answered = block.version
        plane["answer"] = answered

    def answer_bytes() -> None:
        os.write(theirs_out, os.read(theirs_in, 1))

    def ask() -> None:
        nonlocal asked
        plane["question"] = asked
        with plane.wait("answer", newer_than=asked) as block:
            asked = block.version

    def ask_by_pipe() -> None:
        os.write(ours_out, b"x")
        os.read(ours_in, 1)

    try:
        with _other_process(context, answer_puts), _other_process(context, answer_bytes):
            times = interleave({"ours": Contestant(ask, number), "pipe": Contestant(ask_by_pipe, number)}, scale.rounds)
    finally:
        for descriptor in (ours_in, ours_out, theirs_in, theirs_out):
            os.close(descriptor)
    halved = {name: [seconds / 2 for seconds in its] for name, its in times.items()}
    note = "half of a round trip; ours with the put of a value and its reading"
    return absolute("put, and wake who waits for it", halved, unit="us", target=None, note=note)
