"""Planes larger than memory under load: every checksum right, whoever is killed."""

from __future__ import annotations

import time
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

import shmplane
from tests.crashes.test_soak import check_soak
from tests.support.audit import faults_of
from tests.support.forked import Forked
from tests.support.processes import run_in_child

MIB = 1 << 20
WORKERS = 4


def _value(number: int, nbytes: int) -> bytes:
    return np.random.default_rng(number).bytes(nbytes)


def _work(plane: shmplane.Plane, worker: int, count: int, nbytes: int) -> None:
    """Put a share of the blocks; then read all, those of the others as soon as they are there."""
    for number in range(worker, count, WORKERS):
        plane[f"{number}"] = _value(number, nbytes)
    for number in range(count):
        with plane.wait(f"{number}", timeout=120) as block:
            assert crc32(block.buffer()) == crc32(_value(number, nbytes)), f"block {number} has other bytes"


def _serve(root: str, disk: str, capacity: int, count: int, nbytes: int) -> dict[str, int]:
    plane = shmplane.Plane("served", root=root, capacity=capacity, spill=disk)
    workers = [Forked(lambda worker=worker: _work(plane, worker, count, nbytes)) for worker in range(WORKERS)]  # type: ignore[misc]
    for worker in workers:
        worker.wait(600)
    plane.gc()
    stats, faults = plane.stats(), faults_of(plane)
    assert not faults, faults
    plane.destroy()
    assert not [path for path in Path(disk).rglob("*") if path.is_file()]
    return {"used": stats.used_nbytes, "spilled": stats.spilled_nbytes}


def _check(root: Path, disk: Path, capacity: int, count: int, nbytes: int) -> None:
    began = time.monotonic()
    found = run_in_child(_serve, str(root), str(disk), capacity, count, nbytes, method="spawn", deadline=900)
    assert found["used"] <= capacity
    assert found["used"] + found["spilled"] >= count * nbytes
    print(f"{count * nbytes / MIB:,.0f} MiB through {capacity / MIB:,.0f} MiB in {time.monotonic() - began:.1f} s")


def test_a_plane_serves_sixteen_times_its_memory_to_four_workers(plane_root: Path, tmp_path: Path) -> None:
    _check(plane_root, tmp_path, 2 * MIB, 64, MIB // 2)


@pytest.mark.sweep
@pytest.mark.timeout(1000)
def test_64_mib_serve_1_gib_to_four_workers(plane_root: Path, tmp_path: Path) -> None:
    _check(plane_root, tmp_path, 64 * MIB, 256, 4 * MIB)


def test_kills_all_the_time_in_a_plane_that_spills_leave_every_value_whole(plane_root: Path, tmp_path: Path) -> None:
    check_soak(plane_root, 4, spill=tmp_path)


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_the_same_for_minutes(plane_root: Path, tmp_path: Path) -> None:
    check_soak(plane_root, 300, spill=tmp_path)
