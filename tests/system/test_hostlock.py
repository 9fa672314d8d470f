"""The end of the host-wide lock: its descriptors are closed once, and under nobody who uses them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shmplane.system import NOT_HAD, HostLock, Lost, OfdRange, create_file, open_file
from tests.support.requires import require_lock
from tests.support.tracing import Bytecodes
from tests.support.waiting import HANG_S


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[HostLock]:
    made = HostLock(create_file(str(tmp_path / "lock")), lambda: "another process")
    yield made
    made.close()


def test_a_lock_that_ends_while_a_thread_is_inside_is_closed_when_that_thread_leaves(lock: HostLock) -> None:
    is_inside, go_on, closed = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        is_inside.set()
        go_on.wait(30)
        closed.append("still open" if lock.fd >= 0 else "closed under it")

    other = threading.Thread(target=lock.run, args=(10, work))
    other.start()
    is_inside.wait(30)

    def close() -> None:
        closed.append("closes")
        lock.close()

    lock.end(close)
    go_on.set()
    other.join(30)

    assert closed == ["still open", "closes"]
    assert lock.fd == -1


def test_a_lock_that_ends_from_inside_is_closed_after_it_was_given_back(lock: HostLock) -> None:
    lock.run(10, lambda: lock.end(lock.close))

    assert lock.fd == -1
    with pytest.raises(Lost):
        lock.run(0, lambda: None)


def test_a_thread_that_waited_for_a_lock_that_ended_touches_no_descriptor(lock: HostLock) -> None:
    is_inside, go_on, ran, refused = threading.Event(), threading.Event(), list[str](), list[Exception]()

    def wait_and_run() -> None:
        try:
            lock.run(30, lambda: ran.append("ran"))
        except Lost as error:
            refused.append(error)

    def work() -> None:
        is_inside.set()
        go_on.wait(30)
        lock.close()  # and its number is another file's from here on
        os.close(os.open("/dev/null", os.O_RDONLY))

    first = threading.Thread(target=lock.run, args=(10, work))
    first.start()
    is_inside.wait(30)
    second = threading.Thread(target=wait_and_run)
    second.start()
    go_on.set()
    first.join(30)
    second.join(30)

    assert (ran, len(refused)) == ([], 1)


# Interrupted while it waits


class Contended:
    """A lock that somebody has until it is waited for twice; the first wait is that of who has waited long."""

    def __init__(self, lock: Any, owner: Any) -> None:
        self.take, self.give, self.try_lock = lock.take, lock.give, lock.try_lock
        self.is_held_elsewhere = lock.is_held_elsewhere
        self._lock, self._owner, self._waits = lock, owner, 0

    def wait(self, waited: float, left: float) -> bool:
        self._waits += 1
        if self._waits == 1:
            return bool(self._lock.wait(0.006, 0.0001))
        self._owner.give()
        return bool(self._lock.wait(waited, left))


def both_parties(kind: str, folder: Path, around: Any) -> tuple[Any, Any]:
    if kind == "word":
        return around.sit(0).lock, around.sit(1).lock
    paths = [str(folder / "lock")] * 2
    return OfdRange(create_file(paths[0])), OfdRange(open_file(paths[1], writable=True))


@pytest.mark.parametrize("kind", ["word", "ofd"])
def test_an_interrupt_at_any_bytecode_of_a_wait_gives_the_lock_and_the_mutex_back(
    kind: str, tmp_path: Path, plane_root: Path
) -> None:
    require_lock(kind)
    from tests.core.word_scenarios import table

    with table(plane_root) as around:
        ours, owner = both_parties(kind, tmp_path, around)
        lock = HostLock(create_file(str(tmp_path / "host")), lambda: "another process", ours)
        trigger, at, interrupted, ran = Bytecodes(interrupt=True), 0, 0, list[int]()
        finished = False
        while not finished:
            at += 1
            assert owner.try_lock()
            lock.use(Contended(ours, owner))
            trigger.arm(at)
            try:
                assert lock.run(HANG_S, ran.append, at) is not NOT_HAD
                finished = trigger.disarm() < at
            except KeyboardInterrupt:
                trigger.disarm()
                interrupted += 1
            assert not lock.owned()
            owner.give()
            assert owner.try_lock(), at  # ours gave back what it had, and what it was offered
            if kind == "word":
                assert around.heir == 0, at
            owner.give()
        lock.close()
        if kind == "ofd":
            os.close(ours.fd)
            os.close(owner.fd)
    assert interrupted > 30
    assert len(ran) < at
