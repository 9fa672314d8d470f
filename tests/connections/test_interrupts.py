"""A signal handler that raises, at every bytecode of what callers do: what it raised reaches the caller, and no slot, no
permit, no connection and no waiter is lost.

The default run takes Ctrl-C at every bytecode where nobody waits, and a sample elsewhere; ``pytest -m sweep`` takes all, and
storms of real signals besides.
"""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmplane
from shmplane.connections import ConnectionPool
from shmplane.connections.records import IDLE
from shmplane.errors import PoolClosed, PoolTimeout
from tests.connections.fakes import Conn, Server, until, works
from tests.support.inside import after_its_lock_is_given_back, around_decisions, lock_of, roster_of
from tests.support.tracing import Bytecodes

SIZE = 2
Pool = ConnectionPool[Conn]


def use(pool: Pool) -> None:
    pool.release(pool.acquire())


def use_in_a_block(pool: Pool) -> None:
    with pool.connection():
        pass


def fail_in_a_block(pool: Pool) -> None:
    try:
        with pool.connection():
            raise LookupError
    except LookupError:
        pass


def break_it(pool: Pool) -> None:
    pool.release(pool.acquire(), broken=True)


def wait_for_a_connect(pool: Pool) -> None:
    pool.drain()
    use(pool)


def time_out(pool: Pool) -> None:
    held = [pool.acquire() for _ in range(SIZE)]
    with contextlib.suppress(PoolTimeout):
        pool.acquire(timeout=0)
    for conn in held:
        pool.release(conn)


def hand_over(pool: Pool) -> None:
    held = [pool.acquire() for _ in range(SIZE)]
    other = threading.Thread(target=use, args=(pool,), daemon=True)
    other.start()
    until(lambda: roster_of(pool).waiters)
    for conn in held:
        pool.release(conn)
    other.join(10)


def resize(pool: Pool) -> None:
    pool.resize(1)
    pool.resize(SIZE)


def drain_and_wait(pool: Pool) -> None:
    pool.drain()
    pool.wait()
    pool.pause()
    pool.resume()


def open_and_close(pool: Pool) -> None:
    """Another one with the same share of the host, to its end."""
    other = ConnectionPool(pool._settings.connect, max_size=1, timeout=10, **HOST.get(pool.name, {}))
    try:
        use(other)
        other.stats()
    finally:
        other.close(grace=0)


HOST: dict[str, dict[str, Any]] = {}  #: what pools of a name have of a plane, while they are tested


def check_all(pool: Pool) -> None:
    """Nothing is held, nothing is under way, and everything can be had."""
    gc.collect()
    roster = roster_of(pool)

    def is_quiet() -> bool:
        with lock_of(pool):
            members = list(roster.members.values())
            return (
                roster.size == len(members) == len(roster.idle)
                and all(member.state == IDLE and member in roster.idle for member in members)
                and not (roster.connecting or roster.waiters or roster.overdue or roster.until_ready)
            )

    pool.resume()
    pool.resize(SIZE)
    until(is_quiet, 4)
    held = [pool.acquire(timeout=10) for _ in range(SIZE)]
    for conn in held:
        pool.release(conn)


CASES: dict[str, tuple[Callable[[Pool], None], dict[str, Any]]] = {
    "take and give": (use, {}),
    "a block": (use_in_a_block, {}),
    "a block that fails": (fail_in_a_block, {}),
    "a check": (use, {"check": works}),
    "a check that fails": (use, {"check": lambda conn: False}),
    "a reset": (use, {"reset": Conn.note_reset}),
    "a reset that fails": (use, {"reset": lambda conn: False}),
    "a broken connection": (break_it, {}),
    "an expired connection": (use, {"max_lifetime": 1e-6}),
    "a connect": (wait_for_a_connect, {}),
    "a time-out": (time_out, {}),
    "a hand-over": (hand_over, {}),
    "another size": (resize, {}),
    "drain and wait": (drain_and_wait, {"min_size": 1}),
    "open and close": (open_and_close, {}),
    "a host limit": (break_it, {"host_limit": SIZE}),
    "a host limit, open and close": (open_and_close, {"host_limit": SIZE + 1}),
}


class Deadline(TimeoutError):
    pass


class Odd(RuntimeError):
    pass


