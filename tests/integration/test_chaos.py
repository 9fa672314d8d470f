"""Servers that restart, networks that break, workers that are killed: what users see of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from typing import Any

import psycopg
import pytest

import shmplane
from shmplane.connections import AsyncConnectionPool, ConnectionPool
from tests.connections.fakes import until
from tests.support.processes import Child

LIMIT = 38  #: below what the server has for users
WORKERS = 8


def connect(dsn: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True)


def check(conn: psycopg.Connection) -> None:
    conn.execute("select 1")


def test_with_check_nobody_notices_a_restart_of_the_server(postgres) -> None:
    with ConnectionPool(functools.partial(connect, postgres.dsn()), check=check, max_size=4, timeout=30) as pool:
        conns = [pool.acquire() for _ in range(4)]
        for conn in conns:
            pool.release(conn)
        postgres.restart()
        errors: list[BaseException] = []

        def use() -> None:
            try:
                for _ in range(10):
                    with pool.connection() as conn:
                        assert conn.execute("select 1").fetchone() == (1,)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []


def test_callers_wait_while_the_server_is_away(postgres) -> None:
    with ConnectionPool(functools.partial(connect, postgres.dsn()), check=check, timeout=60) as pool:
        pool.release(pool.acquire())
        postgres.stop()
        restart = threading.Timer(0.3, postgres.start)
        restart.start()
        with pool.connection() as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        restart.join()
        assert pool.stats().connect_errors > 0


def test_a_cut_connection_is_found_by_the_check(postgres, proxy) -> None:
    with ConnectionPool(functools.partial(connect, postgres.dsn(proxy.port)), check=check, max_size=3) as pool:
        conns = [pool.acquire() for _ in range(3)]
        for conn in conns:
            pool.release(conn)
        proxy.cut()
        for _ in range(5):
            with pool.connection() as conn:
                assert conn.execute("select 1").fetchone() == (1,)
        assert pool.stats().discarded >= 1


def test_refused_connects_are_retried(postgres, proxy) -> None:
    proxy.refusing = True
    with ConnectionPool(functools.partial(connect, postgres.dsn(proxy.port)), timeout=30) as pool:
        threading.Timer(0.2, setattr, (proxy, "refusing", False)).start()
        with pool.connection() as conn:
            assert conn.execute("select 1").fetchone() == (1,)


def test_a_stalled_connection_is_left_behind_by_the_async_check(postgres, proxy) -> None:
    async def main() -> None:
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            functools.partial(psycopg.AsyncConnection.connect, postgres.dsn(proxy.port), autocommit=True),
            check=lambda conn: asyncio.wait_for(conn.execute("select 1"), 0.1),
            max_size=2,
        )
        async with pool:
            async with pool.connection() as stalled:
                pass
            proxy.stall()
            asyncio.get_running_loop().call_later(0.3, proxy.flow)
            async with pool.connection(timeout=30) as conn:
                assert conn is not stalled
                cursor = await conn.execute("select 1")
                assert await cursor.fetchone() == (1,)

    asyncio.run(main())


def test_cancelled_queries_leave_no_slot_and_no_session(postgres) -> None:
    async def main() -> None:
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            functools.partial(psycopg.AsyncConnection.connect, postgres.dsn(), autocommit=True), max_size=3
        )

        async def query() -> None:
            async with pool.connection() as conn:
                await conn.execute("select pg_sleep(0.02)")

        async with pool:
            tasks = [asyncio.create_task(query()) for _ in range(30)]
            for number, task in enumerate(tasks):
                await asyncio.sleep(0.005)
                if number % 2:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for _ in range(3):
                await query()
            assert pool.stats().used == 0

    asyncio.run(main())
    until(lambda: postgres.sessions() == 0)


def test_chaos_of_cuts_and_exceptions_leaks_nothing(postgres, proxy) -> None:
    make = functools.partial(connect, postgres.dsn(proxy.port))
    stop = threading.Event()
    served = [0]
    with ConnectionPool(make, check=check, max_size=4, timeout=60) as pool:

        def use(number: int) -> None:
            while not stop.is_set():
                try:
                    with pool.connection() as conn:
                        conn.execute("select 1")
                        if number % 3 == 0:
                            raise KeyError
                except (psycopg.Error, KeyError):
                    continue
                finally:
                    served[0] += 1

        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            time.sleep(0.05)
            proxy.cut()
        stop.set()
        for thread in threads:
            thread.join()
        stats = pool.stats()
        assert stats.used == 0
        assert stats.size <= 4
        conns = [pool.acquire() for _ in range(4)]
        for conn in conns:
            pool.release(conn)
    assert served[0] > 0
    until(lambda: postgres.sessions() == 0)


# -- prefork workers under one host limit


def _worker(directory: str, dsn: str, threads: int):
    """A worker of a prefork server: a pool of 10, and more threads than that in a hurry."""
    plane = shmplane.Plane("workers", root=directory)
    pool = ConnectionPool(
        functools.partial(connect, dsn), max_size=10, timeout=60, name="app", plane=plane, host_limit=LIMIT
    )
    errors: list[str] = []
    stop = threading.Event()
    served = [0] * threads

    def serve(number: int) -> None:
        while not stop.is_set():
            try:
                with pool.connection() as conn:
                    conn.execute("select pg_sleep(0.002)")
                served[number] += 1
            except Exception as error:
                errors.append(repr(error))
                return

    running = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    while sum(served) < 3 and not errors:
        time.sleep(0.01)
    yield errors
    before = sum(served)
    while sum(served) < before + 3 and not errors:
        time.sleep(0.01)
    yield errors
    stop.set()
    for thread in running:
        thread.join()
    pool.close()
    plane.close()
    yield errors


@pytest.mark.parametrize("method", ["warm", "fork"])
def test_prefork_workers_share_the_sessions_also_after_one_is_killed(postgres, plane_root, method) -> None:
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(shmplane.Plane("workers", root=plane_root))
        stack.callback(plane.destroy)
        children = [
            stack.enter_context(Child(_worker, str(plane_root), postgres.dsn(), 12, method=method))
            for _ in range(WORKERS)
        ]
        for child in children:
            assert child.next() == []
        assert postgres.sessions() <= LIMIT
        children[0].kill()
        for child in children[1:]:
            assert child.next() == []
        for child in children[1:]:
            assert child.next() == []
    until(lambda: postgres.sessions() == 0)
