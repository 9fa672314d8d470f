"""Queues over all processes: order, room, leases, and what ended processes leave."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.inside import change, manifest_of, nothing_is_settled_at_once, processes_in_line, rate_waiters
from tests.support.lines import until
from tests.support.processes import Child, run_python


def take(plane: Any, name: str, maxsize: int = 0) -> Iterator[Any]:
    """A child that takes one item for its work, and says what it is; then it has failed."""
    items = plane.queue(name, maxsize)
    yield "ready"
    with items.lease(30) as item:
        yield item.value(), item.attempts
        raise ValueError("its work failed")


def get_all(plane: Any, name: str, maxsize: int) -> list[Any]:
    items, found = plane.queue(name, maxsize), []
    while (value := items.get(30)) is not None:
        found.append(value)
    return found


def put_all(plane: Any, name: str, maxsize: int, values: list[Any]) -> None:
    items = plane.queue(name, maxsize)
    for value in values:
        items.put(value, 30)


# One process


@pytest.mark.parametrize(
    "value", [None, 7, "text", {"a": [1, 2]}, b"bytes", b"b" * 200_000, {"x": np.arange(3), "y": "z"}], ids=str
)
def test_what_comes_out_is_what_was_put(plane: shmplane.Plane, value: Any) -> None:
    items = plane.queue("jobs")
    items.put(value)
    found = items.get(0)
    if isinstance(value, bytes):
        assert bytes(found) == value
    elif isinstance(value, dict) and "x" in value:
        assert found["x"].tolist() == [0, 1, 2]
        assert not found["x"].flags.writeable
    else:
        assert found == value
    assert items.empty()


def test_items_come_out_in_the_order_in_which_they_were_put(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    for number in range(50):
        items.put(number if number % 7 else {"large": np.zeros(20_000)})
    assert items.qsize() == 50
    assert [value if isinstance(value, int) else -1 for value in (items.get() for _ in range(50))] == [
        number if number % 7 else -1 for number in range(50)
    ]


def test_two_objects_of_a_name_are_one_queue_and_of_two_names_are_two(plane: shmplane.Plane) -> None:
    plane.queue("a").put(1)
    plane.queue("b").put(2)
    assert (plane.queue("b").get(0), plane.queue("a").get(0)) == (2, 1)


def test_an_empty_queue_and_a_full_one_say_so_as_those_of_the_standard_library(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs", 2)
    assert (items.empty(), items.full(), items.qsize()) == (True, False, 0)
    with pytest.raises(queue.Empty, match="no item within 0 s"):
        items.get_nowait()
    with pytest.raises(queue.Empty):
        items.get(0.01)
    with pytest.raises(queue.Empty):
        items.lease(0)
    items.put_nowait(1)
    items.put(2)
    assert (items.empty(), items.full(), items.qsize()) == (False, True, 2)
    with pytest.raises(queue.Full, match="no room within 0 s"):
        items.put_nowait(3)
    with pytest.raises(queue.Full):
        items.put({"large": np.zeros(50_000)}, 0.01)
    assert [items.get(0), items.get(0)] == [1, 2]


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_an_impossible_timeout_is_refused(plane: shmplane.Plane, timeout: float) -> None:
    items = plane.queue("jobs")
    for call in (items.get, items.lease, items.lease_async, lambda timeout: items.put(1, timeout)):
        with pytest.raises(ValueError, match="timeout"):
            call(timeout)
    assert items.empty()


@pytest.mark.parametrize("maxsize", [True, 1.5, "3", None])
def test_a_size_that_is_no_int_is_refused(plane: shmplane.Plane, maxsize: Any) -> None:
    with pytest.raises(TypeError):
        plane.queue("jobs", maxsize)


@pytest.mark.parametrize("maxsize", [2**63, 2**70])
def test_a_size_that_no_word_can_hold_is_refused_and_harms_nothing(plane: shmplane.Plane, maxsize: int) -> None:
    with pytest.raises(ValueError, match="maxsize"):
        plane.queue("jobs", maxsize)
    items = plane.queue("jobs", sys.maxsize)
    items.put(1)
    assert items.get(0) == 1


def test_a_value_of_no_kind_is_refused_and_leaves_nothing(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    with pytest.raises(shmplane.UnsupportedValue):
        items.put(object())
    assert items.empty()
    assert plane.stats().blocks == 0


def test_another_size_is_a_mismatch_while_it_is_in_use_or_has_items(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs", 2)
    with pytest.raises(shmplane.PlaneMismatch, match=r"maxsize of 2 .* asked for 3"):
        plane.queue("jobs", 3)
    items.put(1)
    del items
    gc.collect()
    with pytest.raises(shmplane.PlaneMismatch):
        plane.queue("jobs")
    plane.queue("jobs", 2).get(0)
    gc.collect()
    assert plane.queue("jobs", 3).maxsize == 3


def test_items_stay_when_no_process_uses_the_queue(plane_root: Any) -> None:
    with shmplane.Plane("market", root=plane_root) as first:
        first.queue("jobs").put({"n": 1})
    with shmplane.Plane("market", root=plane_root) as again:
        assert again.queue("jobs").get(0) == {"n": 1}
        again.destroy()


def test_items_have_no_names(plane: shmplane.Plane) -> None:
    plane.queue("jobs").put(1)
    assert plane.names() == []
    assert [info.name for info in plane.blocks()] == [None]


# Leases


def test_a_leased_item_is_done_at_a_clean_end(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put(b"x" * 100)
    with items.lease() as item:
        assert items.qsize() == 0
        kept = item.value()
    assert items.empty()
    assert bytes(kept) == b"x" * 100
    del kept, item
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == 0


@pytest.mark.parametrize("items_before", [0, 40], ids=["a block", "an entry of its ring"])
def test_an_item_that_is_done_while_somebody_has_the_lock_leaves_no_block(
    plane: shmplane.Plane, items_before: int
) -> None:
    items = plane.queue("jobs")
    for _ in range(items_before):
        items.put(b"")
        items.get()
    items.put(b"x" * 100)
    plane.gc()
    with nothing_is_settled_at_once(plane), items.lease(5) as item:
        item.value()
    del item
    gc.collect()
    assert items.qsize() == 0
    assert not faults_of(plane)


def test_gc_frees_a_block_that_nothing_holds(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put(b"x" * 100)
    change(plane, _lose_first_item, b"q:jobs")
    assert any("nothing holds" in fault for fault in faults_of(plane))
    assert plane.gc().blocks == 1
    assert plane.stats().blocks == 0
    assert not faults_of(plane)


def _lose_first_item(tx: Any, key: bytes) -> None:
    queue = tx.coordination.find(key)
    tx.items.remove(queue, tx.items.first(queue), SimpleNamespace())


def test_a_leased_item_comes_back_to_the_front_after_an_exception(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    for number in range(3):
        items.put(number)
    first, second = items.lease(), items.lease()
    second.put_back()
    with pytest.raises(KeyError), first:
        raise KeyError
    assert [(item.value(), item.attempts) for item in [items.lease() for _ in range(3)]] == [(0, 2), (1, 2), (2, 1)]


def test_an_item_ends_once(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put(1)
    item = items.lease()
    item.done()
    for end in (item.done, item.put_back):
        with pytest.raises(RuntimeError, match="done or was put back already"):
            end()
    assert items.empty()


def test_the_value_of_an_item_that_has_ended_is_refused_by_the_name_of_its_queue(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put(1)
    with items.lease() as item:
        assert item.value() == 1
    with pytest.raises(shmplane.ClosedError, match=r"item of queue 'jobs' of plane .* has ended"):
        item.value()


def test_an_item_that_nobody_has_any_more_comes_back(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put(1)
    item = items.lease()
    assert item.attempts == 1
    del item
    gc.collect()
    assert items.lease(5).attempts == 2


def test_an_item_that_is_ended_inside_of_its_block_stays_so(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put(1)
    with items.lease() as item:
        item.put_back()
    assert items.qsize() == 1


# Processes


def test_producers_and_consumers_of_several_processes_deliver_each_item_once_and_in_order(
    plane: shmplane.Plane,
) -> None:
    names = [[f"{producer}/{number}" for number in range(150)] for producer in range(2)]
    with (
        Child(get_all, plane, "jobs", 10, method="fork") as one,
        Child(get_all, plane, "jobs", 10, method="fork") as two,
        Child(put_all, plane, "jobs", 10, names[0], method="fork") as first,
        Child(put_all, plane, "jobs", 10, names[1], method="fork") as second,
    ):
        for child in (one, two, first, second):
            child._tell("finish")
        for child in (first, second):
            child._receive("returned", 60)
        put_all(plane, "jobs", 10, [None, None])
        found = [child._receive("returned", 60) for child in (one, two)]
    assert Counter(found[0] + found[1]) == Counter(names[0] + names[1])
    for values in found:
        for producer in "01":
            numbers = [int(value.split("/")[1]) for value in values if value.startswith(producer)]
            assert numbers == sorted(numbers)


def test_what_a_killed_consumer_had_comes_back(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put("first")
    items.put("second")
    with Child(take, plane, "jobs", method="fork") as child:
        child.next()
        assert child.next() == ("first", 1)
        child.kill()
    with items.lease(10) as item:
        assert (item.value(), item.attempts) in {("first", 2), ("second", 1)}
        first = item.value()
    assert {first, items.get(10)} == {"first", "second"}


def test_a_waiting_consumer_gets_what_a_killed_one_had(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put("only")
    with Child(take, plane, "jobs", method="fork") as child:
        child.next()
        child.next()
        threading.Timer(0.1, child.kill).start()
        assert items.get(10) == "only"


def test_what_an_exception_of_another_process_left_comes_back(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put("only")
    with Child(take, plane, "jobs", method="fork") as child:
        child.next()
        child.next()
        with pytest.raises(ValueError, match="its work failed"):
            child.next()
        assert items.lease(10).attempts == 2


def test_waiters_are_served_in_the_order_in_which_they_came(plane: shmplane.Plane) -> None:
    items, got = plane.queue("jobs"), []
    threads = [threading.Thread(target=lambda: got.append((threading.get_ident(), items.get(20)))) for _ in range(4)]
    for count, thread in enumerate(threads, start=1):
        thread.start()
        until(lambda: rate_waiters(plane, "jobs", "q") == count)  # noqa: B023
    for number in range(4):
        items.put(number)
        until(lambda: len(got) == number + 1)  # noqa: B023
    for thread in threads:
        thread.join(20)
    assert got == [(thread.ident, number) for number, thread in enumerate(threads)]


def test_a_killed_waiter_holds_up_nobody(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    with Child(take, plane, "jobs", method="fork") as child:
        child.next()
        child._tell("next")
        until(lambda: processes_in_line(plane, "q:jobs") == 1)
        child.kill()
    items.put(1)
    assert items.get(10) == 1


def test_room_wakes_who_waits_for_it(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs", 1)
    items.put(0)
    putting = threading.Thread(target=items.put, args=(b"x" * 100_000,))
    putting.start()
    until(lambda: rate_waiters(plane, "jobs", "Q") == 1)
    assert items.get(0) == 0
    putting.join(20)
    assert len(items.get(0)) == 100_000


def test_a_forked_child_has_nothing_of_what_its_parent_took(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    items.put(1)
    item = items.lease()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            plane.queue("jobs").put(2)
            del item
            gc.collect()
            plane.gc()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (items.get(0), items.empty()) == (2, True)
    item.put_back()
    assert items.get(0) == 1


def test_a_plane_that_is_closed_or_destroyed_ends_waits(plane: shmplane.Plane) -> None:
    other = shmplane.Plane(plane.name, root=plane.root)
    items = other.queue("jobs")
    threading.Timer(0.1, other.close).start()
    with pytest.raises(shmplane.ClosedError):
        items.get(20)
    items = plane.queue("jobs")
    threading.Timer(0.1, plane.destroy).start()
    with pytest.raises(shmplane.ClosedError):
        items.get(20)


def test_items_and_their_order_survive_a_recovery(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    for number in range(5):
        items.put(number)
    held = items.lease()
    with Child(_leave_the_lock_dirty, plane, method="fork") as victim:
        victim.process.join(10)
    assert items.qsize() == 4
    held.put_back()
    assert [items.get(0) for _ in range(5)] == [0, 1, 2, 3, 4]


def _leave_the_lock_dirty(plane: Any) -> None:
    change(plane, lambda tx: os._exit(1))


WATCHED = """
import sys
from shmplane.system import hostlock

