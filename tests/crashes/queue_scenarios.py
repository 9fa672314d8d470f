"""Queues, as scenarios: each item waits, is taken by a living process, or is gone, and each is there once."""

from __future__ import annotations

import contextlib
import gc
import queue
from typing import Any

from tests.support.crashing import Scenario, World
from tests.support.inside import before_it_is_owed, nothing_is_settled_at_once, processes_in_line, rate_waiters
from tests.support.thrown import is_thrown

SMALL, LARGE = b"a" * 500, b"A" * 100_000
OLD = [b"first" * 10, b"second" * 10]
NAME = "used"
ITEMS_UNTIL_A_RING = 40


def _queue(world: World, maxsize: int = 0) -> Any:
    return world.plane.queue(NAME, maxsize)


def _fill(world: World, values: list[bytes] = OLD, maxsize: int = 0) -> None:
    _drain(world, world.scratch.pop("maxsize", 0))
    gc.collect()
    world.plane.gc()
    items = _queue(world, maxsize)
    world.scratch["maxsize"] = maxsize
    for value in values:
        items.put(value)


def _fill_ring(world: World) -> None:
    """The same items, in the queue's ring, which stays since the survivor uses the queue."""
    items = world.scratch.get("queue")
    if items is None:
        items = world.scratch["queue"] = _queue(world)
        for _ in range(ITEMS_UNTIL_A_RING):
            items.put(b"")
        _drain(world, 0)
        world.plane.gc()
        world.baseline = world.totals()
    _drain(world, 0)
    for value in OLD:
        items.put(value)


def _drain(world: World, maxsize: int) -> list[bytes]:
    items, found = _queue(world, maxsize), []
    while True:
        try:
            found.append(bytes(items.get(0)))
        except queue.Empty:
            return found


def _has(*allowed: list[bytes]) -> Any:
    """Such items in that order; the last of them when it was finished. Nobody stands in line, and nothing stays."""

    def check(world: World, finished: bool) -> list[str]:
        world.plane.gc()
        lines = [
            processes_in_line(world.plane, f"{kind}:{NAME}") + rate_waiters(world.plane, NAME, kind) for kind in "qQ"
        ]
        found = _drain(world, world.scratch.get("maxsize", 0))
        gc.collect()
        fits = found in (allowed[-1:] if finished else allowed)
        problems = [] if fits else [f"items {[value[:6] for value in found]}, finished={finished}"]
        return problems + ([f"{lines} in line"] if any(lines) else [])

    return check


def _put(value: bytes) -> Any:
    return lambda world, items: items.put(value)


def _get(world: World, items: Any) -> Any:
    return items.get(5)


def _get_or_leave(world: World, items: Any) -> Any:
    """The same; when a handler raised in it, the item is still there."""
    try:
        return items.get(5)
    except BaseException as error:
        if is_thrown(error) and items.qsize() != len(OLD):
            raise AssertionError("after an interrupt the item is gone") from error
        raise


def _work(world: World, items: Any) -> None:
    with items.lease(5):
        pass


def _work_with_the_lock_taken(world: World, items: Any) -> None:
    with nothing_is_settled_at_once(world.plane), items.lease(5):
        pass
    items.qsize()


class _Failed(Exception):
    """What leaves a block."""


def _fail(world: World, items: Any) -> None:
    try:
        with items.lease(5):
            raise _Failed
    except _Failed:
        pass


def _fail_with_the_lock_taken(world: World, items: Any) -> None:
    with nothing_is_settled_at_once(world.plane):
        _fail(world, items)
    items.qsize()


def _get_in_vain(world: World, items: Any) -> None:
    with contextlib.suppress(queue.Empty):
        items.get(0.002)


def _put_in_vain(world: World, items: Any) -> None:
    with contextlib.suppress(queue.Full):
        items.put(SMALL, 0.002)


def _lease(world: World) -> Any:
    return _queue(world).lease(5)


