"""Sixteen processes that make every call on checksummed values, one of them killed every 200 ms.

Whatever a worker reads must prove itself: a value carries the checksum of its bytes, an array's page the number that all
of its words must have, a table's batch its size. At the end nothing may be left: no block, lease, row, file or mapping.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.forked import Forked
from tests.support.processes import run_in_child

WORKERS = 16
KILL_EVERY_S = 0.2
PAGES, ITEMS = 32, 512
NAMES = [f"value/{number}" for number in range(12)]
GRIDS = [f"grid/{number}" for number in range(3)]
LOGS = [f"log/{number}" for number in range(2)]

#: another process was faster, or there is no room now
EXPECTED = (shmplane.BlockNotFound, shmplane.Conflict, shmplane.PlaneFull, shmplane.StaleHandle, shmplane.LockTimeout)


def sealed(chance: random.Random) -> bytes:
    body = chance.randbytes(chance.choice([10, 3_000, 50_000, 200_000]))
    return crc32(body).to_bytes(4, "little") + body


def check(value: Any) -> None:
    data = bytes(value)
    assert crc32(data[4:]) == int.from_bytes(data[:4], "little"), "the bytes are not those that were put"


def check_grid(grid: Any) -> None:
    assert (grid == grid[:, :1]).all(), "a page of two edits"


def check_log(log: pa.Table) -> None:
    sizes = log["size"].to_numpy()
    at = 0
    while at < len(sizes):
        size = int(sizes[at])
        assert sizes[at : at + size].tolist() == [size] * size, "half of a batch"
        at += size


class Worker:
    """Random calls; what it still holds is checked again before it is let go."""

    def __init__(self, plane: shmplane.Plane, seed: int) -> None:
        self.plane, self.chance = plane, random.Random(seed)
        self.held: list[tuple[Callable[[Any], None], Any]] = []

    def run(self) -> None:
        calls = [self.put, self.put, self.read, self.read, self.delete, self.rename, self.build, self.pass_on]
        calls += [self.edit, self.read_grid, self.append, self.read_log, self.guard, self.let_go]
        while True:
            with contextlib.suppress(*EXPECTED):
                self.chance.choice(calls)()

    def put(self) -> None:
        self.plane[self.chance.choice(NAMES)] = sealed(self.chance)

    def read(self) -> None:
        self._hold(check, self.plane[self.chance.choice(NAMES)])

    def delete(self) -> None:
        del self.plane[self.chance.choice(NAMES)]

    def rename(self) -> None:
        self.plane.rename(*self.chance.sample(NAMES, 2))

    def build(self) -> None:
        value = sealed(self.chance)
        with self.plane.create(self.chance.choice(NAMES), (len(value),), "u1") as builder:
            builder.array[:] = np.frombuffer(value, "u1")

    def pass_on(self) -> None:
        block = self.plane.put(None, sealed(self.chance), linger=0.05)
        self._hold(check, block.buffer())

    def edit(self) -> None:
        name = self.chance.choice(GRIDS)
        if name not in self.plane:
            self.plane[name] = np.zeros((PAGES, ITEMS))
        with self.plane.edit(name) as draft:
            array: Any = draft.array
            array[self.chance.sample(range(PAGES), 3)] = self.chance.random()

    def read_grid(self) -> None:
        self._hold(check_grid, self.plane[self.chance.choice(GRIDS)])

    def append(self) -> None:
        name, size = self.chance.choice(LOGS), self.chance.choice([1, 40, 900])
        self.plane.append(name, pa.table({"size": np.full(size, size), "text": [f"row of {size}"] * size}))
        if self.chance.random() < 0.02:
            del self.plane[name]

    def read_log(self) -> None:
        self._hold(check_log, self.plane[self.chance.choice(LOGS)])

    def guard(self) -> None:
        counter = self.plane.mutable("counter", (2,), "i8")
        with self.plane.lock("guard"):
            counter[0] += 1
            assert counter[0] > counter[1], "two in the lock"  # a killed holder leaves the first one ahead
            counter[1] = counter[0]

    def let_go(self) -> None:
        while self.held:
            checked, view = self.held.pop()
            checked(view)

    def _hold(self, checked: Callable[[Any], None], view: Any) -> None:
        checked(view)
        self.held.append((checked, view))
        if len(self.held) > 6:
            checked, view = self.held.pop(0)
            checked(view)


def _soak(root: str, seconds: float, spill: str | None) -> tuple[int, list[str], list[float]]:
    """How many were killed, what workers said that ended by themselves, and the seconds of each gc after a kill."""
    # Of what there is at a time, about half fits into the smaller one.
    capacity = "48MiB" if spill is None else "2MiB"
    plane = shmplane.Plane(
        "soak", root=root, capacity=capacity, max_blocks=1024, max_processes=2 * WORKERS, spill=spill
    )
    start = lambda seed: Forked(Worker(plane, seed).run)  # noqa: E731
    with shmplane.Plane("soak", root=root):
        gc.collect()
    before = _held_here(root)
    workers = [start(seed) for seed in range(WORKERS)]
    chance, killed, problems, times = random.Random(7), 0, [], []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(KILL_EVERY_S)
        at = chance.randrange(WORKERS)
        workers[at].kill()
        killed += 1
        began = time.perf_counter()
        plane.gc()
        times.append(time.perf_counter() - began)
        workers[at] = start(WORKERS + killed)
        problems += [said for worker in workers if (said := worker.said_already())]
    for worker in workers:
        worker.kill()
    for _ in range(3):
        plane.gc()
    problems += faults_of(plane)
    for name in plane:
        del plane[name]
    time.sleep(0.06)  # what lingers
    gc.collect()
    for _ in range(3):
        plane.gc()
    stats = plane.stats()
    if (stats.blocks, stats.leases, stats.processes) != (0, 0, 1):
        problems.append(f"left behind: {stats}")
    plane.trim()
    plane.gc()
    after = _held_here(root)
    problems += [f"{what}: {before[what]} before, {after[what]} after" for what in before if after[what] > before[what]]
    problems += faults_of(plane)
    plane.destroy()
    return killed, problems, times


def _held_here(root: str) -> dict[str, int]:
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    maps = [line for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines() if root in line]
    return {"files": len(files), "descriptors": len(os.listdir("/proc/self/fd")), "mappings": len(maps)}


def check_soak(root: Path, seconds: float, *, spill: Path | None = None) -> None:
    disk = None if spill is None else str(spill)
    killed, problems, times = run_in_child(_soak, str(root), seconds, disk, method="spawn", deadline=seconds + 60)
    assert not problems, "\n".join(problems[:5])
    assert killed >= 3
    slowest = statistics.quantiles(times, n=100)[-1]
    print(f"{killed} killed, 0 errors; gc after a kill: median {statistics.median(times) * 1e3:.1f} ms, ", end="")
    print(f"p99 {slowest * 1e3:.1f} ms")


def test_kills_all_the_time_leave_every_value_whole_and_nothing_behind(plane_root: Path) -> None:
    check_soak(plane_root, 6)


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_the_same_for_minutes(plane_root: Path) -> None:
    check_soak(plane_root, 300)
