"""What does a connection pool cost, is it fair, and what does an idle connection weigh?

Ours: ``acquire`` and ``release``, and ``with pool.connection()``, for threads and for asyncio.
Baseline: ``queue.LifoQueue`` (``asyncio.LifoQueue``) get and put: the least that a thread-safe pool can be;
for the longest wait, tasks divided by connections times the measured hold; for memory, a raw socket.
Peers: psycopg_pool, SQLAlchemy's QueuePool and DBUtils' PooledDB, with connections that do nothing, in the
same interleaved run.

Alone: ``python -m bench.pools [--quick]``.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import statistics
import sys
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from bench.harness import Contestant, Row, Scale, compare, interleave
from shmplane.connections import AsyncConnectionPool, ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS, CONNECTIONS, HOLD_S = 8, 4, 0.0002


class Idle:
    """A connection that does nothing, as fast as it can, for every pool here."""

    closed = False
    pgconn: Any = None

    def close(self) -> None:
        """Nothing to close."""

    def rollback(self) -> None:
        """Nothing to roll back."""

    commit = rollback


def rows(scale: Scale) -> Iterator[Row]:
    """All figures."""
    yield from _threads(scale)
    yield from asyncio.run(_tasks(scale))
    yield from _contended(scale)
    yield asyncio.run(_longest_wait(scale))
    yield _many_users(scale)
    yield _memory(scale)


def run(quick: bool) -> list[dict[str, Any]]:
    """All figures as plain rows."""
    return [
        {
            "question": row.what,
            "ours": row.value,
            "target": row.target,
            "baseline": row.baseline,
            "peers": row.peers,
            "unit": row.unit,
            "note": row.note,
        }
        for row in rows(Scale(quick))
    ]


# -- one thread


def _threads(scale: Scale) -> Iterator[Row]:
    number = scale.pick(10_000, 2_000)
    ours: ConnectionPool[Idle] = ConnectionPool(Idle)
    lifo: queue.LifoQueue[Idle] = queue.LifoQueue()
    lifo.put(Idle())

    def take_and_give() -> None:
        ours.release(ours.acquire())

    def block() -> None:
        with ours.connection():
            pass

    peers = {name: Contestant(peer, number // 4) for name, peer in _peers().items()}
    contestants = {"LifoQueue": Contestant(lambda: lifo.put(lifo.get()), number), **peers}
    ours.release(ours.acquire())
    times = interleave({"ours": Contestant(take_and_give, number), **contestants}, scale.rounds)
    yield compare("pool acquire + release", times, target=0.8, baseline="LifoQueue")
    times = interleave({"ours": Contestant(block, number), **contestants}, scale.rounds)
    yield compare("with pool.connection()", times, target=1.5, baseline="LifoQueue")
    ours.close()
    yield _checked_and_reset(scale, contestants["LifoQueue"])


def _checked_and_reset(scale: Scale, baseline: Contestant) -> Row:
    """As in the recipe: a check before, a reset after; both do nothing here."""
    pool: ConnectionPool[Idle] = ConnectionPool(Idle, check=Idle.commit, reset=Idle.rollback)

    def block() -> None:
        with pool.connection():
            pass

    block()
    times = interleave({"ours": Contestant(block, baseline.number), "LifoQueue": baseline}, scale.rounds)
    pool.close()
    return compare("with connection(), check, reset", times, target=2.5, baseline="LifoQueue")


def _peers() -> dict[str, Callable[[], object]]:
    """Take and give back with each peer that is installed."""
    peers: dict[str, Callable[[], object]] = {}
    for name, make in (("psycopg_pool", _psycopg), ("SQLAlchemy", _sqlalchemy), ("DBUtils", _dbutils)):
        try:
            peers[name] = make()
        except ImportError:
            print(f"{name} is not installed", file=sys.stderr)
    return peers


def _psycopg() -> Callable[[], object]:
    import psycopg_pool
    from psycopg.pq import TransactionStatus

    class Transaction:
        transaction_status = TransactionStatus.IDLE

    class Quiet(Idle):
        """What psycopg_pool asks of a connection."""

        pgconn = Transaction()
        _pool: Any = None

        @classmethod
        def connect(cls, *_: Any, **__: Any) -> Quiet:
            return cls()

    pool: Any = psycopg_pool.ConnectionPool(
        "",
        connection_class=Quiet,
        min_size=1,
        max_size=1,
        open=True,
    )
    pool.wait()
    return lambda: pool.putconn(pool.getconn())


def _sqlalchemy() -> Callable[[], object]:
    from sqlalchemy.pool import QueuePool

    pool = QueuePool(Idle, pool_size=1, reset_on_return=None)  # type: ignore[arg-type]
    return lambda: pool.connect().close()


def _dbutils() -> Callable[[], object]:
    from dbutils.pooled_db import PooledDB

    class Driver:
        threadsafety = 2
        Error = OperationalError = InterfaceError = InternalError = Exception

        @staticmethod
        def connect() -> Idle:
            return Idle()

    pool = PooledDB(Driver, maxconnections=1, ping=0, reset=False)
    return lambda: pool.connection().close()


# -- one event loop


async def _tasks(scale: Scale) -> list[Row]:
    number = scale.pick(10_000, 2_000)
    ours: AsyncConnectionPool[Idle] = AsyncConnectionPool(Idle)
    lifo: asyncio.LifoQueue[Idle] = asyncio.LifoQueue()
    lifo.put_nowait(Idle())

    async def queue_it() -> None:
        for _ in range(number):
            await lifo.put(await lifo.get())

    async def take_and_give() -> None:
        for _ in range(number):
            await ours.release(await ours.acquire())

    async def block() -> None:
        for _ in range(number):
            async with ours.connection():
                pass

    times: dict[str, list[float]] = {}
    for _ in range(scale.rounds + 1):
        for name, work in (("LifoQueue", queue_it), ("ours", take_and_give), ("block", block)):
            began = time.perf_counter()
            await work()
            times.setdefault(name, []).append((time.perf_counter() - began) / number)
    await ours.close()
    base = {"asyncio.LifoQueue": times["LifoQueue"]}
    return [
        compare(
            "async acquire + release",
            base | {"ours": times["ours"]},
            target=1.0,
            baseline="asyncio.LifoQueue",
        ),
        compare(
            "async with connection()",
            base | {"ours": times["block"]},
            target=None,
            baseline="asyncio.LifoQueue",
        ),
    ]


# -- many users


def _contended(scale: Scale) -> Iterator[Row]:
    seconds = scale.pick(10, 4) / 10
    shares: list[float] = []
    fairness: list[float] = []
    for _ in range(scale.rounds):
        pool: ConnectionPool[Idle] = ConnectionPool(Idle, min_size=CONNECTIONS, max_size=CONNECTIONS)
        pool.wait()
        lifo: queue.LifoQueue[Idle] = queue.LifoQueue()
        for _ in range(CONNECTIONS):
            lifo.put(Idle())
        base = _served(lifo.get, lifo.put, seconds)
        ours = _served(pool.acquire, pool.release, seconds)
        pool.close()
        shares.append(sum(base) / sum(ours))
        fairness.append(sum(ours) ** 2 / (THREADS * sum(count**2 for count in ours)))
    what = f"{THREADS} threads, {CONNECTIONS} connections: time a turn"
    note = f"throughput {1 / statistics.median(shares):.2f} of LifoQueue, target 0.97"
    yield Row(what, statistics.median(shares), "x", 1 / 0.97, baseline="LifoQueue", note=note, rounds=tuple(shares))
    unfair = [1 - share for share in fairness]
    note = f"Jain {statistics.median(fairness):.4f}, target 0.99"
    yield Row("unfairness (1 - Jain)", statistics.median(unfair), "", 0.01, note=note, rounds=tuple(unfair))


def _served(take: Callable[[], Any], give: Callable[[Any], Any], seconds: float) -> list[int]:
    counts, stop = [0] * THREADS, threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            conn = take()
            time.sleep(HOLD_S)
            give(conn)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return counts


async def _longest_wait(scale: Scale) -> Row:
    tasks, connections = 1000, 10
    ratios = []
    for _ in range(scale.pick(5, 3)):
        pool: AsyncConnectionPool[Idle] = AsyncConnectionPool(Idle, min_size=connections, max_size=connections)
        await pool.wait()
        began = time.perf_counter()
        turns = await asyncio.gather(*(_turn(pool, began) for _ in range(tasks)))
        await pool.close()
        hold = statistics.mean(held for _, held in turns)
        ratios.append(max(waited for waited, _ in turns) / (tasks / connections * hold))
    what = "1,000 tasks, 10 connections: longest wait"
    return Row(
        what,
        statistics.median(ratios),
        "x",
        1.15,
        baseline="tasks / connections x hold",
        rounds=tuple(ratios),
    )


async def _turn(pool: AsyncConnectionPool[Idle], began: float) -> tuple[float, float]:
    """Seconds waited and held."""
    async with pool.connection():
        taken = time.perf_counter()
        await asyncio.sleep(0.001)
        return taken - began, time.perf_counter() - taken


def _many_users(scale: Scale) -> Row:
    """As many connections as users, so that one is idle whenever somebody asks."""
    users, turns = 1000, scale.pick(5, 2)
    p99s = []
    for _ in range(scale.pick(5, 1)):
        pool: ConnectionPool[Idle] = ConnectionPool(Idle, min_size=users, max_size=users, timeout=60)
        pool.wait()
        took: list[float] = []
        begin = threading.Barrier(users)

        def work(number: int, pool: ConnectionPool[Idle], took: list[float], begin: threading.Barrier) -> None:
            # Spread over a second: the figure is what a call takes, and not a queue for one processor.
            begin.wait()
            time.sleep(number / users)
            for _ in range(turns):
                began = time.perf_counter()
                conn = pool.acquire()
                took.append(time.perf_counter() - began)
                time.sleep(0.2)
                pool.release(conn)
                time.sleep(0.8)

        threads = [threading.Thread(target=work, args=(number, pool, took, begin)) for number in range(users)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pool.close()
        p99s.append(statistics.quantiles(took, n=100)[98] * 1e3)
    what = "1,000 connections, 1,000 users: acquire p99"
    note = "threads; one connection is idle whenever one asks"
    return Row(what, statistics.median(p99s), "ms", 1.0, note=note, rounds=tuple(p99s))


# -- memory


def _memory(scale: Scale) -> Row:
    count = scale.pick(500, 200)
    near, far = socket.socketpair()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    raw = [near.dup() for _ in range(count)]
    socket_nbytes = (tracemalloc.get_traced_memory()[0] - before) / count
    for end in raw:
        end.close()
    pool: ConnectionPool[socket.socket] = ConnectionPool(near.dup, min_size=count, max_size=count, timeout=60)
    before = tracemalloc.get_traced_memory()[0]
    pool.wait()
    held = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    pool.close()
    near.close()
    far.close()
    note = f"{held:,.0f} B each with its socket, target 2,560 B"
    return Row(
        "memory an idle connection",
        held / 1e6,
        "MB",
        0.00256,
        baseline=f"socket {socket_nbytes:,.0f} B",
        note=note,
    )


def main() -> None:
    """Print the rows."""
    for row in run("--quick" in sys.argv[1:]):
        target = "" if row["target"] is None else f"target {row['target']:.3g}"
        peers = ", ".join(f"{name} {value:.2f}" for name, value in row["peers"].items())
        against = f"{row['baseline']}  {peers}  {row['note']}"
        print(f"{row['question']:<45} {row['ours']:8.4g} {row['unit']:<3} {target:<14} {against}")


if __name__ == "__main__":
    main()
