"""All calls of two pools under one host limit from many threads at once, with a thread switch every few bytecodes.

Connects, checks and resets fail at random, connections grow old and idle, pools are drained, resized and paused.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sys
import threading
import time
import traceback

import shmplane
from shmplane import ConnectionPool, PoolTimeout
from tests.connections.fakes import Conn, Server, until, works
from tests.support.forked import run_forked
from tests.support.inside import host_permits

SECONDS = 3.0
THREADS = 8
HOST_LIMIT = 4


class Flaky:
    """A server whose connections fail now and then, and that sees when two users have the same one."""

    def __init__(self) -> None:
        self.server = Server()
        self.used: set[int] = set()
        self.mutex = threading.Lock()

    def connect(self) -> Conn:
        if random.random() < 0.05:
            raise OSError("refused")
        return self.server.make()

    def check(self, conn: Conn) -> bool:
        return works(conn) and random.random() > 0.05

    def reset(self, conn: Conn) -> None:
        if random.random() < 0.05:
            raise OSError("cut")

    @contextlib.contextmanager
    def use(self, conn: Conn):
        with self.mutex:
            assert not conn.closed
            assert id(conn) not in self.used, "handed out twice"
            self.used.add(id(conn))
        yield
        with self.mutex:
            self.used.discard(id(conn))


def _make_one_call(pool: ConnectionPool[Conn], flaky: Flaky, rnd: random.Random) -> None:
    what = rnd.random()
    if what < 0.5:
        with pool.connection() as conn:
            with flaky.use(conn):
                time.sleep(0.001 if rnd.random() < 0.1 else 0)
            if rnd.random() < 0.1:
                raise ZeroDivisionError
    elif what < 0.8:
        conn = pool.acquire(timeout=rnd.choice([0, 0.01, 1]))
        pool.release(conn, broken=rnd.random() < 0.2)
    elif what < 0.9:
        assert pool.stats().size <= 6, pool.health()
        assert repr(pool)
    elif what < 0.91:
        pool.drain()
    elif what < 0.93:
        pool.resize(rnd.choice([3, 5, 6]))
    elif what < 0.94:
        pool.pause()
        pool.resume()


def _use_at_once(plane: shmplane.Plane) -> None:
    sys.setswitchinterval(1e-6)
    logging.disable(logging.CRITICAL)
    flaky, failed = Flaky(), list[str]()
    pools = [
        ConnectionPool(
            flaky.connect,
            check=flaky.check,
            reset=flaky.reset,
            min_size=1,
            max_size=5,
            timeout=2,
            max_idle=0.05,
            max_lifetime=0.2,
            leak_after=0.5,
            name="db",
            plane=plane,
            host_limit=HOST_LIMIT,
        )
        for _ in range(2)
    ]

    def work(seed: int) -> None:
        rnd, deadline = random.Random(seed), time.monotonic() + SECONDS
        while time.monotonic() < deadline and not failed:
            try:
                with contextlib.suppress(ZeroDivisionError, PoolTimeout):
                    _make_one_call(rnd.choice(pools), flaky, rnd)
            except BaseException:
                failed.append(traceback.format_exc())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]
    for pool in pools:
        assert pool.stats().used == 0
        pool.close()
    until(lambda: flaky.server.open == 0)
    assert flaky.server.most_open <= HOST_LIMIT
    permits = host_permits(plane, "db", HOST_LIMIT)
    assert all(permits.acquire(5) for _ in range(HOST_LIMIT)), "a permit was lost"
    permits.close()


def test_threads_use_two_pools_under_one_host_limit() -> None:
    with shmplane.Plane.temporary() as plane:
        run_forked(lambda: _use_at_once(plane), 60)
