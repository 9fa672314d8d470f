"""The pool for threads."""

# ruff: noqa: PT031  (a warning comes when the garbage is collected)

from __future__ import annotations

import gc
import logging
import pickle
import threading
import time

import pytest

from shmplane.connections import ConnectionPool
from shmplane.errors import PoolClosed, PoolTimeout, TooManyWaiters
from tests.connections.fakes import Conn, Server, until, works


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def pool(server):
    with ConnectionPool(server.connect, max_size=2, timeout=5) as pool:
        yield pool
    assert pool.stats().size == 0


def test_a_pool_opens_nothing_until_it_is_used(server) -> None:
    pool = ConnectionPool(server.connect, min_size=2)
    time.sleep(0.01)
    assert server.made == []
    with pool.connection() as conn:
        assert isinstance(conn, Conn)
    pool.close()


def test_a_connection_is_used_again(pool, server) -> None:
    with pool.connection() as first:
        pass
    with pool.connection() as second:
        pass
    assert first is second
    assert len(server.made) == 1


def test_min_size_is_kept_open(server) -> None:
    with ConnectionPool(server.connect, min_size=3, max_size=5) as pool:
        pool.wait(timeout=5)
        assert server.open == 3
        conn = pool.acquire()
        pool.release(conn, broken=True)
        until(lambda: server.open == 3)
    assert server.open == 0


def test_wait_says_why_the_connections_are_not_there(server) -> None:
    server.fail = ConnectionRefusedError("nobody listens")
    with ConnectionPool(server.connect, min_size=1) as pool, pytest.raises(PoolTimeout) as raised:
        pool.wait(timeout=0.05)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


def test_a_connect_that_fails_is_retried_until_it_works(server) -> None:
    server.fail = OSError("not yet")
    with ConnectionPool(server.connect) as pool:
        threading.Timer(0.1, lambda: setattr(server, "fail", None)).start()
        with pool.connection(timeout=10) as conn:
            assert not conn.closed
        assert pool.stats().connect_errors >= 1


def test_a_timeout_names_the_last_error_and_the_holders(pool, server) -> None:
    held = [pool.acquire(), pool.acquire()]
    with pytest.raises(PoolTimeout) as raised:
        pool.acquire(timeout=0.02)
    assert len(raised.value.facts["holders"]) == 2
    assert "test_pool.py" in str(raised.value)
    assert "MainThread" in str(raised.value)
    assert "test_a_timeout_names_the_last_error_and_the_holders" in raised.value.facts["holders"][0]
    copy = pickle.loads(pickle.dumps(raised.value))
    assert copy.facts["holders"] == raised.value.facts["holders"]
    for conn in held:
        pool.release(conn)
    assert pool.stats().timeouts == 1


def test_timeout_zero_never_waits(pool, server) -> None:
    server.hang = threading.Event()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0)
    server.hang.set()
    # It asked for one, though, and the next may have it.
    until(lambda: pool.stats().idle == 1)
    pool.release(pool.acquire(timeout=0))


def test_a_waiter_takes_whichever_connection_is_first(pool, server) -> None:
    conn = pool.acquire()
    server.hang = threading.Event()
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire()))
    thread.start()
    until(lambda: pool.stats().waiting == 1)
    pool.release(conn)
    thread.join(5)
    assert got == [conn]
    server.hang.set()
    pool.release(conn)


def test_waiters_are_served_in_the_order_they_came(server) -> None:
    with ConnectionPool(server.connect, max_size=1, timeout=10) as pool:
        conn, order, threads = pool.acquire(), [], []
        for number in range(5):

            def use(number: int = number) -> None:
                with pool.connection():
                    order.append(number)

            threads.append(threading.Thread(target=use))
            threads[-1].start()
            until(lambda number=number: pool.stats().waiting == number + 1)
        pool.release(conn)
        for thread in threads:
            thread.join(5)
        assert order == [0, 1, 2, 3, 4]


