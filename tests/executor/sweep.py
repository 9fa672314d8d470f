"""Kills at every moment of a task: of its worker, and of the process that asked.

``python -m tests.executor.sweep`` kills at every call and return that there is from a worker's start to its second task, under
each start method and both ways to take it; and the process that asked, from its first task to its last result. ``--points N``
takes a regular sample of N of each, ``--method``, ``--only worker|asker`` narrow it down. It prints a line per sweep and ends
with 1 when a result was wrong, or anything was left.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import shmplane
from shmplane import ProcessPoolExecutor
from tests.executor import tasks
from tests.support.audit import faults_of
from tests.support.inside import kept_rows, slot_of
from tests.support.processes import Child

METHODS = ("spawn", "forkserver", "fork")
SIZE = 50_000
NEVER = 1 << 62
_MOST_WAITED_S = 20.0


class Swept(NamedTuple):
    """What one sweep has found."""

    what: str
    points: int
    kills: int
    problems: list[str]


_counted = itertools.count(1)


def arm(point: int, path: Path, *, in_threads: bool = False) -> None:
    """Kill this process at its ``point``-th call or return from now on; only the first that comes to it, who makes ``path``."""
    if path.exists():
        return

    def count(*_: Any) -> None:
        if next(_counted) == point:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)

    if in_threads:
        threading.setprofile(count)
    sys.setprofile(count)


def change_one(arrays: list[Any]) -> Any:
    """One comes back as it was, one changed, and one is new."""
    arrays[1][0] = 7
    return [*arrays, np.ones(SIZE), next(_counted)]


def points_of(count: int, sample: int | None) -> list[int]:
    """All of 1 to ``count``, or a regular sample."""
    return list(range(1, count + 1)) if sample is None else sorted({1 + n * count // sample for n in range(sample)})


def problem_with(found: list[Any]) -> str:
    sums = [float(one.sum()) for one in found[:3]]
    return "" if sums == [SIZE, SIZE + 6, SIZE] else f"results {sums}"


def left_in(plane: shmplane.Plane) -> str:
    """What is left, a moment after the last process has ended."""
    end = time.monotonic() + _MOST_WAITED_S
    while True:
        gc.collect()
        plane.gc()
        plane.gc()  # what a killed process was writing goes in two steps: the row, then the segment
        blocks, kept, faults = plane.stats().blocks, kept_rows(plane, slot_of(plane)), faults_of(plane)
        if not blocks and not kept and not faults:
            return ""
        if time.monotonic() > end:
            return "; ".join([f"{blocks} blocks and {kept} are left", *faults])
        time.sleep(0.02)


# Of a worker


def sweep_worker(
    plane: shmplane.Plane, directory: Path, method: str, on_worker_death: str, sample: int | None
) -> Swept:
    """Kill the worker of one task after the other at one moment more each time."""
    count = _one_worker(plane, directory / "never", method, on_worker_death, NEVER)[1]
    problems, kills = [], 0
    points = points_of(count, sample)
    for point in points:
        path = directory / f"{method}-{on_worker_death}-{point}"
        problem, _ = _one_worker(plane, path, method, on_worker_death, point)
        problem = problem or left_in(plane)
        kills += path.exists()
        if problem:
            problems.append(f"worker, {method}, {on_worker_death}, point {point}: {problem}")
    return Swept(f"worker, {method}, {on_worker_death}", len(points), kills, problems)


def _one_worker(plane: shmplane.Plane, path: Path, method: str, on_worker_death: str, point: int) -> tuple[str, int]:
    options: Any = {"plane": plane, "on_worker_death": on_worker_death, "initializer": arm, "initargs": (point, path)}
    context: Any = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, context, **options) as executor:
        count, problem = 0, ""
        for _ in range(2):
            try:
                *arrays, count = executor.submit(change_one, [np.ones(SIZE), np.ones(SIZE)]).result(_MOST_WAITED_S)
                problem = problem or problem_with(arrays)
            except BrokenProcessPool:
                if on_worker_death == "retry":
                    problem = "a lost task was not run again"
    return problem, count


# Of the process that asks


def sweep_asker(plane: shmplane.Plane, directory: Path, method: str, sample: int | None) -> Swept:
    """The same for the process that has the executor, in all of its threads."""
    with Child(_ask, plane.name, plane.root, method, NEVER, directory / "never", method="fork") as child:
        count = child.result()
    problems, kills = [], 0
    points = points_of(count, sample)
    for point in points:
        path = directory / f"asker-{method}-{point}"
        with Child(_ask, plane.name, plane.root, method, point, path, method="fork") as child:
            child.process.join(_MOST_WAITED_S)
        kills += path.exists()
        problem = left_in(plane)
        if problem:
            problems.append(f"asker, {method}, point {point}: {problem}")
    return Swept(f"asker, {method}", len(points), kills, problems)


def _ask(name: str, root: str, method: str, point: int, path: Path) -> int:
    context: Any = multiprocessing.get_context(method)
    forkserver._forkserver.__init__()  # type: ignore[misc]  # that of the parent is none of ours
    with shmplane.Plane(name, root=root) as plane, ProcessPoolExecutor(1, context, plane=plane) as executor:
        executor.submit(tasks.pid).result()  # a worker that is forked later would be armed as well
        arm(point, path, in_threads=True)
        found = [executor.submit(change_one, [np.ones(SIZE), np.ones(SIZE)]) for _ in range(2)]
        results = [future.result() for future in found]
        sys.setprofile(None)
        del results
    return next(_counted)


def sweeps(sample: int | None, methods: list[str], only: str) -> Iterator[Swept]:
    """All of them, in a plane and a directory of their own."""
    with tempfile.TemporaryDirectory() as directory, shmplane.Plane.temporary() as plane:
        for method in methods:
            if only != "asker":
                for on_worker_death in ("break", "retry"):
                    yield sweep_worker(plane, Path(directory), method, on_worker_death, sample)
            if only != "worker":
                yield sweep_asker(plane, Path(directory), method, sample)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int)
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--only", choices=("worker", "asker"), default="")
    options = parser.parse_args()
    failed = False
    for swept in sweeps(options.points, [options.method] if options.method else list(METHODS), options.only):
        print(
            f"{swept.what:<32} {swept.points:>5} points {swept.kills:>5} kills {len(swept.problems):>4} problems",
            flush=True,
        )
        for problem in swept.problems[:5]:
            print("   ", problem)
        failed = failed or bool(swept.problems)
    return int(failed)


if __name__ == "__main__":
    from tests.executor.sweep import main as of_the_module  # whose functions workers can import

    sys.exit(of_the_module())
