"""The pool for asyncio."""

# ruff: noqa: ASYNC110, PT031  (anything may be waited for; a warning comes with the garbage)

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import random
import signal
import threading

import anyio
import pytest

from shmplane.connections import AsyncConnectionPool, async_pool
from shmplane.errors import PoolClosed, PoolTimeout, TooManyWaiters
from tests.connections.fakes import Conn, Server, works


class AsyncServer(Server):
    """Takes its time for everything."""

    async def open_slowly(self) -> AsyncConn:
        await asyncio.sleep(0.001)
        if self.fail is not None:
            raise self.fail
        conn = AsyncConn(self)
        self.made.append(conn)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return conn


class AsyncConn(Conn):
    async def close(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0.001)
        super().close()


async def slow_check(conn: Conn) -> bool:
    await asyncio.sleep(0.001)
    return not conn.broken


async def slow_reset(conn: Conn) -> None:
    conn.resets += 1
    await asyncio.sleep(0.002)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def server() -> AsyncServer:
    return AsyncServer()


def test_connections_are_used_again_and_closed_at_the_end(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, min_size=1, max_size=2) as pool:
            await pool.wait(5)
            async with pool.connection() as first:
                assert server.made == [first]
            async with pool.connection() as second:
                assert first is second
        assert server.open == 0

    asyncio.run(main())


def test_plain_callables_work_as_well() -> None:
    async def main() -> None:
        server = Server()
        async with AsyncConnectionPool(server.connect, check=works, reset=Conn.note_reset) as pool:
            async with pool.connection() as conn:
                pass
            assert await pool.acquire() is conn
            await pool.release(conn, broken=True)
            assert conn.closed

    asyncio.run(main())


def test_waiters_are_served_in_order(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, max_size=1) as pool:
            order = []

            async def use(number: int) -> None:
                async with pool.connection():
                    order.append(number)
                    await asyncio.sleep(0)

            await asyncio.gather(*map(use, range(20)))
            assert order == list(range(20))

    asyncio.run(main())


def test_timeouts_name_holders_and_causes(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, max_size=1) as pool:
            async with pool.connection():
                with pytest.raises(PoolTimeout) as raised:
                    await pool.acquire(timeout=0.01)
                assert "main, for" in raised.value.facts["holders"][0]
                with pytest.raises(PoolTimeout):
                    await pool.acquire(timeout=0)
            await pool.drain()
            server.fail = OSError("down")
            with pytest.raises(PoolTimeout) as raised:
                await pool.acquire(timeout=0.05)
            assert isinstance(raised.value.__cause__, OSError)
            assert pool.health().status == "fail"
            server.fail = None
            await pool.release(await pool.acquire(timeout=10))

    asyncio.run(main())


def test_the_queue_has_a_limit(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, max_size=1, max_waiting=1) as pool:
            conn = await pool.acquire()
            waiter = asyncio.create_task(pool.acquire())
            await asyncio.sleep(0)
            with pytest.raises(TooManyWaiters):
                await pool.acquire()
            await pool.release(conn)
            assert await waiter is conn
            await pool.release(conn)

    asyncio.run(main())


def test_a_failed_check_goes_on_with_the_next(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, check=slow_check, max_size=2) as pool:
            one, two = await pool.acquire(), await pool.acquire()
            await pool.release(one)
            await pool.release(two)
            two.broken = True
            assert await pool.acquire() is one
            await pool.release(one)
            await until(lambda: two.closed)

    asyncio.run(main())


@pytest.mark.parametrize("reset", [None, slow_reset])
def test_after_an_exception_only_reset_keeps_a_connection(server, reset) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, reset=reset) as pool:
            with pytest.raises(KeyError):
                async with pool.connection() as conn:
                    raise KeyError
            assert conn.closed == (reset is None)

    asyncio.run(main())


@pytest.mark.parametrize("reset", [None, slow_reset])
def test_a_connection_cancelled_in_use_is_closed_unless_reset_succeeds(server, reset) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, reset=reset) as pool:
            used = []

            async def use() -> None:
                async with pool.connection() as conn:
                    used.append(conn)
                    await asyncio.sleep(10)

            task = asyncio.create_task(use())
            await until(lambda: used)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert used[0].closed == (reset is None)

    asyncio.run(main())


