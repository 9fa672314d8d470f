"""Names that are got over and over, without a view that is held: their roots are kept for a moment, and for no longer."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.forked import run_forked
from tests.support.inside import attachment_of, keeps_root, leases_taken
from tests.support.lines import until

LARGE = np.arange(20_000.0)


def get_again(plane: shmplane.Plane, name: str = "x") -> None:
    for _ in range(2):
        assert plane[name] is not None
    assert keeps_root(plane, name)


@pytest.mark.parametrize(
    "value", [np.arange(3.0), LARGE, b"bytes", {"text": "j" * 20_000}], ids=["small", "large", "bytes", "json"]
)
def test_what_is_got_again_is_kept_until_the_drain_timer_comes(plane: shmplane.Plane, value: Any) -> None:
    plane["x"] = value
    get_again(plane)
    assert leases_taken(plane) == 1
    until(lambda: not keeps_root(plane, "x"))
    until(lambda: not leases_taken(plane))


def test_what_is_got_once_is_not_kept(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    assert plane["x"] is not None
    assert not keeps_root(plane, "x")


def test_what_is_got_again_after_a_while_is_not_kept(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    assert plane["x"] is not None
    until(lambda: not leases_taken(plane))
    time.sleep(0.01)
    assert plane["x"] is not None
    assert not keeps_root(plane, "x")


def test_names_that_take_turns_are_kept_together(plane: shmplane.Plane) -> None:
    names = ["a", "b", "c"]
    for name in names:
        plane[name] = LARGE
    for _ in range(100):
        for name in names:
            assert plane[name] is not None
        if all(keeps_root(plane, name) for name in names):
            break
    else:
        pytest.fail("100 rounds of three names, and never were all kept")
    until(lambda: not leases_taken(plane))


def test_of_very_many_names_some_are_kept(plane: shmplane.Plane) -> None:
    names = [str(number) for number in range(600)]
    for name in names:
        plane[name] = 1.5
        get_again_if_soon(plane, name)
    assert sum(keeps_root(plane, name) for name in names) <= 256
    until(lambda: not leases_taken(plane))


def get_again_if_soon(plane: shmplane.Plane, name: str) -> None:
    for _ in range(2):
        assert plane[name] == 1.5


ACTS: dict[str, Callable[[shmplane.Plane], Any]] = {
    "delete": lambda plane: plane.delete("x"),
    "del": lambda plane: plane.__delitem__("x"),
    "put": lambda plane: plane.put("x", 1).close(),
    "put by []": lambda plane: plane.__setitem__("x", 1),
    "rename": lambda plane: plane.rename("x", "y"),
    "rename over": lambda plane: plane.rename("other", "x"),
    "append": lambda plane: plane.append("x", LARGE).close(),
    "edit": lambda plane: plane.edit("x").discard(),
    "clear": lambda plane: plane.clear(),
    "gc": lambda plane: plane.gc(),
    "trim": lambda plane: plane.trim(),
    "resize": lambda plane: plane.resize("128MiB"),
    "stats": lambda plane: plane.stats(),
    "blocks": lambda plane: plane.blocks(),
    "close": lambda plane: plane.close(),
    "destroy": lambda plane: plane.destroy(),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
def test_it_is_forgotten_before(act: Callable[[shmplane.Plane], Any], plane_root: Any) -> None:
    plane = shmplane.Plane("again", root=str(plane_root), capacity="64MiB")
    other = shmplane.Plane("again", root=str(plane_root))
    plane["other"] = LARGE
    plane["x"] = LARGE
    get_again(plane)
    root = weakref.ref(plane["x"].base)
    act(plane)
    assert root() is None
    other.destroy()


def test_it_makes_way_for_what_needs_the_room(plane_root: Any) -> None:
    with shmplane.Plane("again", root=str(plane_root), capacity="4MiB", recycle=0) as plane:
        plane.put("x", np.zeros(3 << 20, "u1"), evictable=True).close()
        get_again(plane)
        plane["y"] = np.ones(3 << 20, "u1")
        assert "x" not in plane
        plane.destroy()


def test_a_version_that_a_builder_replaced_goes_with_the_next_one(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    get_again(plane)
    with plane.create("x", 10, "u1"):
        pass
    get_again(plane)
    plane.gc()
    found = plane.stats()
    assert (found.blocks, found.leases) == (1, 0)


def test_a_forked_child_keeps_nothing_for_itself(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    get_again(plane)

    def look() -> None:
        assert not keeps_root(plane, "x")
        until(lambda: not leases_taken(plane))
        get_again(plane)
        until(lambda: not leases_taken(plane))

    run_forked(look)
    until(lambda: not leases_taken(plane))


def test_a_plane_object_that_is_dropped_leaves_although_something_was_kept(plane_root: Any) -> None:
    plane = shmplane.Plane("again", root=str(plane_root))
    plane["x"] = LARGE
    get_again(plane)
    attachment = attachment_of(plane)
    del plane
    until(lambda: attachment.ended is not None)
    shmplane.Plane("again", root=str(plane_root)).destroy()


def test_without_the_drain_timer_nothing_is_kept(plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would let go of it."""
    plane["x"] = LARGE
    monkeypatch.setattr(type(attachment_of(plane).timer), "running", False)
    for _ in range(3):
        assert plane["x"] is not None
    assert not keeps_root(plane, "x")


def test_what_is_kept_is_never_shown_for_another_version(plane: shmplane.Plane) -> None:
    """Threads get, and one publishes: nobody sees a version that was replaced before he asked."""
    published, stop, wrong = [0], threading.Event(), []
    plane["x"] = np.full(10_000, 0)

    def read() -> None:
        while not stop.is_set():
            least = published[0]
            found = int(plane["x"][-1])
            if found < least:
                wrong.append((found, least))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    dice = random.Random(4)
    for number in range(1, 400):
        plane["x"] = np.full(10_000, number)
        published[0] = number
        if dice.random() < 0.3:
            time.sleep(0.0005)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    gc.collect()
    until(lambda: not leases_taken(plane))
