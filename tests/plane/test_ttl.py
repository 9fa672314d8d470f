"""Names with a time to live: gone at once for whoever asks, removed in passing, and never under a lease's hands."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import BlockNotFound, Conflict
from tests.support.audit import faults_of
from tests.support.forked import run_forked
from tests.support.inside import header_of, let_time_pass_for, suspect_everything

LONG = 1000.0


def _absent(plane: shmplane.Plane, name: str) -> bool:
    """Every way to ask says that there is no such name."""
    with pytest.raises(BlockNotFound):
        plane[name]
    for ask in (plane.attach, plane.edit, plane.delete, lambda name: plane.rename(name, "another")):
        with pytest.raises(BlockNotFound):
            ask(name)
    return (
        plane.get(name) is None
        and plane.get(name, as_="bytes") is None
        and name not in plane
        and name not in plane.names()
        and name not in list(plane)
        and len(plane) == len(plane.names())
        and not any(block.name == name for block in plane.blocks())
    )


@pytest.mark.parametrize("value", [b"x" * 100, np.arange(30_000), {"a": [1]}], ids=["small", "large", "json"])
def test_a_name_whose_time_has_come_is_not_there_though_nobody_removed_it(plane: shmplane.Plane, value: Any) -> None:
    plane["stays"] = b"s"
    plane.put("goes", value, ttl=LONG).close()
    assert plane["goes"] is not None
    assert "goes" in plane
    assert len(plane) == 2
    assert let_time_pass_for(plane, "goes")
    assert _absent(plane, "goes")
    assert plane["stays"] == b"s"


def test_a_name_goes_after_its_ttl(plane: shmplane.Plane) -> None:
    start = time.monotonic()
    plane.put("goes", b"x", ttl=0.05).close()
    while "goes" in plane:
        assert time.monotonic() < start + 20
        time.sleep(0.002)
    assert time.monotonic() >= start + 0.05
    assert _absent(plane, "goes")


def test_a_ttl_of_nothing_is_over_at_once(plane: shmplane.Plane) -> None:
    with plane.put("goes", b"x", ttl=0) as block:
        assert bytes(block.buffer()) == b"x"
        assert _absent(plane, "goes")


@pytest.mark.parametrize("ttl", [-1, -0.001, float("nan"), float("-inf")])
def test_a_ttl_is_no_less_than_nothing(plane: shmplane.Plane, ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        plane.put("x", b"x", ttl=ttl)
    assert "x" not in plane


def test_a_ttl_longer_than_a_life_is_for_ever(plane: shmplane.Plane) -> None:
    plane.put("x", b"x", ttl=float("inf")).close()
    assert not let_time_pass_for(plane, "x")


def test_an_anonymous_block_has_no_name_to_go(plane: shmplane.Plane) -> None:
    with pytest.raises(ValueError, match="linger"):
        plane.put(None, b"x", ttl=1)


def test_leases_outlast_the_name(plane: shmplane.Plane) -> None:
    values = np.arange(30_000)
    block = plane.put("goes", values, ttl=LONG)
    view = plane["goes"]
    let_time_pass_for(plane, "goes")
    plane.gc()
    assert _absent(plane, "goes")
    assert (view == values).all()
    assert (block.array() == values).all()
    assert not faults_of(plane)
    del view
    block.close()
    plane.gc()
    assert plane.stats().blocks == 0


def test_a_put_without_ttl_stays_for_ever(plane: shmplane.Plane) -> None:
    plane.put("x", b"1", ttl=LONG).close()
    plane["x"] = b"2"
    assert not let_time_pass_for(plane, "x")
    plane.gc()
    assert header_of(plane).expiring[0] == 0


def test_a_name_put_again_after_its_time_goes_on_counting(plane: shmplane.Plane) -> None:
    assert plane.put("x", b"1", ttl=LONG).version == 1
    let_time_pass_for(plane, "x")
    with pytest.raises(Conflict, match="version 0"):
        plane.put("x", b"2", expected_version=1)
    with plane.put("x", b"2", expected_version=0) as block:
        assert block.version == 2
    assert plane["x"] == b"2"


def test_a_renamed_block_keeps_its_time(plane: shmplane.Plane) -> None:
    plane.put("old", b"1", ttl=LONG).close()
    plane.put("new", b"2").close()
    plane.rename("old", "new")
    assert plane["new"] == b"1"
    assert let_time_pass_for(plane, "new")
    assert _absent(plane, "new")


def _edit_array(plane: shmplane.Plane) -> None:
    with plane.edit("array") as draft:
        draft.array[0] = 7


def _append_rows(plane: shmplane.Plane) -> None:
    plane.append("table", pa.table({"a": [2]})).close()


def _append_to_array(plane: shmplane.Plane) -> None:
    plane.append("array", np.arange(5)).close()


@pytest.mark.parametrize(
    ("name", "change"), [("array", _edit_array), ("table", _append_rows), ("array", _append_to_array)]
)
def test_what_is_changed_keeps_its_time(
    plane: shmplane.Plane, name: str, change: Callable[[shmplane.Plane], None]
) -> None:
    plane.put("array", np.arange(30_000), ttl=LONG).close()
    plane.put("table", pa.table({"a": [1]}), ttl=LONG).close()
    change(plane)
    assert let_time_pass_for(plane, name)
    assert _absent(plane, name)


def test_an_edit_that_outlasts_the_name_is_a_conflict(plane: shmplane.Plane) -> None:
    plane.put("x", np.arange(30_000), ttl=LONG).close()
    draft = plane.edit("x")
    draft.array[0] = 7
    let_time_pass_for(plane, "x")
    with pytest.raises(Conflict, match="absent"):
        draft.commit()
    assert _absent(plane, "x")


def test_an_append_after_the_time_begins_anew(plane: shmplane.Plane) -> None:
    plane.put("x", pa.table({"a": [1]}), ttl=LONG).close()
    let_time_pass_for(plane, "x")
    plane.append("x", pa.table({"a": [2]})).close()
    assert plane["x"].column("a").to_pylist() == [2]


def test_get_or_put_computes_anew_after_the_time(plane: shmplane.Plane) -> None:
    plane.put("x", b"old", ttl=LONG).close()
    assert plane.get_or_put("x", bytes, 3) == b"old"
    let_time_pass_for(plane, "x")
    assert plane.get_or_put("x", bytes, 3) == bytes(3)


def test_who_waits_does_not_get_what_is_over(plane: shmplane.Plane) -> None:
    plane.put("x", b"old", ttl=LONG).close()
    let_time_pass_for(plane, "x")
    with pytest.raises(TimeoutError):
        plane.wait("x", timeout=0.01)
    putter = threading.Timer(0.05, plane.put, ["x", b"new"])
    putter.start()
    with plane.wait("x", timeout=20) as block:
        assert bytes(block.buffer()) == b"new"
    putter.join()


def test_what_is_over_is_removed_by_puts_a_bounded_number_each(plane: shmplane.Plane) -> None:
    for number in range(200):
        plane.put(f"{number}", b"x", ttl=LONG).close()
    for number in range(200):
        let_time_pass_for(plane, f"{number}")
    left = [header_of(plane).expiring[0]]
    while left[-1] and len(left) < 100:
        plane["other"] = b"o"
        left.append(header_of(plane).expiring[0])
    assert left[-1] == 0
    assert len(left) > 3
    assert max(before - after for before, after in itertools.pairwise(left)) <= 64
    assert plane.names() == ["other"]
    assert not faults_of(plane)


def test_gc_removes_whatever_is_over(plane: shmplane.Plane) -> None:
    for number in range(200):
        plane.put(f"{number}", b"x", ttl=LONG).close()
        let_time_pass_for(plane, f"{number}")
    assert plane.gc().blocks >= 100
    assert plane.stats().blocks == 0
    assert not faults_of(plane)


def test_a_full_plane_takes_the_room_of_what_is_over(plane_root: Any) -> None:
    with shmplane.Plane("full", root=plane_root, capacity="1MiB", recycle=0) as plane:
        plane.put("old", bytes(900_000), ttl=LONG).close()
        let_time_pass_for(plane, "old")
        plane.put("new", bytes(900_000)).close()
        assert plane.names() == ["new"]
        plane.destroy()


def test_the_name_goes_also_when_its_process_was_killed(plane: shmplane.Plane) -> None:
    def put() -> None:
        plane.put("x", bytes(100_000), ttl=LONG)  # and ends with the lease

    run_forked(put)
    assert bytes(plane["x"]) == bytes(100_000)
    let_time_pass_for(plane, "x")
    assert _absent(plane, "x")
    plane.gc()
    assert not faults_of(plane)


def test_a_time_is_known_to_all_processes(plane: shmplane.Plane) -> None:
    plane.put("x", b"x", ttl=LONG).close()
    assert plane["x"] == b"x"
    run_forked(lambda: let_time_pass_for(plane, "x"))
    assert _absent(plane, "x")


def test_recovery_keeps_times(plane: shmplane.Plane) -> None:
    plane.put("x", b"x", ttl=LONG).close()
    suspect_everything(plane)
    plane.gc()
    assert not faults_of(plane)
    assert let_time_pass_for(plane, "x")
    assert _absent(plane, "x")
