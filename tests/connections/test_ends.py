"""Pools that end without ``close``, whose event loop is gone, whose plane is stuck, or that C code forked: nothing is lost."""

# ruff: noqa: PT031  (a warning comes when the garbage is collected)

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import shmplane
from shmplane.connections import AsyncConnectionPool, ConnectionPool
from shmplane.errors import PoolTimeout
from tests.connections.fakes import Conn, Server, until
from tests.support.inside import host_permits
from tests.support.processes import Child
from tests.support.stuck import lock_taken
from tests.support.waiting import wait_for

LIMIT = 2


def shared(plane: shmplane.Plane, **options: Any) -> dict[str, Any]:
    return {"name": "db", "plane": plane, "host_limit": LIMIT, "max_size": LIMIT, "timeout": 10, **options}


def free_permits(plane: shmplane.Plane) -> int:
    permits = host_permits(plane, "db", LIMIT)
    free = 0
    while permits.try_acquire():
        free += 1
    permits.close()
    return free


def test_a_pool_that_is_garbage_gives_its_permits_back(plane: shmplane.Plane) -> None:
    pool: ConnectionPool[Conn] = ConnectionPool(Server().connect, **shared(plane))
    held = [pool.acquire() for _ in range(LIMIT)]
    for conn in held:
        pool.release(conn)
    assert free_permits(plane) == 0
    del pool, held, conn
    gc.collect()
    until(lambda: free_permits(plane) == LIMIT)


def test_what_a_user_still_has_of_a_garbage_pool_keeps_its_permit_and_stays_open(plane: shmplane.Plane) -> None:
    server = Server()
    pool: ConnectionPool[Conn] = ConnectionPool(server.connect, **shared(plane))
    kept, other = pool.acquire(), pool.acquire()
    pool.release(other)
    server.forget()
    del pool, other
    gc.collect()
    until(lambda: free_permits(plane) == LIMIT - 1)
    assert not kept.closed
    del kept
    gc.collect()
    until(lambda: free_permits(plane) == LIMIT)


@pytest.mark.parametrize("keeps_pool", [True, False])
def test_an_async_pool_whose_loop_is_closed_gives_its_permits_back(plane: shmplane.Plane, keeps_pool: bool) -> None:
    server = Server()

    async def use() -> AsyncConnectionPool[Conn]:
        pool: AsyncConnectionPool[Conn] = AsyncConnectionPool(server.connect, **shared(plane))
        held = [await pool.acquire() for _ in range(LIMIT)]
        for conn in held:
            await pool.release(conn)
        return pool

    pool: Any = asyncio.run(use())
    server.forget()
    if not keeps_pool:
        del pool
    gc.collect()
    until(lambda: free_permits(plane) == LIMIT)


def test_a_connection_out_of_a_closed_pool_gives_its_permit_back_when_it_is_dropped(plane: shmplane.Plane) -> None:
    server = Server()
    pool: ConnectionPool[Conn] = ConnectionPool(server.connect, **shared(plane))
    conn = pool.acquire()
    pool.close(grace=0)
    server.forget()
    assert free_permits(plane) == LIMIT - 1
    with pytest.warns(ResourceWarning, match="dropped"):
        del conn
        gc.collect()
    until(lambda: free_permits(plane) == LIMIT)


# -- somebody holds the plane's lock and does not go on


def test_acquire_ends_in_time_although_the_planes_lock_is_not_to_be_had(plane: shmplane.Plane) -> None:
    pool: ConnectionPool[Conn] = ConnectionPool(Server().connect, **shared(plane))
    with lock_taken(plane) as neighbour:
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0.3)
        assert neighbour.has_it, "it had to go on, since the call waited for it"
    pool.release(pool.acquire())
    pool.close()


def test_no_slot_and_no_permit_is_lost_while_the_planes_lock_is_not_to_be_had(plane: shmplane.Plane) -> None:
    pool: ConnectionPool[Conn] = ConnectionPool(Server().connect, **shared(plane))
    held = [pool.acquire() for _ in range(LIMIT)]
    with lock_taken(plane) as neighbour:
        for conn in held:
            pool.release(conn, broken=True)
        assert pool.stats().size == 0
        assert neighbour.has_it, "it had to go on, since a call waited for it"
    held = [pool.acquire() for _ in range(LIMIT)]
    for conn in held:
        pool.release(conn)
    pool.close()
    until(lambda: free_permits(plane) == LIMIT)


