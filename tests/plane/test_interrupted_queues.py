"""Calls of queues that are interrupted: twice in a row, or before another thread of the process takes an item."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import shmplane
from tests.plane.test_queue_rings import busy
from tests.support.audit import faults_of
from tests.support.inside import before_it_is_owed, interrupt_once, rate_waiters
from tests.support.lines import until

BLOCK = b"block" * 10_000


def drained(items: Any) -> list[Any]:
    return [items.get(0) for _ in range(items.qsize())]


@pytest.mark.parametrize(
    ("call", "method", "value"),
    [("get", "Items.remove", BLOCK), ("lease", "Items.take", BLOCK), ("lease", "Items.take_entry", 7)],
)
def test_what_an_interrupted_call_has_not_taken_is_his_who_takes_it_then(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, call: str, method: str, value: Any
) -> None:
    items, others = busy(plane), []
    items.put(value)
    interrupt_once(monkeypatch, method)
    with before_it_is_owed(plane, lambda: others.append(items.lease(0))), pytest.raises(KeyboardInterrupt):
        getattr(items, call)(0)
    assert items.empty()
    others.pop().done()
    gc.collect()
    assert items.empty()
    assert not faults_of(plane)


@pytest.mark.parametrize(
    ("call", "first", "value"),
    [("get", "Items.remove", BLOCK), ("lease", "Items.take", BLOCK), ("lease", "Items.take_entry", 7)],
)
@pytest.mark.parametrize(
    ("second", "at_its_end"), [("Transaction.is_current", False), ("Items.put_back", False), ("Items.put_back", True)]
)
def test_an_item_is_there_once_after_a_call_that_is_interrupted_twice(
    plane: shmplane.Plane,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    first: str,
    value: Any,
    second: str,
    at_its_end: bool,
) -> None:
    items = busy(plane)
    items.put(value)
    interrupt_once(monkeypatch, first, at_its_end=True)
    act = lambda: interrupt_once(monkeypatch, second, at_its_end=at_its_end)  # noqa: E731
    with before_it_is_owed(plane, act), pytest.raises(KeyboardInterrupt):
        getattr(items, call)(0)
    gc.collect()
    assert drained(items) == [value]
    assert not faults_of(plane)


@pytest.mark.parametrize("at_its_end", [False, True])
def test_an_entry_is_there_once_after_a_get_that_is_interrupted_twice(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, at_its_end: bool
) -> None:
    items = busy(plane)
    items.put(7)
    interrupt_once(monkeypatch, "Ring.take", at_its_end=True)
    act = lambda: interrupt_once(monkeypatch, "Ring.restore", at_its_end=at_its_end)  # noqa: E731
    with before_it_is_owed(plane, act), pytest.raises(KeyboardInterrupt):
        items.get(0)
    assert drained(items) == [7]
    assert not faults_of(plane)


@pytest.mark.parametrize("at_its_end", [False, True])
def test_an_entry_that_comes_back_behind_another_get_is_there_once_after_a_second_interrupt(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, at_its_end: bool
) -> None:
    items, others = busy(plane), []
    for number in range(3):
        items.put(number)
    interrupt_once(monkeypatch, "Ring.take", at_its_end=True)

    def act() -> None:
        others.append(items.get(0))
        interrupt_once(monkeypatch, "Items.put_back", at_its_end=at_its_end)

    with before_it_is_owed(plane, act), pytest.raises(KeyboardInterrupt):
        items.get(0)
    assert others == [1]
    assert drained(items) == [0, 2]
    assert not faults_of(plane)


# Values that cannot be shown


@pytest.mark.parametrize("by", [KeyboardInterrupt, ImportError])
def test_an_item_whose_value_cannot_be_shown_stays_the_first(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, by: type[BaseException]
) -> None:
    items = busy(plane)
    for value in (BLOCK, 7):
        items.put(value)
    interrupt_once(monkeypatch, "Block.value", by=by)
    with pytest.raises(by):
        items.get(0)
    assert drained(items) == [BLOCK, 7]
    gc.collect()
    assert not faults_of(plane)


@pytest.mark.parametrize(("value", "shown"), [(BLOCK, "Block.value"), (7, "EntryClaim.value")])
def test_an_item_that_comes_to_a_task_and_cannot_be_shown_stays_the_first(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, value: Any, shown: str
) -> None:
    items = busy(plane)
    interrupt_once(monkeypatch, shown, by=ImportError)

    async def run() -> None:
        getting = asyncio.create_task(items.get_async(20))
        await asyncio.to_thread(until, lambda: rate_waiters(plane, "busy", "q") == 1)
        items.put(value)
        with pytest.raises(ImportError):
            await getting

    asyncio.run(run())
    assert drained(items) == [value]
    assert not faults_of(plane)
