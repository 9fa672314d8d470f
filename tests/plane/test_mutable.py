"""``mutable``: one array that every process sees change."""

from __future__ import annotations

import contextlib
import gc
import re
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.processes import Child, run_in_child


def test_it_is_zero_filled_also_in_recycled_memory(plane: shmplane.Plane) -> None:
    plane["noise"] = np.full(40_000, 255, "u1")
    plane["more"] = np.full(400_000, 255, "u1")
    del plane["noise"], plane["more"]
    for shape in (40_000, 400_000, (20, 20_000)):
        array = plane.mutable(f"x{shape}", shape, "u1")
        assert not array.any()
        assert array.shape == (shape if isinstance(shape, tuple) else (shape,))


def test_all_processes_see_every_change(plane: shmplane.Plane) -> None:
    array = plane.mutable("progress", (8,), "i8")
    array[0] = 1
    with Child(_add_and_look, plane.name, plane.root) as child:
        assert child.next() == [1, 10, 0, 0, 0, 0, 0, 0]
        assert array.tolist() == [1, 10, 0, 0, 0, 0, 0, 0]
        array[2] = 100
        assert child.next() == [1, 10, 100, 0, 0, 0, 0, 0]
    assert array[1] == 10


def _add_and_look(name: str, root: str) -> Any:
    with shmplane.Plane(name, root=root) as plane:
        array = plane.mutable("progress")
        array[1] += 10
        yield array.tolist()
        yield array.tolist()
        del array


def test_a_lock_guards_counters_of_many_processes(plane: shmplane.Plane) -> None:
    counter = plane.mutable("counter", (), "i8")
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_count, plane, 200, method="fork")) for _ in range(4)]
        for child in children:
            child.result()
    assert counter[()] == 800


def _count(plane: Any, times: int) -> None:
    counter, lock = plane.mutable("counter"), plane.lock("counter")
    for _ in range(times):
        with lock:
            counter[()] += 1


def test_get_gives_a_live_view_that_cannot_be_written(plane: shmplane.Plane) -> None:
    array = plane.mutable("x", (1_000,), "f4")
    view = plane["x"]
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    array[999] = 2.5
    assert view[999] == 2.5
    assert plane.attach("x").kind == "mutable"


@pytest.mark.parametrize("shape", [(5,), (2, 3), (), (7, 0)])
def test_the_shape_may_be_left_out_when_it_is_there(plane: shmplane.Plane, shape: tuple[int, ...]) -> None:
    made = plane.mutable("x", shape, "i4")
    found = plane.mutable("x")
    assert (found.shape, found.dtype) == (made.shape, made.dtype) == (shape, np.dtype("i4"))
    assert found.flags.writeable


def test_without_a_dtype_it_is_f8(plane: shmplane.Plane) -> None:
    assert plane.mutable("x", 3).dtype == np.float64


@pytest.mark.parametrize(("shape", "dtype"), [((6,), "i8"), ((5,), "i4"), ((5, 1), None), (None, "f8")])
def test_another_shape_or_dtype_is_a_mismatch(plane: shmplane.Plane, shape: Any, dtype: Any) -> None:
    plane.mutable("x", (5,), "i8")
    with pytest.raises(shmplane.PlaneMismatch, match=r"mutable 'x' has shape \(5,\) and dtype int64, asked for"):
        plane.mutable("x", shape, dtype)


def test_a_block_of_another_kind_is_a_mismatch(plane: shmplane.Plane) -> None:
    plane["x"] = np.zeros(3)
    with pytest.raises(shmplane.PlaneMismatch, match="of kind array, not mutable"):
        plane.mutable("x", (3,), "f8")


def test_attaching_what_is_not_there_is_block_not_found(plane: shmplane.Plane) -> None:
    with pytest.raises(shmplane.BlockNotFound):
        plane.mutable("x")


def test_object_dtype_and_impossible_shapes_are_refused(plane: shmplane.Plane) -> None:
    with pytest.raises(shmplane.UnsupportedValue):
        plane.mutable("x", (3,), object)
    with pytest.raises(ValueError, match="negative"):
        plane.mutable("x", (-1,), "i8")
    with pytest.raises(shmplane.PlaneFull):
        plane.mutable("x", (2**50,), "i8")
    assert plane.names() == []


def test_it_cannot_be_edited(plane: shmplane.Plane) -> None:
    plane.mutable("x", (3,), "f8")
    with pytest.raises(shmplane.UnsupportedValue):
        plane.edit("x")


