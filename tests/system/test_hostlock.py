"""The end of the host-wide lock: its descriptors are closed once, and under nobody who uses them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmplane.system import HostLock, Lost, create_file


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
