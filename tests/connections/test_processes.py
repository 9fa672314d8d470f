"""Pools and processes: fork, spawn, and a limit over all processes of the host."""

# ruff: noqa: PT031  (a warning comes when the garbage is collected)

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import threading
import time

import pytest

from shmplane.connections import AsyncConnectionPool, ConnectionPool, HostPermits
from shmplane.errors import PoolTimeout
from tests.connections.fakes import Conn, FakePlane, FilePermits, Server, permits_in_use, until
from tests.support.forked import Forked, run_forked
from tests.support.inside import host_permits
from tests.support.processes import Child


class Polite:
    """A connection over a socket that says goodbye when it is closed or becomes garbage."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.pid = os.getpid()
        self.socket = socket.create_connection(address)

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            self.socket.sendall(b"bye")
            self.socket.close()

    __del__ = close


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def in_child(work) -> None:
    """Fork, do the work, end the way an interpreter ends."""
    run_forked(lambda: (work(), gc.collect()), 20)


def test_a_forked_child_never_touches_its_parents_connections(listener) -> None:
    address = listener.getsockname()
    with ConnectionPool(functools.partial(Polite, address), min_size=2) as pool:
        pool.wait(10)
        served = [listener.accept()[0] for _ in range(2)]

        def work() -> None:
            with pool.connection(timeout=10) as conn:
                assert conn.pid == os.getpid()
            pool.close()

        with pool.connection():
            in_child(work)
        for end in served:
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(10)
            end.setblocking(True)
        mine, _ = listener.accept()
        with mine:
            assert mine.recv(10) == b"bye"
    for end in served:
        with end:
            assert end.recv(10) == b"bye"


def test_a_child_that_was_forked_inside_the_block_leaves_it_without_harm(listener) -> None:
    with ConnectionPool(functools.partial(Polite, listener.getsockname())) as pool:
        pid = None
        with pool.connection() as conn:
            end, _ = listener.accept()
            pid = os.fork()  # the child leaves the block too, which no helper can do for it
        if pid == 0:
            os._exit(0 if pool.stats().size == 0 else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        end.setblocking(False)
        with end, pytest.raises(BlockingIOError):
            end.recv(10)
        del conn


def test_the_pool_works_in_a_child_that_was_forked_while_threads_used_it() -> None:
    server = Server()
    with ConnectionPool(server.connect, max_size=2, timeout=10) as pool:
        stop = threading.Event()

        def use() -> None:
            while not stop.is_set():
                with pool.connection():
                    pass

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                in_child(lambda: pool.release(pool.acquire(timeout=10)))
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_an_async_pool_works_in_a_forked_child() -> None:
    server = Server()
    pool = AsyncConnectionPool(server.connect, max_size=1)

    async def use() -> None:
        async with pool.connection(timeout=10) as conn:
            assert not conn.closed

    async def main() -> None:
        async with pool, pool.connection() as conn:

            def work() -> None:
                asyncio._set_running_loop(None)
                asyncio.run(use())
                assert not conn.closed

            in_child(work)

    asyncio.run(main())


def _uses(pool: ConnectionPool[Server]):
    with pool.connection() as conn:
        yield type(conn).__name__
    pool.close()
    yield "closed"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_pool_travels_to_other_processes(method) -> None:
    with Child(_uses, ConnectionPool(Server, max_size=2), method=method) as child:
        assert [child.next(), child.next()] == ["Server", "closed"]


class Shut(Polite):
    """Closes for everybody who has the socket, also a child that was forked meanwhile."""

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


def test_a_close_that_shuts_the_socket_down_reaches_the_server_although_a_child_has_the_socket_too(listener) -> None:
    address = listener.getsockname()
    pool = ConnectionPool(functools.partial(Shut, address), max_size=1, timeout=10)
    conn = pool.acquire()
    served = listener.accept()[0]
    served.settimeout(10)
    child = Forked(lambda: time.sleep(30))
    pool.release(conn, broken=True)
    assert served.recv(10) == b""
    child.kill()
    served.close()
    pool.close()


# -- host limit


@pytest.fixture
def plane(tmp_path) -> FakePlane:
    return FakePlane(tmp_path)


def pool_of(plane: FakePlane, server: Server, limit: int = 2, **options) -> ConnectionPool[Conn]:
    return ConnectionPool(server.connect, plane=plane, host_limit=limit, name="db", **options)


def test_the_fake_keeps_the_contract(plane) -> None:
    assert isinstance(host_permits(plane, "x", 1), HostPermits)


def test_host_limit_needs_a_plane_and_a_name(plane) -> None:
    with pytest.raises(ValueError, match="pass plane="):
        ConnectionPool(Server, host_limit=3, name="db")
    with pytest.raises(ValueError, match="pass name="):
        ConnectionPool(Server, host_limit=3, plane=plane)


def test_two_pools_share_a_limit_and_idle_connections_make_way(plane) -> None:
    one, two = Server(), Server()
    with pool_of(plane, one, timeout=20) as first, pool_of(plane, two, timeout=20) as second:
        conns = [first.acquire(), first.acquire()]
        with pytest.raises(PoolTimeout, match="host limit"):
            second.acquire(timeout=0.3)
        for conn in conns:
            first.release(conn)
        with second.connection():
            assert one.open + two.open <= 2
    # Soon: a pool's thread that waits for a permit looks up now and then, and may hold one just now.
    until(lambda: permits_in_use(plane.directory_path, "db", 2) == 0)


def test_a_busy_pool_does_not_starve_another(plane) -> None:
    one, two, stop = Server(), Server(), threading.Event()

    def keep_busy(pool: ConnectionPool[Conn]) -> None:
        while not stop.is_set():
            with pool.connection():
                time.sleep(0.001)

    with pool_of(plane, one, 1, timeout=20) as first, pool_of(plane, two, 1, timeout=20) as second:
        threads = [threading.Thread(target=keep_busy, args=(first,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                with second.connection():
                    assert one.open == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_an_async_pool_keeps_the_host_limit(plane) -> None:
    async def main() -> None:
        one, two = Server(), Server()
        first = AsyncConnectionPool(one.connect, plane=plane, host_limit=2, name="db", timeout=20)
        second = AsyncConnectionPool(two.connect, plane=plane, host_limit=2, name="db", timeout=20)

        async def use(pool: AsyncConnectionPool[Conn]) -> None:
            for _ in range(5):
                async with pool.connection():
                    assert one.open + two.open <= 2
                    await asyncio.sleep(0.001)

        async with first, second:
            await asyncio.gather(*(use(pool) for pool in (first, second) for _ in range(4)))

    asyncio.run(main())
    # Soon: a pool's thread that waits for a permit looks up now and then, and may hold one just now.
    until(lambda: permits_in_use(plane.directory_path, "db", 2) == 0)


class SlowPlane(FakePlane):
    """Takes its time to give a pool its part in the permits, and counts the parts."""

    parts = 0

    def _host_permits(self, name: str, limit: int) -> FilePermits:
        self.parts += 1
        time.sleep(0.02)
        return super()._host_permits(name, limit)


def test_connects_that_start_at_once_share_one_part_in_the_permits(tmp_path) -> None:
    plane = SlowPlane(tmp_path)
    with pool_of(plane, Server(), 4, timeout=20) as pool:
        threads = [threading.Thread(target=lambda: pool.release(pool.acquire())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # A permit that one part had taken would not be given back by the other.
    assert plane.parts == 1
    until(lambda: permits_in_use(tmp_path, "db", 4) == 0)


def _holds(directory: str, limit: int):
    pool = pool_of(FakePlane(directory), Server(), limit, timeout=20)
    held = [pool.acquire() for _ in range(limit)]
    yield len(held)


def test_the_share_of_a_killed_worker_comes_back(plane) -> None:
    with Child(_holds, plane.directory, 2) as child:
        assert child.next() == 2
        with pool_of(plane, Server(), timeout=20) as pool:
            with pytest.raises(PoolTimeout):
                pool.acquire(timeout=0.1)
            child.kill()
            for conn in [pool.acquire(), pool.acquire()]:
                pool.release(conn)


def test_no_permit_is_kept_for_a_connect_that_fails(plane) -> None:
    server = Server()
    server.fail = OSError("down")
    with pool_of(plane, server) as pool:
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0.1)
        until(lambda: permits_in_use(plane.directory_path, "db", 2) == 0)
        server.fail = None
        pool.release(pool.acquire(timeout=10))


def test_a_dropped_connection_gives_its_permit_back(plane) -> None:
    server = Server()
    with pool_of(plane, server, 1) as pool:
        conn = pool.acquire()
        server.forget()
        with pytest.warns(ResourceWarning, match="dropped"):
            del conn
            gc.collect()
        pool.release(pool.acquire(timeout=10))


def test_the_permits_fake_is_first_come_first_served(plane) -> None:
    permits = FilePermits(plane.directory_path, "x", 1)
    assert permits.try_acquire()
    assert not permits.acquire(0.01)
    permits.close()