def test_the_queue_has_a_limit(server) -> None:
    with ConnectionPool(server.connect, max_size=1, max_waiting=1) as pool:
        conn = pool.acquire()
        thread = threading.Thread(target=lambda: pool.release(pool.acquire()))
        thread.start()
        until(lambda: pool.stats().waiting == 1)
        with pytest.raises(TooManyWaiters):
            pool.acquire()
        pool.release(conn)
        thread.join(5)
        assert pool.stats().refused == 1


def test_a_broken_connection_is_closed(pool, server) -> None:
    conn = pool.acquire()
    pool.release(conn, broken=True)
    assert conn.closed
    assert pool.acquire() is not conn
    pool.release(server.made[-1])


def test_an_exception_closes_the_connection(pool) -> None:
    with pytest.raises(KeyError), pool.connection() as conn:
        raise KeyError
    assert conn.closed


def test_an_exception_does_not_close_what_reset_cleaned(server) -> None:
    with ConnectionPool(server.connect, reset=Conn.note_reset) as pool:
        with pytest.raises(KeyError), pool.connection() as conn:
            raise KeyError
        assert not conn.closed


@pytest.mark.parametrize("failure", [False, RuntimeError("cannot"), None])
def test_a_failed_reset_closes_the_connection(server, failure) -> None:
    def reset(conn: Conn) -> object:
        if isinstance(failure, Exception):
            raise failure
        return failure

    with ConnectionPool(server.connect, reset=reset) as pool:
        with pool.connection() as conn:
            pass
        assert conn.closed == (failure is not None)


@pytest.mark.parametrize("how", ["false", "raises"])
def test_a_failed_check_goes_on_with_the_next_connection_at_once(server, how) -> None:
    def check(conn: Conn) -> bool:
        if conn.broken and how == "raises":
            raise OSError("gone")
        return not conn.broken

    with ConnectionPool(server.connect, check=check, max_size=3) as pool:
        conns = [pool.acquire() for _ in range(3)]
        for conn in conns:
            pool.release(conn)
        conns[1].broken = conns[2].broken = True
        with pool.connection(timeout=5) as conn:
            assert conn is conns[0]
        assert conns[1].closed
        assert conns[2].closed


def test_a_new_connection_is_configured_and_not_checked(server) -> None:
    configured: list[Conn] = []
    with ConnectionPool(server.connect, configure=configured.append, check=works) as pool:
        with pool.connection() as conn:
            assert (configured, conn.checks) == ([conn], 0)


def test_a_connection_that_cannot_be_configured_is_closed(server) -> None:
    def configure(conn: Conn) -> None:
        raise ValueError("no such setting")

    with ConnectionPool(server.connect, configure=configure) as pool:
        with pytest.raises(PoolTimeout) as raised:
            pool.acquire(timeout=0.02)
        assert isinstance(raised.value.__cause__, ValueError)
        until(lambda: server.open == 0)


def test_idle_connections_are_checked_and_replaced_in_the_background(server) -> None:
    with ConnectionPool(server.connect, check=works, min_size=1, max_idle=0.05) as pool:
        pool.wait(5)
        (conn,) = server.made
        conn.broken = True
        until(lambda: conn.closed and server.open == 1)


def test_idle_connections_are_closed_after_max_idle(server) -> None:
    with ConnectionPool(server.connect, min_size=1, max_size=3, max_idle=0.05) as pool:
        conns = [pool.acquire() for _ in range(3)]
        for conn in conns:
            pool.release(conn)
        until(lambda: server.open == 1)


def test_connections_are_replaced_after_their_lifetime(server) -> None:
    with ConnectionPool(server.connect, min_size=1, max_lifetime=0.05) as pool:
        pool.wait(5)
        until(lambda: len(server.made) >= 3)
        assert server.most_open <= 2


