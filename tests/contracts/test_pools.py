"""What both pools promise: one suite, run on ``ConnectionPool`` and on ``AsyncConnectionPool``.

Each test is a coroutine over an adapter. That of the pool for threads makes each call in a thread of its own.
"""

# ruff: noqa: PT031, ASYNC110  (blocks that raise use connections; a warning comes with the garbage)

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shmplane.connections import AsyncConnectionPool, ConnectionPool
from shmplane.errors import PoolClosed, PoolTimeout, TooManyWaiters
from tests.connections.fakes import Conn, Server, works


async def in_thread(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call it in a thread of its own, which has ended, when this returns."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def work() -> None:
        try:
            loop.call_soon_threadsafe(done.set_result, call(*args, **options))
        except BaseException as error:
            loop.call_soon_threadsafe(done.set_exception, error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        return await done
    finally:
        thread.join()


class Threaded:
    """A ``ConnectionPool``, its calls awaited."""

    def __init__(self, connect: Callable[[], Any], **options: Any) -> None:
        self.pool: Any = ConnectionPool(connect, **options)

    async def acquire(self, **options: Any) -> Any:
        return await in_thread(self.pool.acquire, **options)

    async def release(self, conn: Any, **options: Any) -> None:
        await in_thread(self.pool.release, conn, **options)

    async def drop_one(self) -> None:
        await in_thread(lambda: self.pool.acquire() is None)

    async def wait(self, **options: Any) -> None:
        await in_thread(self.pool.wait, **options)

    async def drain(self) -> None:
        await in_thread(self.pool.drain)

    async def close(self, **options: Any) -> None:
        await in_thread(self.pool.close, **options)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        block = self.pool.connection()
        conn = await in_thread(block.__enter__)
        try:
            yield conn
        except BaseException as error:
            await in_thread(block.__exit__, type(error), error, None)
            raise
        await in_thread(block.__exit__, None, None, None)


class OnLoop:
    """An ``AsyncConnectionPool``."""

    def __init__(self, connect: Callable[[], Any], **options: Any) -> None:
        self.pool: Any = AsyncConnectionPool(connect, **options)
        for call in ("acquire", "release", "wait", "drain", "close", "connection"):
            setattr(self, call, getattr(self.pool, call))

    async def drop_one(self) -> None:
        await self.pool.acquire()


Kind = Any
KINDS = [Threaded, OnLoop]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def server() -> Server:
    return Server()


def run(kind: Kind, server: Server, main: Callable[[Any], Any], **options: Any) -> None:
    """``main(pool)`` with a pool that is closed afterwards; no connection is left open then."""

    async def with_pool() -> None:
        pool = kind(server.connect, **{"max_size": 2, "timeout": 10, **options})
        try:
            async with asyncio.timeout(60):
                await main(pool)
        finally:
            await pool.close()
        assert server.open == 0

    asyncio.run(with_pool())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def test_what_was_used_last_is_handed_out_first(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        first, second = await pool.acquire(), await pool.acquire()
        await pool.release(first)
        await pool.release(second)
        assert await pool.acquire() is second
        await pool.release(second)

    run(kind, server, main)


def test_waiters_are_served_in_the_order_they_came(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        served: list[int] = []
        conn = await pool.acquire()

        async def wait_in_line(number: int) -> None:
            mine = await pool.acquire()
            served.append(number)
            await pool.release(mine)

        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(wait_in_line(number)))
            await until(lambda: pool.pool.stats().waiting == len(tasks))
        await pool.release(conn)
        await asyncio.gather(*tasks)
        assert served == list(range(5))

    run(kind, server, main, max_size=1)


def test_never_more_than_max_size_are_open(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        async def use() -> None:
            async with pool.connection():
                await asyncio.sleep(0)

        await asyncio.gather(*(use() for _ in range(12)))
        assert server.most_open <= 2

    run(kind, server, main)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_time_out_names_who_has_the_connections(kind: Kind, server: Server, timeout: float) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        with pytest.raises(PoolTimeout, match="1 of 1 in use") as caught:
            await pool.acquire(timeout=timeout)
        assert len(caught.value.holders) == 1
        await pool.release(conn)
        assert pool.pool.stats().timeouts == 1

    run(kind, server, main, max_size=1)


def test_a_failing_connect_is_tried_again_until_the_deadline_and_is_the_cause(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        server.fail = OSError("down")
        with pytest.raises(PoolTimeout, match="down") as caught:
            await pool.acquire(timeout=0.3)
        assert caught.value.__cause__ is server.fail
        assert pool.pool.health().status != "pass"
        server.fail = None
        await pool.release(await pool.acquire())

    run(kind, server, main)


def test_a_connect_that_returns_nothing_is_an_error_that_says_so(kind: Kind, server: Server) -> None:
    async def main() -> None:
        pool = kind(lambda: None)
        with pytest.raises(PoolTimeout, match="returned None"):
            await pool.acquire(timeout=0.2)
        await pool.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "check", [lambda conn: not conn.broken, lambda conn: 1 / (not conn.broken)], ids=["false", "raises"]
)
def test_what_fails_its_check_is_closed_and_the_next_one_is_tried(kind: Kind, server: Server, check: Any) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        await pool.release(conn)
        conn.broken = True
        other = await pool.acquire()
        assert other is not conn
        assert conn.closed
        await pool.release(other)

    run(kind, server, main, check=check)


RESETS = {"works": (works, True), "false": (lambda conn: False, False), "raises": (lambda conn: 1 / 0, False)}


@pytest.mark.parametrize("how", RESETS)
def test_what_fails_its_reset_is_closed(kind: Kind, server: Server, how: str) -> None:
    reset, is_kept = RESETS[how]

    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        await pool.release(conn)
        assert conn.closed is not is_kept

    run(kind, server, main, reset=reset)


@pytest.mark.parametrize("reset", [None, works])
def test_an_exception_in_the_block_closes_the_connection_unless_a_reset_succeeds(
    kind: Kind, server: Server, reset: Any
) -> None:
    async def main(pool: Any) -> None:
        with pytest.raises(LookupError):
            async with pool.connection() as conn:
                raise LookupError
        assert conn.closed is (reset is None)

    run(kind, server, main, reset=reset)


def test_a_broken_one_is_closed_and_replaced(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        await pool.release(conn, broken=True)
        assert conn.closed
        async with pool.connection() as other:
            assert other is not conn

    run(kind, server, main)


def test_a_second_release_and_a_foreign_connection_are_errors(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        await pool.release(conn)
        with pytest.raises(ValueError, match="once"):
            await pool.release(conn)
        foreign = Conn(server)
        with pytest.raises(ValueError, match="did not hand out"):
            await pool.release(foreign)

    run(kind, server, main)


def test_too_many_waiters_are_turned_away(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await until(lambda: pool.pool.stats().waiting == 1)
        with pytest.raises(TooManyWaiters):
            await pool.acquire()
        await pool.release(conn)
        await pool.release(await waiting)

    run(kind, server, main, max_size=1, max_waiting=1)


def test_wait_returns_when_min_size_are_open(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        await pool.wait()
        assert server.open == 2

    run(kind, server, main, min_size=2)


def test_drain_replaces_all_the_idle_ones_at_once_the_others_as_they_return(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        idle, used = await pool.acquire(), await pool.acquire()
        await pool.release(idle)
        await pool.drain()
        assert idle.closed
        assert not used.closed
        await pool.release(used)
        await until(lambda: used.closed)

    run(kind, server, main)


def test_resize_goes_up_and_down(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        held = [await pool.acquire() for _ in range(2)]
        pool.pool.resize(3)
        held.append(await pool.acquire())
        pool.pool.resize(1)
        for conn in held:
            await pool.release(conn)
        await until(lambda: server.open == 1)
        assert pool.pool.stats().max_size == 1

    run(kind, server, main)


def test_a_paused_pool_hands_out_nothing_until_it_is_resumed(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        pool.pool.pause()
        await pool.release(conn)
        with pytest.raises(PoolTimeout, match="paused"):
            await pool.acquire(timeout=0.05)
        waiting = asyncio.create_task(pool.acquire())
        await until(lambda: pool.pool.stats().waiting == 1)
        pool.pool.resume()
        await pool.release(await waiting)

    run(kind, server, main)


def test_closing_refuses_wakes_waiters_and_closes_what_comes_back(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await until(lambda: pool.pool.stats().waiting == 1)
        await pool.close(grace=0)
        with pytest.raises(PoolClosed):
            await waiting
        with pytest.raises(PoolClosed):
            await pool.acquire()
        assert not conn.closed
        await pool.release(conn)
        await until(lambda: conn.closed)
        assert pool.pool.health().status == "fail"

    run(kind, server, main, max_size=1)


def test_what_is_too_old_is_replaced(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        await asyncio.sleep(0.1)
        await pool.release(conn)
        await until(lambda: conn.closed)

    run(kind, server, main, max_lifetime=0.05)


def test_what_is_idle_for_too_long_is_closed_down_to_min_size(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        held = [await pool.acquire() for _ in range(2)]
        for conn in held:
            await pool.release(conn)
        await until(lambda: server.open == 1)
        await asyncio.sleep(0.1)
        assert server.open == 1

    run(kind, server, main, min_size=1, max_idle=0.05)


def test_a_leak_is_logged_with_its_place_and_counted(
    kind: Kind, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(pool: Any) -> None:
        conn = await pool.acquire()
        await until(lambda: pool.pool.stats().leaked == 1)
        await until(lambda: "held too long" in caplog.text)
        await pool.release(conn)

    run(kind, server, main, leak_after=0.05)


def test_a_dropped_connection_warns_and_gives_its_slot_back(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        await pool.release(await pool.acquire())
        server.forget()
        with pytest.warns(ResourceWarning, match="dropped without release"):
            await pool.drop_one()
            gc.collect()
        await pool.release(await pool.acquire())
        assert pool.pool.stats().dropped == 1
        server.open -= 1  # nobody closed it

    run(kind, server, main, max_size=1)


def test_what_configure_refuses_is_closed(kind: Kind, server: Server) -> None:
    def refuse(conn: Conn) -> None:
        raise OSError("not configured")

    async def main(pool: Any) -> None:
        with pytest.raises(PoolTimeout, match="not configured"):
            await pool.acquire(timeout=0.2)
        await until(lambda: server.open == 0)

    run(kind, server, main, configure=refuse)


def test_a_pool_pickles_with_its_settings(kind: Kind) -> None:
    pool = kind(Server, max_size=3, name="db").pool
    copy = pickle.loads(pickle.dumps(pool))
    assert (type(copy), copy.name, copy.stats().max_size) == (type(pool), "db", 3)


def test_the_counts_add_up(kind: Kind, server: Server) -> None:
    async def main(pool: Any) -> None:
        for _ in range(5):
            async with pool.connection():
                assert pool.pool.stats().used == 1
        stats = pool.pool.stats()
        assert (stats.acquires, stats.use_time.count, stats.connects, stats.idle, stats.used) == (5, 5, 1, 1, 0)
        assert pool.pool.health().status == "pass"

    run(kind, server, main)