def test_release_is_done_to_its_end_however_often_it_is_cancelled(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, reset=slow_reset) as pool:
            conn = await pool.acquire()
            task = asyncio.create_task(pool.release(conn))
            while not task.done():
                await asyncio.sleep(0)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.stats().idle == 1
            assert conn.resets == 1

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_of_cancellations_loses_no_slot(server, seed) -> None:
    chance = random.Random(seed)

    async def user(pool: AsyncConnectionPool[AsyncConn]) -> None:
        async with pool.connection() as conn:
            assert not conn.closed
            await asyncio.sleep(chance.random() * 0.003)
            if chance.random() < 0.1:
                raise KeyError

    async def again_and_again(task: asyncio.Task[None]) -> None:
        await asyncio.sleep(chance.random() * 0.02)
        for _ in range(chance.randrange(1, 20)):
            task.cancel()
            await asyncio.sleep(0)

    async def by_scope(pool: AsyncConnectionPool[AsyncConn]) -> None:
        with anyio.move_on_after(chance.random() * 0.02):
            await user(pool)

    async def main() -> None:
        pool = AsyncConnectionPool(server.open_slowly, check=slow_check, reset=slow_reset, max_size=3, timeout=30)
        async with pool:
            users = [asyncio.create_task(user(pool)) for _ in range(150)]
            storms = [asyncio.create_task(again_and_again(task)) for task in users if chance.random() < 0.7]
            scopes = [asyncio.create_task(by_scope(pool)) for _ in range(100)]
            await asyncio.gather(*users, *storms, *scopes, return_exceptions=True)
            await until(lambda: pool.stats().used == 0 and pool.stats().waiting == 0)
            # All slots are there: they can all be had at once.
            conns = [await pool.acquire(timeout=10) for _ in range(3)]
            assert server.most_open <= 3
            for conn in conns:
                await pool.release(conn)
        assert server.open == 0

    asyncio.run(main())


@pytest.mark.parametrize("phase", ["connect", "check", "reset", "wait"])
def test_cancelling_at_every_await_loses_no_slot(server, phase) -> None:
    async def main() -> None:
        options = {"check": slow_check} if phase == "check" else {"reset": slow_reset} if phase == "reset" else {}
        async with AsyncConnectionPool(server.open_slowly, max_size=1, **options) as pool:
            if phase != "connect":
                await pool.release(await pool.acquire())
            held = await pool.acquire() if phase == "wait" else None
            for steps in range(12):

                async def use() -> None:
                    async with pool.connection():
                        await asyncio.sleep(0)

                task = asyncio.create_task(use())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            if held is not None:
                await pool.release(held)
            await pool.release(await pool.acquire(timeout=10))
            assert pool.stats().used == 0

    asyncio.run(main())


def test_cancelling_every_task_there_is_loses_no_slot(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, reset=slow_reset, max_size=2) as pool:

            async def use() -> None:
                while True:
                    async with pool.connection():
                        await asyncio.sleep(0.001)

            for _ in range(10):
                tasks = [asyncio.create_task(use()) for _ in range(5)]
                await asyncio.sleep(0.004)
                for _ in range(5):
                    for task in asyncio.all_tasks() - {asyncio.current_task()}:
                        task.cancel()
                    await asyncio.sleep(0)
                await asyncio.gather(*tasks, return_exceptions=True)
            conns = [await pool.acquire(timeout=10), await pool.acquire(timeout=10)]
            for conn in conns:
                await pool.release(conn)

    asyncio.run(main())


def test_releasing_twice_or_elsewhere_is_an_error(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly) as pool, AsyncConnectionPool(Server) as other:
            conn = await pool.acquire()
            with pytest.raises(ValueError, match="did not hand out"):
                await other.release(conn)
            await pool.release(conn)
            with pytest.raises(ValueError, match="once"):
                await pool.release(conn)

    asyncio.run(main())


def test_a_dropped_connection_gives_its_slot_back(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, max_size=1) as pool:
            conn = await pool.acquire()
            server.forget()
            with pytest.warns(ResourceWarning, match="dropped without release"):
                del conn
                gc.collect()
            await pool.release(await pool.acquire(timeout=5))
            assert pool.stats().dropped == 1

    asyncio.run(main())


def test_closing_refuses_wakes_and_waits(server) -> None:
    async def main() -> None:
        pool = AsyncConnectionPool(server.open_slowly, max_size=1)
        conn = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        closing = asyncio.create_task(pool.close(grace=10))
        with pytest.raises(PoolClosed):
            await waiter
        await pool.release(conn)
        await closing
        assert conn.closed
        with pytest.raises(PoolClosed):
            await pool.acquire()
        await pool.close()

    asyncio.run(main())


