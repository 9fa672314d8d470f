"""Queues whose small items go through a ring: busy ones."""

from __future__ import annotations

import contextlib
import gc
import itertools
import queue
import random
import time
from collections import deque
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.inside import (
    die_in_a_transaction,
    in_both_ends,
    mark_rows_as_taking,
    ring_view,
    somebody_numbers_whenever_it_is_read,
    suspect_everything,
)
from tests.support.processes import Child

SMALL, LARGE = b"s" * 64, b"L" * 30_000


def busy(plane: shmplane.Plane, maxsize: int = 0) -> Any:
    """An empty queue that so much went through that it has a ring."""
    items = plane.queue("busy", maxsize)
    for number in range(40):
        items.put(number)
        items.get(5)
    assert ring_view(plane, "busy") is not None
    return items


@pytest.mark.parametrize(
    "value",
    [b"", SMALL, bytearray(b"ab"), "text", None, {"a": [1, 2.5, "ü"]}, np.arange(6.0).reshape(2, 3), np.float32(2)],
)
def test_what_comes_out_of_a_ring_is_what_was_put(plane: shmplane.Plane, value: Any) -> None:
    items = busy(plane)
    plane["same"] = value
    items.put(value)
    found, expected = items.get(5), plane["same"]
    assert type(found) is type(expected)
    assert np.array_equal(found, expected) if isinstance(value, np.generic | np.ndarray) else found == expected
    with pytest.raises((TypeError, ValueError)):
        found[0] = 1


def _fail_over(items: Any) -> Any:
    value = None
    with contextlib.suppress(ZeroDivisionError), items.lease(0) as item:
        value = np.ravel(item.value())[0]
        raise ZeroDivisionError
    return value


@pytest.mark.parametrize("seed", range(6))
def test_small_large_and_returned_items_keep_their_order(plane: shmplane.Plane, seed: int) -> None:
    dice, items, expected, number = random.Random(seed), busy(plane), deque[Any](), 0
    for _ in range(300):
        act = dice.randrange(6)
        if act < 3:
            value = number if act else np.full(10_000, number)
            items.put(value)
            expected.append(number)
            number += 1
        elif not expected:
            with pytest.raises(queue.Empty):
                items.get(0)
        elif act == 3:
            assert np.ravel(items.get(0))[0] == expected.popleft()
        elif act == 4:
            with items.lease(0) as item:
                assert np.ravel(item.value())[0] == expected.popleft()
        else:
            assert _fail_over(items) == expected[0]
        assert items.qsize() == len(expected)


def test_a_full_ring_goes_on_in_blocks(plane: shmplane.Plane) -> None:
    items = busy(plane)
    for number in range(150):
        items.put(number.to_bytes(2) * 2_000)
    assert items.qsize() == 150
    assert [int.from_bytes(items.get(5)[:2]) for _ in range(150)] == list(range(150))


def test_a_ring_is_gone_with_the_last_who_uses_an_empty_queue(plane: shmplane.Plane) -> None:
    items = busy(plane)
    items.put(1)
    before = plane.stats().blocks
    del items
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == before
    assert plane.queue("busy").get(0) == 1
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == 0


def test_no_more_items_fit_into_a_ring_than_the_queue_takes(plane: shmplane.Plane) -> None:
    items = busy(plane, 3)
    for number in range(3):
        items.put(number, 0)
    assert items.full()
    with pytest.raises(queue.Full):
        items.put(3, 0)
    assert items.get(0) == 0
    items.put(3, 0)
    assert [items.get(0) for _ in range(3)] == [1, 2, 3]


def _produce(plane: Any, who: int, count: int) -> None:
    items = plane.queue("busy")
    for number in range(count):
        items.put([who, number])


def _consume(plane: Any) -> list[list[int]]:
    items, found = plane.queue("busy"), []
    while (item := items.get(20)) is not None:
        found.append([*item])
    return found


