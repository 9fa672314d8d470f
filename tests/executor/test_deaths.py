"""Workers that are killed, and executors that are: nothing is left, and with ``retry`` nothing is lost."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import shmplane
from shmplane import ProcessPoolExecutor
from tests.executor import tasks
from tests.executor.sweep import left_in, sweep_asker, sweep_worker
from tests.support.processes import Child
from tests.support.waiting import HANG_S

METHODS = ["spawn", "forkserver", "fork"]
SIZE = 50_000


def pool(workers: int = 1, method: str = "fork", **options: Any) -> ProcessPoolExecutor:
    context: Any = multiprocessing.get_context(method)
    return ProcessPoolExecutor(workers, context, **options)


def assert_nothing_is_left(plane: shmplane.Plane) -> None:
    assert left_in(plane) == ""


@pytest.mark.parametrize("where", ["pickling", "writing", "written"])
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_killed_over_its_result_leaves_nothing(plane: shmplane.Plane, where: str, method: str) -> None:
    with pool(2, method, plane=plane) as executor:
        array = np.ones(SIZE)
        assert executor.submit(tasks.total, array).result() == SIZE
        lost = executor.submit(tasks.kept_by, where)
        with pytest.raises(BrokenProcessPool):
            lost.result()
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.pid)
    assert_nothing_is_left(plane)


@pytest.mark.parametrize("on_worker_death", ["break", "retry"])
def test_a_worker_killed_at_any_moment_leaves_nothing(
    plane: shmplane.Plane, tmp_path: Path, on_worker_death: str
) -> None:
    swept = sweep_worker(plane, tmp_path, "fork", on_worker_death, 12)
    assert not swept.problems
    assert swept.kills >= 10


def test_an_asker_killed_at_any_moment_leaves_nothing(plane: shmplane.Plane, tmp_path: Path) -> None:
    swept = sweep_asker(plane, tmp_path, "fork", 8)
    assert not swept.problems
    assert swept.kills >= 6  # threads take turns as they like, so that the last moments may not come


def test_results_that_nobody_will_read_go_when_the_pool_breaks(plane: shmplane.Plane, tmp_path: Path) -> None:
    with pool(3, plane=plane) as executor:
        many = [executor.submit(tasks.ones, SIZE) for _ in range(30)]
        executor.submit(tasks.kill_always, tmp_path / "log")
        futures.wait(many)
        del many
    assert_nothing_is_left(plane)


@pytest.mark.parametrize("method", METHODS)
def test_a_lost_task_runs_again_and_the_others_go_on(plane: shmplane.Plane, tmp_path: Path, method: str) -> None:
    with pool(2, method, plane=plane, on_worker_death="retry") as executor:
        long = executor.submit(tasks.wait_for, tmp_path / "go")
        lost = executor.submit(tasks.kill_once, tmp_path / "killed")
        others = [executor.submit(tasks.ones, SIZE) for _ in range(5)]
        assert lost.result() > 0
        assert [other.result().sum() for other in others] == [SIZE] * 5
        assert not long.done()  # its worker was not touched
        (tmp_path / "go").touch()
        assert long.result().sum() == SIZE
        assert executor.stats().retried == 1
        assert list(executor.map(tasks.total, [np.ones(SIZE)] * 6, chunksize=2)) == [SIZE] * 6
        error = executor.submit(tasks.fail, "wrong").exception()
        assert type(error) is ValueError
    del others, long
    assert_nothing_is_left(plane)


def test_a_task_that_kills_every_worker_is_tried_three_times(plane: shmplane.Plane, tmp_path: Path) -> None:
    with pool(2, plane=plane, on_worker_death="retry") as executor:
        lost = executor.submit(tasks.kill_always, tmp_path / "log")
        other = executor.submit(tasks.ones, SIZE)
        with pytest.raises(BrokenProcessPool):
            lost.result()
        assert (tmp_path / "log").read_text() == "xxx"
        assert other.result().sum() == SIZE
        assert executor.submit(tasks.add, 1).result() == 1
    del other
    assert_nothing_is_left(plane)


def test_a_worker_that_died_with_nothing_to_do_costs_no_task(plane: shmplane.Plane) -> None:
    with pool(1, plane=plane, on_worker_death="retry") as executor:
        pid = executor.submit(tasks.pid).result()
        os.kill(pid, signal.SIGKILL)
        assert executor.submit(tasks.pid).result() != pid
    assert_nothing_is_left(plane)


def test_retry_ends_as_the_standard_library_does(tmp_path: Path) -> None:
    executor = pool(1, on_worker_death="retry")
    first = executor.submit(tasks.wait_for, tmp_path / "go")
    waiting = [executor.submit(tasks.ones, SIZE) for _ in range(3)]
    assert waiting[1].cancel()
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.pid)
    (tmp_path / "go").touch()
    executor.shutdown()
    assert first.result().sum() == waiting[0].result().sum() == waiting[2].result().sum() == SIZE
    with pool(1, on_worker_death="retry") as executor:
        first = executor.submit(tasks.wait_for, tmp_path / "go")
        waiting = [executor.submit(tasks.ones, SIZE) for _ in range(3)]
        executor.shutdown(cancel_futures=True)
        assert first.done()
        assert all(future.cancelled() for future in waiting[1:])


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_at_once(plane: shmplane.Plane, tmp_path: Path, how: str) -> None:
    options: Any
    for options in ({}, {"on_worker_death": "retry"}):
        with pool(2, plane=plane, **options) as executor:
            running = [executor.submit(tasks.wait_for, tmp_path / "never") for _ in range(4)]
            while not running[1].running():
                time.sleep(0.005)
            getattr(executor, how)()
            for future in running:
                with pytest.raises((BrokenProcessPool, futures.CancelledError)):
                    future.result()
            with pytest.raises((RuntimeError, BrokenProcessPool)):
                executor.submit(tasks.pid)
    assert_nothing_is_left(plane)


def test_a_plane_that_forked_workers_inherited_goes_with_them(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMPLANE_ROOT", str(plane_root))
    with pool() as executor:
        result: Any = executor.submit(tasks.ones, SIZE).result()
    with pool() as executor:
        executor.submit(tasks.pid).result()  # its worker has a part in the plane of the result
        result = None
    gc.collect()
    end = time.monotonic() + HANG_S
    while list(plane_root.glob("shmplane-*/temporary-*")):
        assert result is None
        assert time.monotonic() < end, "a plane is left"
        time.sleep(0.01)


def _owner(name: str, root: str, method: str) -> Iterator[Any]:
    """An executor whose process will be killed, with results on their way and tasks under way."""
    plane = shmplane.Plane(name, root=root)
    executor = pool(2, method, plane=plane)
    held = [executor.submit(tasks.ones, SIZE) for _ in range(4)]
    for _ in range(8):
        executor.submit(tasks.pid).result()
    # One worker may have done all eight while another was still being started; that one has a part in the plane as well.
    yield [process.pid for process in psutil.Process().children(recursive=True)]
    yield len(held)


@pytest.mark.parametrize("method", METHODS)
def test_workers_and_results_go_when_their_executor_is_killed(plane: shmplane.Plane, method: str) -> None:
    with Child(_owner, plane.name, plane.root, method) as child:
        pids = child.next()
        assert pids
        child.kill()
    end = time.monotonic() + HANG_S
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < end, "the workers are still there"
        time.sleep(0.01)
    assert_nothing_is_left(plane)


def _stopped(name: str, root: str) -> Iterator[Any]:
    plane = shmplane.Plane(name, root=root)
    with pool(2, plane=plane) as executor:
        executor.submit(tasks.pid).result()
        waiting = [executor.submit(tasks.ones, SIZE) for _ in range(3)]
        yield "submitted"
        yield sum(future.result().sum() for future in waiting)


def test_results_wait_for_a_process_that_is_stopped(plane: shmplane.Plane) -> None:
    with Child(_stopped, plane.name, plane.root) as child:
        child.next()
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.3)
        plane.gc()
        os.kill(child.pid, signal.SIGCONT)
        assert child.next() == 3 * SIZE
    assert_nothing_is_left(plane)