def _overtaken(operate: Any) -> Any:
    """When it is interrupted, another lease comes before what it owes is undone, and is put back afterwards."""

    def both(world: World, items: Any) -> Any:
        others: list[Any] = []
        with before_it_is_owed(world.plane, lambda: others.append(items.lease(5))):
            try:
                return operate(world, items)
            finally:
                for other in others:
                    left = items.qsize()
                    other.put_back()
                    assert left == len(OLD) - 1, f"{left} items wait while one of {len(OLD)} is leased"

    return both


def _look_and_do_something_else(world: World, item: Any) -> None:
    item.value()
    world.plane.gc()


QUEUE_SCENARIOS = [
    Scenario("put a small item", _put(SMALL), begin=_queue, arrange=_fill, inspect=_has(OLD, [*OLD, SMALL])),
    Scenario("put a large item", _put(LARGE), begin=_queue, arrange=_fill, inspect=_has(OLD, [*OLD, LARGE])),
    Scenario("get an item", _get_or_leave, begin=_queue, arrange=_fill, inspect=_has(OLD, OLD[1:])),
    Scenario("lease an item and be done", _work, begin=_queue, arrange=_fill, inspect=_has(OLD, OLD[1:])),
    Scenario("lease an item and fail", _fail, begin=_queue, arrange=_fill, inspect=_has(OLD)),
    Scenario("lease an item and be done, the lock being taken", _work_with_the_lock_taken, begin=_queue, arrange=_fill,
             inspect=_has(OLD, OLD[1:])),
    Scenario("lease an item and fail, the lock being taken", _fail_with_the_lock_taken, begin=_queue, arrange=_fill,
             inspect=_has(OLD)),
    Scenario("be killed over an item", _look_and_do_something_else, begin=_lease, arrange=_fill, inspect=_has(OLD)),
    Scenario("be done with an item", lambda world, item: item.done(), begin=_lease, arrange=_fill,
             inspect=_has(OLD, OLD[1:])),
    Scenario("put an item back", lambda world, item: item.put_back(), begin=_lease, arrange=_fill, inspect=_has(OLD)),
    Scenario("wait for an item in vain", _get_in_vain, begin=_queue, arrange=lambda world: _fill(world, []),
             inspect=_has([])),
    Scenario("wait for room in vain", _put_in_vain, begin=lambda world: _queue(world, 2),
             arrange=lambda world: _fill(world, OLD, 2), inspect=_has(OLD)),
]  # fmt: skip

RING_SCENARIOS = [
    Scenario("put an entry", _put(SMALL), begin=_queue, arrange=_fill_ring, inspect=_has(OLD, [*OLD, SMALL])),
    Scenario("put a block behind entries", _put(LARGE), begin=_queue, arrange=_fill_ring,
             inspect=_has(OLD, [*OLD, LARGE])),
    Scenario("get an entry", _get_or_leave, begin=_queue, arrange=_fill_ring, inspect=_has(OLD, OLD[1:])),
    Scenario("lease an entry and be done", _work, begin=_queue, arrange=_fill_ring, inspect=_has(OLD, OLD[1:])),
    Scenario("lease an entry and fail", _fail, begin=_queue, arrange=_fill_ring, inspect=_has(OLD)),
    Scenario("lease an entry and be done, the lock being taken", _work_with_the_lock_taken, begin=_queue,
             arrange=_fill_ring, inspect=_has(OLD, OLD[1:])),
    Scenario("be killed over an entry", _look_and_do_something_else, begin=_lease, arrange=_fill_ring,
             inspect=_has(OLD)),
]  # fmt: skip

OVERTAKEN_SCENARIOS = [
    Scenario(f"{verb} {what}, another one being leased then", _overtaken(call), begin=_queue, arrange=arrange,
             inspect=_has(*allowed))
    for what, arrange in (("a block", _fill), ("an entry", _fill_ring))
    for verb, call, allowed in (("get", _get, (OLD, OLD[1:])), ("fail over", _fail, (OLD,)))
]  # fmt: skip
