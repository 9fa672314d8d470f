"""A block's first use by many threads at once: what is made lazily is made once, or a view would lose its memory.

Runs in a child: what goes wrong here is a segmentation fault.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from tests.plane.versions import edit
from tests.support.forked import run_forked
from tests.support.inside import forget_mappings

THREADS = 8
ROUNDS = 60


def _put_array(plane: shmplane.Plane, turn: int) -> None:
    plane["x"] = np.full(20_000, turn)


def _put_small_array(plane: shmplane.Plane, turn: int) -> None:
    plane["x"] = np.full(100, turn)


def _edit_array(plane: shmplane.Plane, turn: int) -> None:
    if "x" not in plane:
        plane["x"] = np.full(200_000, turn)
    with edit(plane, "x") as draft:
        draft.array[[0, 100_000, -1]] = turn


def _put_table(plane: shmplane.Plane, turn: int) -> None:
    plane["x"] = pa.table({"x": np.full(20_000, turn)})


def _append(plane: shmplane.Plane, turn: int) -> None:
    # Enough for a part of its own: parts are merged when the younger ones are as large.
    plane.append("x", pa.table({"x": np.full(max(10, 30_000 >> 3 * (turn % 4)), turn)}))


def _read_value(plane: shmplane.Plane) -> int:
    value = plane["x"]
    return int((value.column("x").chunks[-1].to_numpy() if isinstance(value, pa.Table) else value)[-1])


def _read_block(plane: shmplane.Plane) -> int:
    block = plane.attach("x")
    return int((block.table(columns=["x"])["x"].chunks[-1].to_numpy() if block.kind == "table" else block.array())[-1])


def _at_once(prepare: Callable[[int], Any], use: Callable[[], Any]) -> None:
    """In turns: prepare, then let all threads use it; they see what ``prepare`` returned."""
    sys.setswitchinterval(1e-6)
    start, end = threading.Barrier(THREADS + 1, timeout=30), threading.Barrier(THREADS + 1, timeout=30)
    seen: list[Any] = []

    def run() -> None:
        for _ in range(ROUNDS):
            start.wait()
            try:
                seen.append([use() for _ in range(3)])
            except BaseException as error:
                seen.append(error)
            end.wait()

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for turn in range(ROUNDS):
        expected = prepare(turn)
        start.wait()
        end.wait()
        assert seen == [[expected or seen[0][0]] * 3] * THREADS
        seen.clear()
    for thread in threads:
        thread.join()


def _read_at_once(change: Callable[[shmplane.Plane, int], None], read: Callable[[shmplane.Plane], int]) -> None:
    with shmplane.Plane.temporary(recycle=0) as plane:

        def prepare(turn: int) -> int:
            change(plane, turn + 1)
            forget_mappings(plane)  # as after a while without use
            return turn + 1

        _at_once(prepare, lambda: read(plane))


def _export_at_once(plane: shmplane.Plane) -> None:
    blocks: list[shmplane.Block] = []

    def prepare(turn: int) -> None:
        blocks[:] = [plane.put("x", turn)]

    _at_once(prepare, lambda: (blocks[0].shm_name, blocks[0].shm_offset))
    assert plane.stats().leases <= 2 * THREADS


@pytest.mark.parametrize("change", [_put_array, _put_small_array, _edit_array, _put_table, _append])
@pytest.mark.parametrize("read", [_read_value, _read_block])
def test_many_threads_use_a_block_for_the_first_time(
    change: Callable[[shmplane.Plane, int], None], read: Callable[[shmplane.Plane], int]
) -> None:
    run_forked(lambda: _read_at_once(change, read), 60)


@pytest.mark.default_root
def test_many_threads_ask_for_a_name_that_the_standard_library_finds(plane_name: str) -> None:
    with shmplane.Plane(plane_name, root="/dev/shm", capacity="64MiB") as plane:
        try:
            run_forked(lambda: _export_at_once(plane), 60)
        finally:
            plane.destroy()