held, loaded, run = [], [], hostlock.HostLock.run

def watched(lock, timeout, operation, *args):
    def inside(*args):
        held.append(1)
        try:
            return operation(*args)
        finally:
            held.pop()
    return run(lock, timeout, inside, *args)

class Imports:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("shmplane.manifest"):
            loaded.append((name.removeprefix("shmplane.manifest."), bool(held)))

import shmplane
import shmplane.plane.plane
hostlock.HostLock.run = watched
sys.meta_path.insert(0, Imports())
with shmplane.Plane({name!r}, root={root!r}) as plane:
    {call}
print(loaded)
assert ({module!r}, False) in loaded
assert not [name for name, is_held in loaded if is_held]
"""


def test_what_a_recovery_needs_is_loaded_before_the_lock_is_taken(plane_root: Any) -> None:
    """An import under the lock that Ctrl-C ends would leave its module locked, and the next one waiting with the lock."""
    with shmplane.Plane("queued", root=plane_root) as plane:
        plane.queue("jobs").put(1)
        with Child(_leave_the_lock_dirty, plane, method="fork") as victim:
            victim.process.join(10)
        run_python(WATCHED.format(name="queued", root=str(plane_root), call="plane.names()", module="items"))
        assert plane.queue("jobs").get(0) == 1


@pytest.mark.parametrize(
    ("call", "module"), [("plane.queue('jobs')", "items"), ("plane.rate('api', 1, per=1.0)", "rates")]
)
def test_what_a_queue_or_rate_needs_is_loaded_before_the_lock_is_taken(plane_root: Any, call: str, module: str) -> None:
    run_python(WATCHED.format(name="new", root=str(plane_root), call=call, module=module))


def test_what_joining_after_a_death_needs_is_loaded_before_the_lock_is_taken(plane_root: Any) -> None:
    with shmplane.Plane("queued", root=plane_root) as plane:
        plane.queue("jobs").put(1)
        with Child(_die_with_an_item, plane, method="fork") as victim:
            victim.process.join(10)
        manifest_of(plane).header.scanned[0] = time.monotonic_ns()  # so that nobody looks for the dead, but who joins
        run_python(WATCHED.format(name="queued", root=str(plane_root), call="plane.names()", module="items"))
        assert plane.queue("jobs").get(0) == 1


def _die_with_an_item(plane: Any) -> None:
    _ = plane.queue("jobs").lease(0)
    os._exit(1)


# Asyncio


def test_tasks_put_and_get(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs", 2)

    async def produce() -> None:
        for number in range(20):
            await items.put_async({"n": number, "large": np.full(20_000, number)} if number % 5 == 0 else number)

    async def run() -> list[Any]:
        producing = asyncio.create_task(produce())
        found = [await items.get_async(20) for _ in range(20)]
        await producing
        return found

    found = asyncio.run(run())
    assert [value["n"] if isinstance(value, dict) else value for value in found] == list(range(20))


def test_a_cancelled_get_takes_nothing(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")

    async def run() -> None:
        getting = asyncio.create_task(items.get_async())
        await asyncio.to_thread(until, lambda: rate_waiters(plane, "jobs", "q") == 1)
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        await items.put_async(1)

    asyncio.run(run())
    assert rate_waiters(plane, "jobs", "q") == 0
    assert items.get(0) == 1


def test_a_lease_can_be_awaited_or_entered(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs")
    for number in range(2):
        items.put(number)

    async def run() -> None:
        async with items.lease_async() as item:
            assert item.value() == 0
        with pytest.raises(KeyError):
            async with await items.lease_async():
                raise KeyError
        with pytest.raises(queue.Empty):
            async with items.lease_async(0) as item, items.lease_async(0):
                pass

    asyncio.run(run())
    assert items.lease(0).attempts == 3


def test_time_in_line_counts_against_the_timeout(plane: shmplane.Plane) -> None:
    items = plane.queue("jobs", 1)
    items.put(0)
    began = time.monotonic()
    with pytest.raises(queue.Full):
        items.put(1, 0.05)
    assert time.monotonic() - began >= 0.05
    assert rate_waiters(plane, "jobs", "Q") == 0
