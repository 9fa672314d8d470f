"""Large values are put and deleted by the core alone, in warm segments that this process has mapped."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.inside import (
    before_each_transaction,
    creations_of,
    directory_of,
    look_for_the_dead_later,
    nobody_drains,
)
from tests.support.requires import require_core

LARGE, OTHER = b"L" * 90_001, b"O" * 200_000


@pytest.fixture(params=["word", "ofd"])
def plane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[shmplane.Plane]:
    require_core()
    nobody_drains(monkeypatch)
    with shmplane.Plane.temporary(capacity="8MiB", lock=request.param) as made:
        for value in (LARGE, OTHER):
            for _ in range(3):
                made["a"], made["b"] = value, value
            del made["a"], made["b"]
        look_for_the_dead_later(made)
        yield made
        assert not creations_of(made)
        assert not faults_of(made)


def _refuse() -> None:
    raise AssertionError("a transaction of Python's")


def test_no_transaction_of_python_is_needed(plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.frombuffer(OTHER, "u1")
    with monkeypatch.context() as patch, before_each_transaction(patch, plane, _refuse):
        plane["a"] = LARGE
        plane["a"] = array
        block = plane.put("a", LARGE)
        plane["a"] = OTHER
        plane["b"] = LARGE
        del block
        gc.collect()
        del plane["a"]
        with plane.create("c", 90_000, "u1") as builder:
            builder.array[...] = 3
        del builder
        gc.collect()
        del plane["c"]
        assert not creations_of(plane)
    assert bytes(plane["b"]) == LARGE
    assert plane.names() == ["b"]


@pytest.mark.parametrize("with_block", [False, True])
def test_nothing_of_what_lay_there_before_can_be_read(plane: shmplane.Plane, with_block: bool) -> None:
    """To the end of the page that a block ends in."""
    value = bytes(len(LARGE) - 5_000)
    plane["a"] = b"\xff" * len(LARGE)
    del plane["a"]
    if with_block:
        plane.put("a", value).close()
    else:
        plane["a"] = value
    files = [path.read_bytes() for path in directory_of(plane).glob("s*")]
    there = [content for content in files if b"\xff" in content]
    assert len(there) == 1
    assert there[0].index(b"\xff") % 4096 == 0


def test_threads_that_copy_at_once_have_each_its_own_segment(plane: shmplane.Plane) -> None:
    """From 128 KB on the copy runs without the GIL."""
    values = [bytes([number]) * 300_000 for number in range(4)]
    wrong: list[Any] = []

    def put(number: int) -> None:
        for _ in range(40):
            plane[f"t{number}"] = values[number]
            if bytes(plane[f"t{number}"]) != values[number]:
                wrong.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