def test_releasing_twice_is_an_error(pool) -> None:
    conn = pool.acquire()
    pool.release(conn)
    with pytest.raises(ValueError, match="once"):
        pool.release(conn)
    assert pool.stats().idle == 1


def test_releasing_what_belongs_to_another_pool_is_an_error(pool, server) -> None:
    with ConnectionPool(server.connect) as other, other.connection() as conn:
        with pytest.raises(ValueError, match="did not hand out"):
            pool.release(conn)


def test_a_dropped_connection_gives_its_slot_back(server) -> None:
    with ConnectionPool(server.connect, max_size=1) as pool:
        conn = pool.acquire()
        server.forget()
        with pytest.warns(ResourceWarning, match="dropped without release") as warned:
            del conn
            gc.collect()
        assert warned[0].filename == __file__
        pool.release(pool.acquire(timeout=5))
        assert pool.stats().dropped == 1


def test_a_connection_that_takes_no_weak_reference_works_as_well() -> None:
    pool: ConnectionPool[list[int]] = ConnectionPool(list, close=list.clear, max_size=1)
    with pool:
        conn = pool.acquire()
        pool.release(conn)
        assert pool.acquire() is conn
        with pytest.raises(ValueError, match="did not hand out"):
            pool.release([])
        pool.release(conn)


def test_a_leak_is_logged_with_where_it_was_taken(server, caplog) -> None:
    with caplog.at_level(logging.WARNING), ConnectionPool(server.connect, leak_after=0.03) as pool:
        conn = pool.acquire()
        until(lambda: pool.stats().leaked == 1)
        pool.release(conn)
        assert pool.health().status == "warn"
    assert "test_a_leak_is_logged_with_where_it_was_taken" in caplog.text


def test_a_closed_pool_refuses(server) -> None:
    pool = ConnectionPool(server.connect)
    pool.close()
    for use in (pool.acquire, pool.wait, pool.__enter__):
        with pytest.raises(PoolClosed):
            use()
    pool.close()


def test_closing_wakes_those_who_wait(server) -> None:
    pool = ConnectionPool(server.connect, max_size=1)
    conn, errors = pool.acquire(), []

    def wait() -> None:
        try:
            pool.acquire()
        except PoolClosed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: pool.stats().waiting == 1)
    pool.close(grace=0)
    thread.join(5)
    assert len(errors) == 1
    assert not conn.closed
    pool.release(conn)
    assert conn.closed


def test_closing_waits_for_connections_in_use(server) -> None:
    pool = ConnectionPool(server.connect)
    conn = pool.acquire()
    threading.Timer(0.05, pool.release, [conn]).start()
    pool.close(grace=10)
    assert conn.closed
    assert server.open == 0


def test_draining_replaces_connections(pool, server) -> None:
    out, idle = pool.acquire(), pool.acquire()
    pool.release(idle)
    pool.drain()
    assert (idle.closed, out.closed) == (True, False)
    pool.release(out)
    assert out.closed


def test_resizing_takes_effect(server) -> None:
    with ConnectionPool(server.connect, max_size=1) as pool:
        one = pool.acquire()
        pool.resize(2)
        two = pool.acquire(timeout=5)
        pool.resize(1)
        pool.release(one)
        assert one.closed
        pool.release(two)
        assert not two.closed
        with pytest.raises(ValueError, match="at least 1"):
            pool.resize(0)


def test_a_paused_pool_lets_callers_wait(pool) -> None:
    pool.release(pool.acquire())
    pool.pause()
    with pytest.raises(PoolTimeout, match="paused"):
        pool.acquire(timeout=0.02)
    threading.Timer(0.02, pool.resume).start()
    pool.release(pool.acquire(timeout=10))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_size": 0}, {"min_size": -1}, {"min_size": 5, "max_size": 4}, {"timeout": -1},
        {"max_idle": -0.1},
        {"max_lifetime": -1}, {"max_lifetime": 0}, {"leak_after": -1}, {"max_waiting": -1}, {"host_limit": 3},
        {"timeout": float("nan")},
    ],
)  # fmt: skip
def test_bad_sizes_and_times_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"\d|never|plane"):
        ConnectionPool(Server().connect, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"max_size": 1.5}, {"timeout": "1"}, {"check": 1}, {"name": 3}, {"plane": 3, "name": "x", "host_limit": 2}],
)
def test_bad_types_are_refused(wrong) -> None:
    with pytest.raises(TypeError):
        ConnectionPool(Server().connect, **wrong)