def test_an_event_loop_goes_on_while_the_planes_lock_is_not_to_be_had(plane: shmplane.Plane) -> None:
    async def main() -> None:
        pool: AsyncConnectionPool[Conn] = AsyncConnectionPool(Server().connect, **shared(plane))
        conn = await pool.acquire()
        with lock_taken(plane) as neighbour:
            await pool.release(conn, broken=True)
            with pytest.raises(PoolTimeout):
                await pool.acquire(timeout=0.3)
            assert neighbour.has_it, "it had to go on, since the loop waited for it"
        async with asyncio.timeout(10):
            held = [await pool.acquire() for _ in range(LIMIT)]
        for conn in held:
            await pool.release(conn)
        await pool.close()

    asyncio.run(main())
    until(lambda: free_permits(plane) == LIMIT)


# -- a fork by C code runs none of Python's hooks


def _in_c_child(work: Any) -> None:
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        code = 1
        try:
            faulthandler.dump_traceback_later(15)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = wait_for(pid, 20)
    assert status is not None
    assert os.waitstatus_to_exitcode(status) == 0


class Own:
    """A connection that knows who opened it."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def close(self) -> None:
        assert self.pid == os.getpid(), "a child closed its parent's connection"


# In processes of their own, spawned: whatever lock another thread has at such a fork stays locked in the child for good.


def _sync_pool(options: dict[str, Any]) -> Iterator[str]:
    pool = ConnectionPool(Own, max_size=2, timeout=10, **options)
    pool.release(pool.acquire())
    kept = pool.acquire()

    def work() -> None:
        pool.release(kept)  # the parent's: not ours to keep or close
        with pool.connection() as first, pool.connection() as second:
            assert (first.pid, second.pid) == (os.getpid(), os.getpid())
        assert pool.stats().connects == 2
        pool.close()

    _in_c_child(work)
    pool.release(kept)
    pool.close()
    yield "done"


def _async_pool() -> Iterator[str]:
    pool = AsyncConnectionPool(Own, max_size=2, timeout=10)

    async def use() -> int:
        async with pool.connection() as conn:
            return conn.pid

    async def main() -> None:
        assert await use() == os.getpid()

        def work() -> None:
            asyncio._set_running_loop(None)
            assert asyncio.run(use()) == os.getpid()

        _in_c_child(work)
        await pool.close()

    asyncio.run(main())
    yield "done"


@pytest.mark.parametrize("options", [{}, {"check": bool}, {"reset": bool}, {"min_size": 1}])
def test_a_child_forked_by_c_code_never_gets_its_parents_connection(options: dict[str, Any]) -> None:
    with Child(_sync_pool, options) as child:
        assert child.next() == "done"


def test_an_async_pool_in_a_child_forked_by_c_code_opens_its_own() -> None:
    with Child(_async_pool) as child:
        assert child.next() == "done"


# -- helper threads


def test_a_decision_of_the_main_thread_is_made_without_a_thread_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool: ConnectionPool[Conn] = ConnectionPool(Server().connect, max_size=1)
    conn = pool.acquire()

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("shmplane.connections.threads.start_new_thread", refuse)
        pool.release(conn, broken=True)
        pool.resize(2)
    assert pool.stats().closed == 1
    pool.close()


def test_giving_back_with_a_reset_or_after_a_check_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pool: ConnectionPool[Conn] = ConnectionPool(
        Server().connect, max_size=1, check=lambda _: True, reset=lambda _: None
    )
    pool.release(pool.acquire())
    started = threading.active_count()

    def refuse(*_: object) -> None:
        raise AssertionError("a thread was started")

    with monkeypatch.context() as patched:
        patched.setattr("shmplane.connections.threads.start_new_thread", refuse)
        for _ in range(10):
            with pool.connection():
                pass
    assert threading.active_count() <= started
    pool.close()