def test_structured_and_0d_arrays(plane: shmplane.Plane) -> None:
    dtype = np.dtype([("position", "f4", (3,)), ("id", "u2"), ("when", "M8[ns]")])
    particles = plane.mutable("particles", (10,), dtype)
    particles["id"][3] = 7
    particles[4] = ((1, 2, 3), 9, "2024-01-01")
    found = plane.mutable("particles")
    assert (found.dtype, found[3]["id"], found[4]["position"].tolist()) == (dtype, 7, [1, 2, 3])
    temperature = plane.mutable("temperature", (), "f8")
    temperature[...] = 36.6
    assert plane["temperature"] == 36.6


def test_a_put_over_it_replaces_the_block_and_not_the_memory(plane: shmplane.Plane) -> None:
    array = plane.mutable("x", (3,), "f8")
    array[:] = 1
    plane["x"] = "something else"
    array[:] = 2
    assert plane["x"] == "something else"
    assert array.tolist() == [2, 2, 2]
    del plane["x"]
    assert plane.mutable("x", (3,), "f8").tolist() == [0, 0, 0]


def test_it_outlives_its_delete_for_who_has_it(plane: shmplane.Plane) -> None:
    array = plane.mutable("x", (100_000,), "f8")
    array[:] = 3
    del plane["x"]
    plane["y"] = np.zeros(100_000)
    assert (array == 3).all()
    assert plane.stats().leases == 1
    del array
    gc.collect()
    plane.gc()
    assert plane.stats().leases == 0


def test_it_outlives_the_plane_for_who_has_it(plane: shmplane.Plane) -> None:
    array = plane.mutable("x", (100_000,), "f8")
    plane.destroy()
    array[:] = 3
    assert array.sum() == 300_000


def test_views_keep_it_leased(plane: shmplane.Plane) -> None:
    part = plane.mutable("x", (100_000,), "f8")[10:20].reshape(2, 5)
    gc.collect()
    plane.gc()
    assert plane.stats().leases == 1
    part[1, 4] = 5
    assert plane["x"][19] == 5


def test_a_forked_child_shares_it(plane: shmplane.Plane) -> None:
    array = plane.mutable("x", (10,), "i8")
    run_in_child(_write, array, method="fork")
    assert array[4] == 44


def _write(array: Any) -> None:
    array[4] = 44


def test_it_survives_whoever_is_killed(plane: shmplane.Plane) -> None:
    with Child(_make_and_wait, plane, method="fork") as child:
        assert child.next() == "made"
        child.kill()
    plane.gc()
    array = plane.mutable("made there", (1_000,), "i4")
    assert (array == 6).all()
    array[0] = 1
    assert plane["made there"][0] == 1


def _make_and_wait(plane: Any) -> Any:
    array = plane.mutable("made there", (1_000,), "i4")
    array[:] = 6
    yield "made"
    yield array


def test_eight_processes_that_make_it_at_once_share_one(plane: shmplane.Plane) -> None:
    for turn in range(3):
        with contextlib.ExitStack() as stack:
            children = [
                stack.enter_context(Child(_mark, plane, f"x{turn}", index, method="fork")) for index in range(8)
            ]
            for child in children:
                child.result()
        assert plane[f"x{turn}"].tolist() == list(range(1, 9))


def _mark(plane: Any, name: str, index: int) -> None:
    plane.mutable(name, (8,), "i8")[index] = index + 1


def test_it_counts_like_any_block(plane: shmplane.Plane) -> None:
    plane.mutable("x", (100,), "f8")
    (info,) = plane.blocks()
    assert (info.name, info.kind, info.nbytes, info.version) == ("x", "mutable", 800, 1)


def test_a_mutable_that_is_not_there_says_how_to_create_it(plane: shmplane.Plane) -> None:
    with pytest.raises(shmplane.BlockNotFound, match="give shape= and dtype= to create it"):
        plane.mutable("x")


@pytest.mark.parametrize(("shape", "error"), [((1 << 40, 1 << 30), ValueError), ((-1,), ValueError), ("x", TypeError)])
def test_an_array_that_cannot_be_is_refused_with_its_shape(
    plane: shmplane.Plane, shape: Any, error: type[Exception]
) -> None:
    for make in (plane.create, plane.mutable):
        with pytest.raises(error, match=re.escape(f"no array of shape {shape!r} and dtype float32")):
            make("x", shape, "f4")
    assert plane.names() == []
