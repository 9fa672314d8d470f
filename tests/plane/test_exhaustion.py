"""Tables that run out: rows, cells, segments and permits come back from wherever they can, and nothing is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.forked import run_forked
from tests.support.inside import suspect_everything
from tests.support.processes import Child

# Cells of 1,280 bytes, 12 to a slab; and of 1,024 bytes, 16 to a slab.
TWELVE, SIXTEEN = b"t" * 1200, b"s" * 900


def test_a_slab_of_orphaned_cells_alone_is_not_used_and_dissolved_at_once(plane_root: Path) -> None:
    """The cells of an idle slab lost their rows to another slab; who adopts one must not dissolve the slab meanwhile."""
    with shmplane.Plane("plane", root=str(plane_root), max_blocks=16, capacity="1MiB") as plane:
        for index in range(16):
            plane[f"s{index}"] = SIXTEEN
        for index in range(1, 16):
            del plane[f"s{index}"]
        for index in range(12):
            plane[f"t{index}"] = TWELVE
        for index in range(12):
            del plane[f"t{index}"]
        suspect_everything(plane)
        plane.gc()

        plane["new"] = TWELVE
        plane.gc()

        assert bytes(plane["new"]) == TWELVE
        assert not faults_of(plane)
        plane.destroy()


@pytest.mark.parametrize("used", range(12, 16))
def test_an_append_whose_second_block_needs_a_row_keeps_the_first_ones_cell(plane_root: Path, used: int) -> None:
    """When rows have run out, idle slabs are dissolved for theirs; not those that this very call has taken a cell of."""
    with shmplane.Plane("plane", root=str(plane_root), max_blocks=30, capacity="8MiB") as plane:
        expected: list[int] = [1]
        plane["table"] = pa.table({"a": expected})
        for index in range(used):
            plane[f"x{index}"] = b"x" * (100 + 130 * index)
        for index in range(used):
            del plane[f"x{index}"]
        with contextlib.suppress(shmplane.PlaneFull):
            for index in range(20):
                plane[f"y{index}"] = b"y" * (64 * index + 30)
        for index in range(0, 20, 2):
            plane.pop(f"y{index}", None)
        for turn in range(12):
            added = list(range(37 * turn))
            with contextlib.suppress(shmplane.PlaneFull):
                plane.append("table", pa.table({"a": pa.array(added, pa.int64())})).close()
                expected += added
            assert not faults_of(plane)
        assert plane["table"].column("a").to_pylist() == expected
        plane.destroy()


def _die_with(plane: shmplane.Plane, *semaphores: tuple[str, int]) -> None:
    def hold() -> None:
        for name, permits in semaphores:
            plane.semaphore(name, permits).acquire()

    run_forked(hold)


def test_locks_of_dead_processes_make_room_for_others(plane: shmplane.Plane) -> None:
    _die_with(plane, *((f"{index}", 1) for index in range(512)))
    with plane.lock("mine"):
        assert not faults_of(plane)


def test_the_count_of_a_semaphore_that_only_the_dead_used_can_be_another(plane: shmplane.Plane) -> None:
    _die_with(plane, ("pool", 2))
    assert plane.semaphore("pool", 3).permits == 3


@pytest.fixture
def few_rows(plane_root: Path) -> Iterator[shmplane.Plane]:
    """A plane of 4 blocks and 68 segments."""
    with shmplane.Plane("plane", root=str(plane_root), max_blocks=4, capacity="256MiB", recycle="256MiB") as plane:
        yield plane
        plane.destroy()


def _leave_warm(plane: shmplane.Plane, count: int) -> None:
    for index in range(count):
        plane["x"] = bytes(70_000 + 4096 * index)  # each a page larger, so that none fits into those before
        del plane["x"]


def test_warm_segments_do_not_use_up_the_rows(few_rows: shmplane.Plane) -> None:
    _leave_warm(few_rows, 80)
    assert not few_rows.names()


def test_rows_of_removed_segments_are_free_although_their_remover_does_nothing_more(few_rows: shmplane.Plane) -> None:
    """Who removes files says so in its next call; until then the rows are doomed."""
    _leave_warm(few_rows, 60)
    with Child(_trim_and_idle, few_rows.name, few_rows.root) as child:
        child.next()
        _leave_warm(few_rows, 80)
        child.result()


def _trim_and_idle(name: str, root: str) -> Iterator[None]:
    with shmplane.Plane(name, root=root) as plane:
        plane.trim(0)
        yield
        yield


def test_evictable_blocks_make_room_for_a_row(few_rows: shmplane.Plane) -> None:
    for index in range(4):
        few_rows.put(f"cached {index}", b"c", evictable=True).close()
    few_rows["new"] = b"n"
    assert "new" in few_rows
    assert "cached 0" not in few_rows  # the oldest goes first
    assert "cached 3" in few_rows


def test_a_capacity_is_lowered_over_what_the_dead_held_and_what_is_evictable(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=str(plane_root), capacity="1MiB") as plane:
        run_forked(lambda: plane.put("cached", bytes(200_000), evictable=True).close())

        def hold() -> None:
            kept.extend(plane.put(None, bytes(200_000), linger=0.0) for _ in range(2))

        kept: list[shmplane.Block] = []
        run_forked(hold)
        plane["own"] = bytes(200_000)
        plane.resize(300_000)
        assert plane.names() == ["own"]
        with pytest.raises(shmplane.PlaneFull):
            plane.resize(100_000)
        plane.destroy()