def timeout(pool: Pool) -> None:
    raise Deadline


def runtime_error(pool: Pool) -> None:
    raise Odd


def interrupt_key(pool: Pool) -> None:
    raise KeyboardInterrupt


def use_in_the_handler(pool: Pool) -> None:
    """A call from inside a call, and then one whose own error leaves the handler."""
    with contextlib.suppress(PoolTimeout, PoolClosed):
        pool.release(pool.acquire(timeout=0))
    pool.acquire(timeout=-1)  # ValueError: raised by the library, and the user's all the same


KINDS: dict[str, tuple[Callable[[Pool], None], type[BaseException]]] = {
    "Ctrl-C": (interrupt_key, KeyboardInterrupt),
    "a deadline": (timeout, Deadline),
    "a RuntimeError": (runtime_error, Odd),
    "a call's own error": (use_in_the_handler, ValueError),
}


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """Collecting garbage after each interrupt looks at what this test made, and not at all that pytest has."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


QUICK = ("take and give", "a block", "a block that fails", "a check")
EVERY = 17  #: bytecodes, where connects and waits make each try slow; all of them in a sweep
SOME = 53  #: for the other kinds of exceptions, which mostly take the same way


@pytest.mark.parametrize("case", CASES)
def test_an_interrupt_loses_nothing(case: str) -> None:
    interrupt(case, 1 if case in QUICK else EVERY)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Ctrl-C"])
@pytest.mark.parametrize("case", CASES)
def test_what_a_handler_raises_reaches_the_caller_and_loses_nothing(case: str, kind: str) -> None:
    interrupt(case, 5 if case in QUICK else SOME, kind)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_what_a_handler_raises_at_any_bytecode_loses_nothing(case: str, kind: str) -> None:
    print(f"{case}, {kind}: {interrupt(case, 1, kind)} points")


@contextlib.contextmanager
def a_pool(case: str) -> Iterator[Pool]:
    server, options = Server(), dict(CASES[case][1])
    with contextlib.ExitStack() as stack:
        if "host_limit" in options:
            options |= {"plane": stack.enter_context(shmplane.Plane.temporary()), "name": "db"}
            HOST["db"] = {what: options[what] for what in ("plane", "name", "host_limit")}
        # Given back by being dropped, when the call to give it back was interrupted before it began.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)
        pool: Pool = stack.enter_context(ConnectionPool(server.connect, max_size=SIZE, timeout=10, **options))
        stack.callback(server.forget)
        pool._forget_record = server.forget  # type: ignore[attr-defined]
        use(pool)
        yield pool
        HOST.clear()


def interrupt(case: str, stride: int, kind: str = "Ctrl-C") -> int:
    """Let a handler raise at every ``stride``-th bytecode; how many there were."""
    act, (handle, expected) = CASES[case][0], KINDS[kind]
    codes = Bytecodes(interrupt=True)
    with a_pool(case) as pool, handler(signal.SIGINT, lambda *_: handle(pool)):
        interrupted = at = 0
        while True:
            at += stride
            raised = False
            try:
                try:
                    codes.arm(at)
                    act(pool)
                finally:
                    # What is pending is raised here at the latest.
                    codes.disarm()
            except expected:
                raised = True
            interrupted += raised
            pool._forget_record()  # type: ignore[attr-defined]
            try:
                check_all(pool)
            except AssertionError as error:
                raise AssertionError(f"after {kind} at bytecode {at}: {error}, {pool!r}") from error
            if codes.count < at:
                break
            assert raised, f"{kind} at bytecode {at} was lost"
        assert interrupted > 3
        return interrupted


@contextlib.contextmanager
def handler(number: int, handle: Callable[..., object]) -> Iterator[None]:
    previous = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, previous)


STORM_S = 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["a block", "a reset", "a check", "a time-out", "a host limit"])
def test_a_storm_of_signals_loses_nothing(case: str, kind: str) -> None:
    storm(case, kind, STORM_S)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_a_long_storm_of_signals_loses_nothing(case: str, kind: str) -> None:
    print(f"{case}, {kind}: {storm(case, kind, 20.0)} signals")


def storm(case: str, kind: str, seconds: float) -> int:
    """Real signals at random moments, while other threads use the pool; how many came."""
    act, (handle, expected) = CASES[case][0], KINDS[kind]
    chance, received, came = random.Random(case), list[BaseException](), set[int]()
    armed = [False]

    def note(error: BaseException | None) -> None:
        """It came, and those that were on their way when it was raised; kept without the frames, which hold connections."""
        while error is not None:
            came.add(id(error))
            error.__traceback__ = None
            error = error.__context__

    def handle_one(*_: object) -> None:
        # Once each time that the timer is set, which is inside the try below: a second one could land in its except.
        if not armed[0]:
            return
        armed[0] = False
        try:
            handle(pool)
        except BaseException as error:
            received.append(error)
            raise

    with a_pool(case) as pool:
        act(pool)
        stop = threading.Event()
        others = [threading.Thread(target=_use_until, args=(pool, stop)) for _ in range(2)]
        for other in others:
            other.start()
        deadline = time.monotonic() + seconds
        # CPython swallows what is raised in callbacks of weak references: those of threading's own, and ours that warns.
        hook, sys.unraisablehook = sys.unraisablehook, lambda lost: note(lost.exc_value)
        with handler(signal.SIGALRM, handle_one):
            is_over = False
            while not is_over:
                try:  # around all of it: a signal may come late
                    while time.monotonic() < deadline:
                        pool._forget_record()  # type: ignore[attr-defined]
                        pool.resume()
                        armed[0] = True
                        signal.setitimer(signal.ITIMER_REAL, 1e-6 + chance.random() * 0.002)
                        act(pool)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    time.sleep(0.01)
                    is_over = True
                except expected as error:
                    note(error)
        sys.unraisablehook = hook
        pool._forget_record()  # type: ignore[attr-defined]  # what the last signal made somebody drop is wanted by the others
        stop.set()
        for other in others:
            other.join(10)
        lost = {id(error) for error in received} - came
        assert not lost, f"{len(lost)} of {len(received)} that handlers raised did not reach the caller"
        pool._forget_record()  # type: ignore[attr-defined]
        check_all(pool)
        return len(received)


def _use_until(pool: Pool, stop: threading.Event) -> None:
    while not stop.is_set():
        with pool.connection():
            time.sleep(0.0003)


def _once(act: Callable[[], object]) -> Callable[[], None]:
    rest = [act]

    def call() -> None:
        if rest:
            rest.pop()()

    return call


def _ring() -> None:
    raise KeyboardInterrupt


def test_what_an_interrupt_undoes_is_no_longer_undone_when_somebody_else_has_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool: Pool = ConnectionPool(Server().connect, max_size=1, timeout=10)
    with pool:
        conn, others = pool.acquire(), list[Conn]()
        # Ctrl-C when it was given back, and another thread takes it before that is looked at.
        after_its_lock_is_given_back(monkeypatch, pool, _once(_ring))
        around_decisions(monkeypatch, pool, before=_once(lambda: others.append(pool.acquire())), after=lambda: None)

        with pytest.raises(KeyboardInterrupt):
            pool.release(conn)

        assert others == [conn]
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0)
        pool.release(conn)


def test_an_interrupt_closes_no_connection_that_somebody_else_is_giving_back(monkeypatch: pytest.MonkeyPatch) -> None:
    resetting, go_on, closed = threading.Event(), threading.Event(), list[bool]()
    others = list[threading.Thread]()

    def reset(conn: Conn) -> None:
        if others:
            resetting.set()
            go_on.wait(30)
            closed.append(conn.closed)

    def another_gives_it_back() -> None:
        others.append(threading.Thread(target=lambda: use(pool)))
        others[0].start()
        resetting.wait(30)
        raise KeyboardInterrupt  # in the thread that gave it back before, and does not know yet that it did

    pool: Pool = ConnectionPool(Server().connect, max_size=1, timeout=10, reset=reset)
    with pool:
        conn, waiting = pool.acquire(), threading.Thread(target=lambda: use(pool))
        waiting.start()  # so that giving back has to be decided on
        until(lambda: pool.stats().waiting == 1)
        around_decisions(monkeypatch, pool, before=lambda: None, after=_once(another_gives_it_back))
        with pytest.raises(KeyboardInterrupt):
            pool.release(conn)
        go_on.set()
        for thread in [waiting, *others]:
            thread.join(30)
        assert closed
        assert not any(closed)