def test_a_negative_timeout_costs_no_connection(pool) -> None:
    pool.release(pool.acquire())
    with pytest.raises(ValueError, match="0 or more"):
        pool.acquire(timeout=-1)
    assert pool.stats().idle == 1


def test_a_pool_is_pickled_as_what_it_was_made_with() -> None:
    pool = pickle.loads(pickle.dumps(ConnectionPool(Server, max_size=3, name="p")))
    assert (pool.name, pool.stats().max_size) == ("p", 3)
    with pool.connection() as conn:
        assert isinstance(conn, Server)
    pool.close()


def test_statistics_count_what_happened(pool) -> None:
    for _ in range(3):
        with pool.connection():
            pass
    with pool.connection():
        stats = pool.stats()
    assert (stats.acquires, stats.used, stats.idle, stats.connects) == (4, 1, 0, 1)
    assert stats.wait_time.count == 4
    assert stats.use_time.count == 3
    total = stats + stats
    assert (total.acquires, total.pools, total.use_time.count) == (8, 2, 6)
    names = {measurement.name for measurement in stats.measurements()}
    assert names == {
        f"db.client.connection.{what}"
        for what in (
            "count", "idle.min", "idle.max", "max", "pending_requests", "timeouts",
            "create_time", "wait_time", "use_time",
        )
    }  # fmt: skip


def test_health_follows_the_pool(server) -> None:
    pool = ConnectionPool(server.connect)
    assert pool.health().status == "pass"
    server.fail = OSError("down")
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.01)
    until(lambda: pool.stats().connect_errors > 0)
    assert pool.health().status == "fail"
    server.fail = None
    pool.close()
    assert pool.health().status == "fail"


def test_many_threads_never_have_more_than_max_size(server) -> None:
    def work(pool: ConnectionPool[Conn]) -> None:
        for number in range(100):
            if number % 10 == 0:
                with pytest.raises(KeyError), pool.connection():
                    raise KeyError
            else:
                with pool.connection() as conn:
                    assert not conn.closed

    with ConnectionPool(server.connect, max_size=3, timeout=30) as pool:
        threads = [threading.Thread(target=work, args=(pool,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert server.most_open <= 3
        assert pool.stats().acquires == 1200
        assert pool.stats().used == 0
    assert server.open == 0


def test_a_forgotten_pool_can_be_collected(server) -> None:
    import weakref

    pool = ConnectionPool(server.connect)
    pool.release(pool.acquire())
    ref = weakref.ref(pool)
    del pool

    def is_gone() -> bool:
        gc.collect()
        return ref() is None

    until(is_gone)


def test_1500_connections_can_be_open_at_once(server) -> None:
    with ConnectionPool(server.connect, min_size=1500, max_size=1500, timeout=60) as pool:
        pool.wait()
        conns = [pool.acquire() for _ in range(1500)]
        assert len(set(map(id, conns))) == 1500
        for conn in conns:
            pool.release(conn)


def test_who_a_free_slot_will_serve_does_not_count_as_waiting() -> None:
    server = Server()
    with ConnectionPool(server.connect, max_size=2, max_waiting=0) as pool:
        held = [pool.acquire(timeout=10), pool.acquire(timeout=10)]
        with pytest.raises(TooManyWaiters):
            pool.acquire(timeout=10)
        for conn in held:
            pool.release(conn)
        with pool.connection(timeout=10):
            pass
