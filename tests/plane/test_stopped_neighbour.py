"""Somebody has the plane's own lock and does not go on: timeouts hold, event loops turn, nothing is lost.

That a call was in time is asserted by order: when it returns, the neighbour still has the lock, which it would let go long
before a call without a timeout gave up.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmplane
from shmplane.manifest import LEVEL_WORDS
from tests.support.inside import (
    attachment_of,
    claims_in_line,
    host_meter,
    host_permits,
    is_owing,
    mutex_of,
    processes_in_line,
    tables_of,
    watches_of,
    watching_processes,
)
from tests.support.lines import until
from tests.support.processes import Child
from tests.support.stuck import Neighbour, lock_taken, stopped_inside

IN_TIME_S = 0.3


@pytest.fixture(params=[lock_taken, stopped_inside], ids=["taken", "stopped"])
def neighbour(request: pytest.FixtureRequest, plane: shmplane.Plane) -> Callable[[], Any]:
    return lambda: request.param(plane)


def follow(plane: shmplane.Plane) -> Any:
    return next(iter(plane.follow("never", timeout=IN_TIME_S)))


BLOCKING = {
    "lock": lambda plane, lock: lock.acquire(IN_TIME_S),
    "lock, timeout 0": lambda plane, lock: lock.acquire(0),
    "wait": lambda plane, lock: plane.wait("never", timeout=IN_TIME_S),
    "wait, timeout 0": lambda plane, lock: plane.wait("never", timeout=0),
    "wait for what is there": lambda plane, lock: plane.wait("there", timeout=IN_TIME_S),
    "follow": lambda plane, lock: follow(plane),
}
ASYNC = {
    "lock": lambda plane, lock: lock.acquire_async(IN_TIME_S),
    "lock, timeout 0": lambda plane, lock: lock.acquire_async(0),
    "wait": lambda plane, lock: plane.wait_async("never", timeout=IN_TIME_S),
    "wait, timeout 0": lambda plane, lock: plane.wait_async("never", timeout=0),
    "follow": lambda plane, lock: anext(plane.follow_async("never", timeout=IN_TIME_S)),
}


def nothing_is_left(plane: shmplane.Plane, name: str = "l:gpu") -> bool:
    """No place in a line, no watch, nothing owed."""
    plane.stats()  # any call does what is owed
    return not (
        is_owing(plane)
        or watches_of(plane)
        or claims_in_line(plane, name)
        or processes_in_line(plane, name)
        or watching_processes(plane)
    )


@pytest.mark.parametrize("call", BLOCKING.values(), ids=BLOCKING.keys())
def test_a_timeout_counts_the_wait_for_the_planes_lock(
    plane: shmplane.Plane, neighbour: Callable[[], Any], call: Callable[..., Any]
) -> None:
    lock = plane.lock("gpu")
    plane["there"] = 1
    with neighbour() as holder:
        with pytest.raises(shmplane.LockTimeout, match="the plane's lock") as caught:
            call(plane, lock)
        assert holder.has_it
        if holder.pid is not None:
            assert str(holder.pid) in str(caught.value)
    assert nothing_is_left(plane)
    with lock:
        pass


@pytest.mark.parametrize("call", ASYNC.values(), ids=ASYNC.keys())
def test_an_async_timeout_counts_it_too(
    plane: shmplane.Plane, neighbour: Callable[[], Any], call: Callable[..., Any]
) -> None:
    lock = plane.lock("gpu")
    with neighbour() as holder:
        with pytest.raises(shmplane.LockTimeout, match="the plane's lock"):
            asyncio.run(call(plane, lock))
        assert holder.has_it
    assert nothing_is_left(plane)


def test_trying_fails_at_once(plane: shmplane.Plane, neighbour: Callable[[], Any]) -> None:
    lock = plane.lock("gpu")
    with neighbour() as holder:
        assert [lock.try_acquire() for _ in range(5)] == [False] * 5
        assert holder.has_it
    assert lock.try_acquire()
    lock.release()


def test_a_thread_that_queues_behind_a_waiting_thread_names_the_process(plane: shmplane.Plane) -> None:
    lock, outcome = plane.lock("gpu"), []
    with stopped_inside(plane) as holder:
        putting = threading.Thread(target=lambda: outcome.append(plane.put("x", 1).version))
        putting.start()
        mutex = mutex_of(plane)
        until(lambda: not mutex.acquire(False) or mutex.release())
        with pytest.raises(shmplane.LockTimeout, match=f"process {holder.pid} holds it"):
            lock.acquire(IN_TIME_S)
        assert holder.has_it
        holder.go_on()
        putting.join(10)
    assert outcome == [1]


def test_a_call_without_an_end_goes_on_when_the_neighbour_does(plane: shmplane.Plane) -> None:
    lock, seen = plane.lock("gpu"), []
    plane["x"] = 1
    with lock_taken(plane) as holder:

        def wait_for_ever() -> None:
            with lock:
                seen.append(plane.wait("x").value())

        waiting = threading.Thread(target=wait_for_ever)
        waiting.start()
        waiting.join(IN_TIME_S)
        assert not seen
        holder.go_on()
        waiting.join(10)
    assert seen == [1]


# Giving back


def test_a_release_returns_and_the_permit_comes_back_later(plane: shmplane.Plane, neighbour: Callable[[], Any]) -> None:
    semaphore = plane.semaphore("gpu", 2)
    semaphore.acquire()
    semaphore.acquire()
    with neighbour() as holder:
        semaphore.release()
        semaphore.release()
        with pytest.raises(RuntimeError, match="not held by this process"):
            semaphore.release()
        assert holder.has_it
        holder.go_on()
        until(lambda: not is_owing(plane))
    assert semaphore.available == 2
    with pytest.raises(RuntimeError, match="not held by this process"):
        semaphore.release()


def test_the_drain_timer_gives_back_without_another_call(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    permits = tables_of(plane).coordination
    row = permits.find(b"l:gpu")
    with lock_taken(plane) as holder:
        lock.release()
        assert permits.holders(row)
        holder.go_on()
        until(lambda: not permits.holders(row))


def test_what_is_released_while_the_lock_is_not_to_be_had_can_be_taken_again(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    with lock_taken(plane) as holder:
        lock.release()
        holder.go_on()
        lock.acquire(5)
    assert lock.available == 0
    lock.release()
    assert lock.available == 1


def test_a_waiter_that_gives_up_meanwhile_leaves_the_line(plane: shmplane.Plane, neighbour: Callable[[], Any]) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            lock.acquire(IN_TIME_S)
        except shmplane.LockTimeout as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: errors or claims_in_line(plane, "l:gpu"))
    with neighbour():
        waiting.join(5)
        assert not waiting.is_alive()
    assert len(errors) == 1
    assert nothing_is_left(plane)
    lock.release()
    assert lock.available == 1


def test_a_plane_that_is_closed_meanwhile_leaves_when_its_permits_are_back(plane_root: Any) -> None:
    with shmplane.Plane("shared") as outside:
        plane = shmplane.Plane("shared")
        assert attachment_of(outside) is attachment_of(plane)
        lock = plane.lock("gpu")
        lock.acquire()
        with lock_taken(outside) as holder:
            plane.close()
            lock.release()
            holder.go_on()
            until(lambda: not is_owing(outside))
        assert outside.lock("gpu").available == 1
        outside.destroy()


@pytest.mark.parametrize("in_loop", [False, True], ids=["thread", "loop"])
def test_closing_a_plane_does_not_wait_and_leaves_later(plane_root: Any, in_loop: bool) -> None:
    with shmplane.Plane("shared") as outside, Child(_close_when_told, "shared", in_loop) as child:
        assert child.next() == "opened"
        assert outside.stats().processes == 2
        with lock_taken(outside) as holder:
            assert child.next() == "closed"
            assert holder.has_it
        assert child.next() == "left"
        assert outside.stats().processes == 1
        # It has left by itself: nothing was there to be reclaimed.
        assert outside.gc().processes == 0
        outside.destroy()


def _close_when_told(name: str, in_loop: bool) -> Iterator[str]:
    plane = shmplane.Plane(name)
    attachment = attachment_of(plane)
    yield "opened"

    async def close() -> None:
        plane.close()

    if in_loop:
        asyncio.run(close())
    else:
        plane.close()
    yield "closed"
    until(lambda: attachment.ended)
    yield "left"


# Event loops


async def _turns(count: int, done: list[str]) -> None:
    for _ in range(count):
        await asyncio.sleep(0.002)
    done.append("turns")


def test_an_event_loop_turns_while_its_tasks_wait_for_the_planes_lock(
    plane: shmplane.Plane, neighbour: Callable[[], Any]
) -> None:
    lock, done = plane.lock("gpu"), []

    async def wait(name: str, call: Any) -> None:
        with contextlib.suppress(TimeoutError):
            await call
        done.append(name)

    async def main(holder: Neighbour) -> None:
        await asyncio.gather(
            *(wait("acquire", lock.acquire_async(3)) for _ in range(20)),
            *(wait("wait", plane.wait_async(f"never {index}", timeout=3)) for index in range(20)),
            _turns(20, done),
        )
        assert holder.has_it

    with neighbour() as holder:
        asyncio.run(main(holder))
    assert done[0] == "turns"
    assert len(done) == 41
    assert nothing_is_left(plane)


def test_an_asyncio_timeout_around_an_acquire_ends_it(plane: shmplane.Plane, neighbour: Callable[[], Any]) -> None:
    lock = plane.lock("gpu")

    async def main(holder: Neighbour) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(IN_TIME_S):
                await lock.acquire_async()
        assert holder.has_it
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(IN_TIME_S):
                await plane.wait_async("never")
        assert holder.has_it

    with neighbour() as holder:
        asyncio.run(main(holder))
    assert nothing_is_left(plane)


def test_leaving_async_with_does_not_hold_the_loop_up(plane: shmplane.Plane, neighbour: Callable[[], Any]) -> None:
    async def main() -> None:
        async with plane.lock("gpu") as lock:
            stuck = neighbour()
            holder = stuck.__enter__()
        assert holder.has_it
        assert not lock.try_acquire()
        stuck.__exit__(None, None, None)
        await lock.acquire_async(5)
        lock.release()

    asyncio.run(main())
    assert plane.lock("gpu").available == 1


def test_a_semaphore_made_in_a_loop_finds_out_later_that_others_have_another_count(plane: shmplane.Plane) -> None:
    first = plane.semaphore("gpu", 2)
    first.acquire()

    async def main() -> None:
        with lock_taken(plane) as holder:
            other = plane.semaphore("gpu", 3)
            assert holder.has_it
        with pytest.raises(shmplane.PlaneMismatch):
            await other.acquire_async(1)
        with pytest.raises(shmplane.PlaneMismatch):
            plane.semaphore("gpu", 3)

    asyncio.run(main())
    first.release()
    assert first.available == 2


# Pools


def test_a_pools_permits_come_back_later(plane: shmplane.Plane, neighbour: Callable[[], Any]) -> None:
    permits = host_permits(plane, "db", 3)
    assert all(permits.try_acquire() for _ in range(3))
    with neighbour() as holder:
        permits.release()
        assert permits.waiting_elsewhere() == 0
        assert not permits.try_acquire()
        assert not permits.acquire(IN_TIME_S)
        permits.close()
        assert holder.has_it
    others = host_permits(plane, "db", 3)
    assert all(others.try_acquire() for _ in range(3))
    others.close()


def test_a_pool_does_not_hold_its_loop_up(plane: shmplane.Plane) -> None:
    done: list[str] = []

    async def use(pool: Any) -> None:
        with contextlib.suppress(shmplane.PoolTimeout):
            async with pool.connection():
                done.append("used")

    async def main() -> None:
        pool: Any = shmplane.AsyncConnectionPool(object, max_size=3, name="db", plane=plane, host_limit=3, timeout=30)
        conn = await pool.acquire()
        with lock_taken(plane) as holder:
            waiting = [asyncio.create_task(use(pool)) for _ in range(5)]
            await _turns(20, done)
            await pool.release(conn, broken=True)
            assert holder.has_it
            assert done[0] == "turns"
        await asyncio.gather(*waiting)
        await pool.close()

    asyncio.run(main())
    assert done.count("used") == 5
    assert shmplane.connections.host_statistics(plane)["db"].size == 0
    permits = host_permits(plane, "db", 3)
    # In line, since a thread of the pool may be about to leave it.
    assert all(permits.acquire(5) for _ in range(3))
    permits.close()


def test_what_pools_counted_meanwhile_is_seen_later(plane: shmplane.Plane) -> None:
    going_on, ended = host_meter(plane, "going on"), host_meter(plane, "ended")
    levels = [0] * LEVEL_WORDS
    with lock_taken(plane) as holder:
        for count in (1, 2):
            going_on.publish([7, *levels[1:], count])
            ended.publish([7, *levels[1:], count])
        ended.close()
        assert holder.has_it
    totals = {name: host_meter(plane, name).total() for name in ("going on", "ended")}
    assert totals["going on"][: LEVEL_WORDS + 1] == [7, *levels[1:], 2]
    assert totals["ended"][: LEVEL_WORDS + 1] == [*levels, 2]