def test_a_stream_between_processes_is_delivered_once_and_in_order(plane: shmplane.Plane) -> None:
    items = busy(plane)
    with (
        Child(_produce, plane, 0, 1_500, method="fork") as first,
        Child(_produce, plane, 1, 1_500, method="fork") as second,
        Child(_consume, plane, method="fork") as third,
        Child(_consume, plane, method="fork") as fourth,
    ):
        for child in (third, fourth):
            child._tell("finish")
        first.result(), second.result()
        items.put(None)
        items.put(None)
        found = [child._receive("returned", 30) for child in (third, fourth)]
    for who in (0, 1):
        of_each = [[number for whose, number in its if whose == who] for its in found]
        assert all(numbers == sorted(numbers) for numbers in of_each)
        assert sorted(of_each[0] + of_each[1]) == list(range(1_500))


def test_a_killed_producer_and_a_killed_consumer_of_a_stream_hold_up_nobody(plane: shmplane.Plane) -> None:
    items = busy(plane)
    found: list[int] = []
    for _ in range(3):
        with Child(_produce, plane, 0, 100_000, method="fork") as producer:
            producer._tell("finish")
            time.sleep(0.02)
            producer.kill()
        with Child(_consume, plane, method="fork") as consumer:
            consumer._tell("finish")
            time.sleep(0.02)
            consumer.kill()
    while items.qsize():
        found.append(items.get(5)[1])
    items.put("after")
    assert items.get(5) == "after"
    runs = sum(1 for before, after in itertools.pairwise(found) if after != before + 1)
    assert runs <= 2  # each producer's items without a gap, one producer after the other


def test_a_ring_that_somebody_wrote_over_is_a_corrupt_plane(plane: shmplane.Plane) -> None:
    items = busy(plane)
    items.put(SMALL)
    view = ring_view(plane, "busy")
    assert view is not None
    view[:] = b"\xff" * len(view)
    with pytest.raises(shmplane.PlaneCorrupt, match="ring"):
        items.get(0)


def test_a_block_row_that_was_to_take_an_entry_can_be_an_item_later(plane: shmplane.Plane) -> None:
    """Who was killed over an entry left in a row at which head of the ring; that row is used again before the head moves."""
    items = busy(plane)
    items.put(LARGE)
    items.get(5)
    gc.collect()
    plane.gc()
    items.put("entry")
    mark_rows_as_taking(plane, "busy")
    items.put(LARGE)
    with Child(die_in_a_transaction, plane, method="fork") as victim:
        victim.process.join(20)
    plane.gc()
    assert items.qsize() == 2
    assert items.get(5) == "entry"
    assert bytes(items.get(5)) == LARGE


def test_a_recovery_leaves_the_number_of_the_last_item_to_who_puts(plane: shmplane.Plane) -> None:
    items = busy(plane)
    items.put(LARGE)
    with somebody_numbers_whenever_it_is_read(plane, "busy") as lost:
        suspect_everything(plane)
        assert items.qsize() == 1
        assert lost() == 0
    assert bytes(items.get(5)) == LARGE


def _get_one(plane: Any) -> Any:
    return plane.queue("busy").get(5)


def test_a_spawned_process_finds_the_ring(plane: shmplane.Plane) -> None:
    items = busy(plane)
    items.put("there")
    with Child(_get_one, plane) as child:
        assert child.result() == "there"


def _hold_both_ends(plane: Any) -> Any:
    held = plane.mutable("held", (), "u1")

    def hold() -> None:
        held[()] = 1
        while held[()] == 1:
            time.sleep(0.005)

    in_both_ends(plane.queue("busy"), hold)
    return "released"


def test_who_is_stopped_in_a_ring_costs_others_no_more_than_their_time(plane: shmplane.Plane) -> None:
    items, held = busy(plane), plane.mutable("held", (), "u1")
    with Child(_hold_both_ends, plane, method="fork") as child:
        child._tell("finish")
        while not held[()]:
            time.sleep(0.005)
        with pytest.raises(queue.Full):
            items.put(1, 0.05)
        with pytest.raises(queue.Empty):
            items.get(0.05)
        held[()] = 2
        assert child._receive("returned", 30) == "released"
    items.put(1, 20)
    assert items.get(20) == 1
    del held