def test_closing_while_a_connection_is_out_leaves_it_to_its_user(server) -> None:
    async def main() -> None:
        pool = AsyncConnectionPool(server.open_slowly)
        conn = await pool.acquire()
        await pool.close(grace=0)
        assert not conn.closed
        await pool.release(conn)
        await until(lambda: conn.closed)

    asyncio.run(main())


def test_pause_resume_and_resize(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, max_size=1) as pool:
            await pool.release(await pool.acquire())
            pool.pause()
            with pytest.raises(PoolTimeout, match="paused"):
                await pool.acquire(timeout=0.01)
            await asyncio.to_thread(pool.resume)
            one = await pool.acquire(timeout=5)
            pool.resize(2)
            two = await pool.acquire(timeout=5)
            pool.resize(1)
            await pool.release(one)
            await until(lambda: one.closed)
            await pool.release(two)
            assert not two.closed

    asyncio.run(main())


def test_housekeeping_shrinks_checks_and_replaces(server) -> None:
    async def main() -> None:
        pool = AsyncConnectionPool(server.open_slowly, check=slow_check, min_size=1, max_size=3, max_idle=0.05)
        async with pool:
            conns = [await pool.acquire() for _ in range(3)]
            for conn in conns:
                await pool.release(conn)
            await until(lambda: server.open == 1)
            (left,) = (conn for conn in server.made if not conn.closed)
            left.broken = True
            await until(lambda: left.closed and server.open == 1)

    asyncio.run(main())


def test_a_pool_belongs_to_one_event_loop(server) -> None:
    pool = AsyncConnectionPool(server.open_slowly)

    async def use() -> None:
        await pool.release(await pool.acquire())

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="another asyncio event loop"):
        asyncio.run(use())


def test_the_error_of_a_signal_handler_is_not_taken_for_a_missing_event_loop(server, monkeypatch) -> None:
    pool, running_loop = AsyncConnectionPool(server.open_slowly), asyncio.get_running_loop

    def deadline(*_: object) -> None:
        raise RuntimeError("my deadline")

    def ask_at_the_deadline() -> asyncio.AbstractEventLoop:
        os.kill(os.getpid(), signal.SIGUSR1)
        return running_loop()

    async def use() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "get_running_loop", ask_at_the_deadline)
            with pytest.raises(RuntimeError, match="my deadline"):
                await pool.wait()
        await pool.release(await pool.acquire())

    before = signal.signal(signal.SIGUSR1, deadline)
    try:
        asyncio.run(use())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_trio_is_told_that_this_is_for_asyncio(server) -> None:
    pool = AsyncConnectionPool(server.open_slowly)
    for use in (pool.acquire, pool.wait, pool.__aenter__):
        with pytest.raises(RuntimeError, match="asyncio"):
            anyio.run(use, backend="trio")


def test_a_pool_is_pickled_as_what_it_was_made_with() -> None:
    pool = pickle.loads(pickle.dumps(AsyncConnectionPool(Server, max_size=3, name="p")))
    assert (pool.name, pool.stats().max_size) == ("p", 3)


def test_a_thousand_tasks_share_ten_connections(server) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(server.open_slowly, max_size=10, timeout=60) as pool:

            async def use() -> None:
                async with pool.connection():
                    await asyncio.sleep(0.0005)

            await asyncio.gather(*(use() for _ in range(1000)))
            assert server.most_open <= 10
            assert pool.stats().acquires == 1000

    asyncio.run(main())


class StuckPlane:
    """Somebody else has its lock and does not go on."""

    def __init__(self) -> None:
        self.asked, self.goes_on = threading.Event(), threading.Event()

    def _host_meter(self, _: str) -> StuckPlane:
        return self

    def publish(self, _: object) -> None:
        self.asked.set()
        assert self.goes_on.wait(30)

    def total(self) -> list[int]:
        return []

    def close(self) -> None:
        pass


def test_close_waits_for_a_stuck_plane_no_longer_than_for_connections(server, monkeypatch, caplog) -> None:
    monkeypatch.setattr(async_pool, "CLOSE_GRACE", 3600.0)
    plane = StuckPlane()

    async def main() -> None:
        pool = AsyncConnectionPool(server.open_slowly, name="p", plane=plane)
        async with pool.connection():
            pass
        await pool.close(grace=0)
        assert plane.asked.is_set()

    try:
        asyncio.run(main())
        assert "its plane did not answer" in caplog.text
    finally:
        plane.goes_on.set()
