"""Ctrl-C at every bytecode of what callers do: afterwards no slot, no connection and no waiter is lost.

The default run takes every bytecode where nobody waits and a sample elsewhere; ``pytest -m sweep`` takes all.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shmplane.connections import ConnectionPool
from shmplane.connections.records import IDLE
from shmplane.errors import PoolTimeout
from tests.connections.fakes import Conn, Server, until, works
from tests.support.inside import lock_of, roster_of
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

    until(is_quiet, 4)
    pool.resize(SIZE)
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


@pytest.mark.parametrize("case", CASES)
def test_an_interrupt_loses_nothing(case: str) -> None:
    interrupt(case, 1 if case in QUICK else EVERY)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", [case for case in CASES if case not in QUICK])
def test_an_interrupt_at_any_bytecode_loses_nothing(case: str) -> None:
    interrupt(case, 1)


def interrupt(case: str, stride: int) -> None:
    act, options = CASES[case]
    server, codes = Server(), Bytecodes(interrupt=True)
    pool: Pool = ConnectionPool(server.connect, max_size=SIZE, timeout=10, **options)
    with warnings.catch_warnings(), pool:
        # Given back by being dropped, when the call to give it back was interrupted before it began.
        warnings.simplefilter("ignore", ResourceWarning)
        use(pool)
        interrupted = at = 0
        while True:
            at += stride
            try:
                try:
                    codes.arm(at)
                    act(pool)
                finally:
                    # What is pending is raised here at the latest.
                    codes.disarm()
            except KeyboardInterrupt:
                interrupted += 1
            server.forget()
            try:
                check_all(pool)
            except AssertionError as error:
                raise AssertionError(f"after an interrupt at bytecode {at}: {error}, {pool!r}") from error
            if codes.count < at:
                break
        assert interrupted > 3
