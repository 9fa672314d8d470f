"""Buffers and builders that follow each other: their pages are there already, and nobody reaches another's memory."""

from __future__ import annotations

import gc
import random
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.inside import recycled_nbytes
from tests.support.processes import run_in_child

MIB = 1 << 20


def faults_of(act: Callable[[], object]) -> int:
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    act()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def use(plane: shmplane.Plane, nbytes: int) -> Callable[[], None]:
    def act() -> None:
        with plane.buffer(nbytes) as buffer:
            np.frombuffer(buffer, "u1")[:] = 1

    return act


@pytest.mark.parametrize("nbytes", [2 * MIB, 16 * MIB + 5])
def test_a_second_buffer_of_the_same_class_faults_no_pages_in(plane: shmplane.Plane, nbytes: int) -> None:
    assert faults_of(use(plane, nbytes)) >= nbytes // 4096
    for again in (nbytes, nbytes, nbytes * 29 // 32):
        assert faults_of(use(plane, again)) < nbytes // 4096 // 8
    assert recycled_nbytes(plane) < nbytes * 5 // 4 + 8192


def test_what_is_built_over_a_name_again_and_again_faults_no_pages_in(plane: shmplane.Plane) -> None:
    def build() -> None:
        with plane.create("x", (4 * MIB,), "u1") as builder:
            builder.array[:] = 1

    for _ in range(8):
        build()
    assert faults_of(build) < 128


def test_pages_of_a_buffer_serve_the_next_put_and_the_other_way_round(plane: shmplane.Plane) -> None:
    data = bytes(range(256)) * (4 * MIB // 256)
    use(plane, len(data))()
    assert faults_of(lambda: plane.put("x", data).close()) < 128
    assert run_in_child(_read, plane) == data
    del plane["x"]
    plane.gc()
    assert faults_of(use(plane, len(data))) < 128


def test_what_another_process_filled_is_filled_again_with_few_faults(plane: shmplane.Plane) -> None:
    data = bytes(range(256)) * (4 * MIB // 256)
    run_in_child(_put, plane, data)
    del plane["x"]
    plane.gc()
    assert faults_of(lambda: plane.put("x", data).close()) < len(data) // 4096 // 4
    assert run_in_child(_read, plane) == data


def _put(plane: shmplane.Plane, data: bytes) -> None:
    plane["x"] = data


def _read(plane: shmplane.Plane) -> bytes:
    return bytes(plane["x"])


@pytest.mark.parametrize("end", ["close", "publish", "build", "discard"])
def test_an_array_that_was_kept_reaches_neither_the_next_buffer_nor_a_block(plane: shmplane.Plane, end: str) -> None:
    kept: list[Any] = []
    for turn in range(6):
        if end in {"close", "publish"}:
            made: Any = plane.buffer(MIB)
            array = np.frombuffer(made, "u1")
        else:
            made = plane.create("x", (MIB,), "u1")
            array = made.array
        array[:] = turn
        for old in kept:
            old[:] = 99
        assert (array == turn).all()
        made.publish(*(["x"] if end == "publish" else [])) if end in {"publish", "build"} else getattr(made, end)()
        kept.append(array)
        array[:] = 77
        if end in {"publish", "build"}:
            assert set(bytes(plane["x"])) == {turn}
            assert run_in_child(_read, plane) == bytes([turn]) * MIB
    assert all(set(array.tolist()) <= {77, 99} for array in kept[:-1])


@pytest.mark.parametrize("moves", [True, False])
def test_whatever_follows_what_every_value_is_the_one_that_was_put(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    """Puts, builders, buffers and deletes of a few sizes, in any order, also where the kernel cannot move pages."""
    if not moves:
        monkeypatch.setattr("shmplane.plane.memory.segments.move_pages", lambda source, target: False)
    chosen = random.Random(5)
    expected: dict[str, bytes] = {}
    kept: list[Any] = []
    for turn in range(300):
        name, nbytes = chosen.choice("abcd"), chosen.choice([70_000, 100_000, 300_000, 310_000])
        data = chosen.randbytes(16) * (nbytes // 16)
        act = chosen.choice(["put", "build", "publish", "close", "discard", "delete", "look"])
        if act == "put":
            plane[name] = data
        elif act in {"build", "discard"}:
            builder = plane.create(name, (len(data),), "u1")
            builder.array[:] = np.frombuffer(data, "u1")
            kept.append(builder.array)
            builder.publish() if act == "build" else builder.discard()
        elif act in {"publish", "close"}:
            buffer = plane.buffer(len(data))
            buffer[:] = data
            kept.append(np.frombuffer(buffer, "u1"))
            buffer.publish(name, dtype="u1") if act == "publish" else buffer.close()
        elif act == "delete" and name in expected:
            del plane[name]
            del expected[name]
        if act in {"put", "build", "publish"}:
            expected[name] = data
        if len(kept) > 4:
            kept.pop(chosen.randrange(4))
        for array in kept:
            array[:] = turn % 256
        for one, value in expected.items():
            assert bytes(plane[one]) == value, (turn, act)
    assert run_in_child(_all, plane) == expected


def _all(plane: shmplane.Plane) -> dict[str, bytes]:
    return {name: bytes(plane[name]) for name in plane}


def test_a_publish_that_fails_half_way_leaves_no_private_pages_for_the_next_put(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shmplane.plane.memory.open_memory import OpenMemory

    make_private = OpenMemory.make_private

    def fail(memory: OpenMemory, path: str) -> None:
        make_private(memory, path)
        raise MemoryError

    for _ in range(2):
        use(plane, MIB)()
        with monkeypatch.context() as patched:
            patched.setattr(OpenMemory, "make_private", fail)
            with pytest.raises(MemoryError):
                plane.buffer(MIB).publish("x")
        plane["x"] = b"x" * MIB
        assert run_in_child(_read, plane) == b"x" * MIB
        del plane["x"]
