"""Two halves at the same time: neither outlives the call, whatever interrupts it."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import pytest

from shmplane.system import beside, can_run_beside, run_beside
from tests.support.forked import run_forked


def test_both_have_run_when_it_returns() -> None:
    seen: list[int] = []
    run_beside(lambda: seen.append(threading.get_ident()), lambda: seen.append(threading.get_ident()))
    assert len(set(seen)) == 2
    assert threading.get_ident() in seen


@pytest.mark.parametrize("which", ["first", "second", "both"])
def test_it_raises_what_either_raises_when_both_are_over(which: str) -> None:
    over: list[str] = []

    def half(name: str) -> None:
        time.sleep(0.01)
        over.append(name)
        if which in {name, "both"}:
            raise ValueError(name)

    with pytest.raises(ValueError, match=which if which != "both" else "first"):
        run_beside(lambda: half("first"), lambda: half("second"))
    assert sorted(over) == ["first", "second"]


def test_no_signal_ends_it_before_the_other_thread_is_done() -> None:
    """The other half writes into memory that is given away as soon as the call ends."""

    class Stop(Exception):
        pass

    armed = [False]

    def stop(_: int, __: FrameType | None) -> None:
        if armed[0]:
            raise Stop

    raised, early = 0, 0
    before = signal.signal(signal.SIGALRM, stop)
    try:
        for turn in range(300):
            done = threading.Event()
            started: list[int] = []

            def second(done: threading.Event = done, started: list[int] = started) -> None:
                started.append(1)
                end = time.monotonic() + 0.002
                while time.monotonic() < end:
                    pass
                done.set()

            try:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (turn % 40 + 1), 1e-4)
                run_beside(lambda: time.sleep(0.0005), second)
                armed[0] = False
            except Stop:
                armed[0] = False
                raised += 1
            early += bool(started) and not done.is_set()
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised > 100
    assert early == 0


def test_a_child_that_is_forked_inside_it_does_not_wait_for_a_thread_that_it_has_not() -> None:
    released = threading.Event()

    def first() -> None:
        run_forked(lambda: None)  # its child goes on and out from here
        child = os.fork()
        if child == 0:
            return
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        released.set()

    parent = os.getpid()
    try:
        run_beside(first, lambda: released.wait(20))
    finally:
        if os.getpid() != parent:
            os._exit(7)


def test_without_another_thread_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    seen: list[int] = []
    monkeypatch.setattr(beside._thread, "start_new_thread", none_left)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="new thread"):
        run_beside(lambda: seen.append(1), lambda: seen.append(2))
    assert seen == []


def test_greenlets_are_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_run_beside()
    monkeypatch.setattr(beside._thread, "start_new_thread", lambda *_: 1)  # type: ignore[attr-defined]
    assert not can_run_beside()
