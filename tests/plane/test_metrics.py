"""``plane.metrics()``: what all processes have done, also those that were killed, and how the plane is now."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

import shmplane
from shmplane import ClosedError, Conflict, Metrics
from tests.support.forked import Forked, run_forked
from tests.support.inside import change
from tests.support.lines import until
from tests.support.tracing import kill_this_process


def grown(before: Metrics, after: Metrics, *fields: str) -> tuple[int, ...]:
    return tuple(getattr(after, field) - getattr(before, field) for field in fields)


def test_puts_gets_misses_and_deletes_are_counted(plane: shmplane.Plane) -> None:
    before = plane.metrics()
    plane["a"] = np.ones(1000)
    plane["b"] = [1, 2]
    assert plane["b"] == [1, 2]
    plane.attach("a").close()
    assert plane.get("c") is None
    del plane["b"]
    after = plane.metrics()
    assert grown(before, after, "puts", "gets", "misses", "deletes") == (2, 2, 1, 1)
    assert 8000 < after.copied_nbytes < 9000


def test_what_is_got_again_while_it_is_held_is_not_counted(plane: shmplane.Plane) -> None:
    plane["a"] = np.ones(10)
    view = plane["a"]
    before = plane.metrics()
    for _ in range(100):
        assert plane["a"][0] == view[0]
    after = plane.metrics()
    assert grown(before, after, "gets") == (0,)
    assert after.lock_wait.count - before.lock_wait.count < 10


def test_a_put_is_no_get_whether_it_has_a_name_or_not(plane: shmplane.Plane) -> None:
    before = plane.metrics()
    with plane.put("named", 1), plane.put(None, 2), plane.put(None, bytes(100_000)):
        after = plane.metrics()
    assert grown(before, after, "puts", "gets") == (3, 0)


def test_blocks_are_told_by_kind_and_memory_by_state(plane: shmplane.Plane) -> None:
    plane["array"], plane["json"], plane["more"] = np.ones(100_000), {"a": 1}, [2]
    block = plane.put(None, b"anonymous")
    view = plane["array"]
    found = plane.metrics()
    assert found.blocks == {"array": 1, "json": 2, "bytes": 1}
    assert (found.names, found.leases, found.processes) == (3, 2, 1)
    stats = plane.stats()
    assert (found.used_nbytes, found.free_nbytes) == (stats.used_nbytes, stats.free_nbytes)
    assert found.used_nbytes + found.recycled_nbytes + found.free_nbytes == found.capacity == stats.capacity
    del view
    block.close()
    plane.gc()
    assert plane.metrics().leases == 0


def test_thousands_of_blocks_are_counted_one_by_one(plane: shmplane.Plane) -> None:
    for number in range(5000):
        plane[f"n{number}"] = b"x" if number % 3 else [number]
    for number in range(0, 5000, 5):
        del plane[f"n{number}"]
    left = [number for number in range(5000) if number % 5]
    of_json = sum(number % 3 == 0 for number in left)
    found = plane.metrics()
    assert found.blocks == {"bytes": len(left) - of_json, "json": of_json}
    assert found.names == len(left)


def test_what_killed_processes_counted_stays_and_is_counted_once(plane: shmplane.Plane) -> None:
    plane["a"] = b"x"
    before = last = plane.metrics()

    def put_and_die() -> None:
        for _ in range(5):
            plane["a"] = b"y"
        kill_this_process()

    for round_ in range(1, 4):
        Forked(put_and_die).end()
        now = plane.metrics()
        assert grown(before, now, "puts") == (5 * round_,)
        plane.gc()
        found = plane.metrics()
        assert grown(before, found, "puts", "reclaimed") == (5 * round_, round_)
        assert found.puts >= now.puts >= last.puts
        last = found
    assert last.processes == 1


def test_what_processes_counted_that_left_stays(plane: shmplane.Plane) -> None:
    before = plane.metrics()

    def put() -> None:
        with shmplane.Plane(plane.name, root=plane.root) as own:
            own["a"] = [1]
        plane.close()

    run_forked(put, 30)
    after = plane.metrics()
    assert grown(before, after, "puts") == (1,)
    assert after.processes == 1


def test_conflicts_evictions_and_expirations_are_counted() -> None:
    with shmplane.Plane.temporary(capacity="4MiB", recycle=0) as plane:
        plane["a"] = [1]
        with pytest.raises(Conflict):
            plane.put("a", [2], expected_version=7)
        draft = plane.edit("a")
        plane["a"] = [3]
        draft.value.append(2)
        with pytest.raises(Conflict):
            draft.commit()
        draft.discard()
        plane.put("soon", [1], ttl=0.0)
        plane.gc()
        for number in range(6):
            plane.put(f"b{number}", np.zeros(1 << 17), evictable=True).close()
        found = plane.metrics()
        assert (found.conflicts, found.expirations) == (2, 1)
        assert found.evictions >= 3


def test_waits_for_the_planes_lock_are_told_by_how_long_they_took(plane: shmplane.Plane) -> None:
    before = plane.metrics()

    def wait_once() -> bool:
        inside = threading.Event()

        def slowly(tx: object) -> None:
            inside.set()
            time.sleep(0.1)

        slow = pool.submit(change, plane, slowly)
        assert inside.wait(30)
        plane["a"] = [1]
        slow.result()
        found = plane.metrics().lock_wait
        return sum(count for count, bound in zip(found.counts[:-1], found.bounds, strict=True) if bound > 0.01) > 0

    with ThreadPoolExecutor(1) as pool:
        until(wait_once)  # most often at once: it may come only when the other has the lock no more
    found = plane.metrics().lock_wait
    assert found.count > before.lock_wait.count
    assert found.seconds > 0.01


def test_waits_for_locks_and_semaphores_are_told_too(plane: shmplane.Plane) -> None:
    semaphore = plane.semaphore("s", 1)
    with semaphore, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(semaphore.acquire)
        until(lambda: any(plane.stats().semaphores) and plane.stats().semaphores[0].waiters)
        assert plane.metrics().permits == 1
        semaphore.release()
        waiting.result(30)
    found = plane.metrics()
    assert found.permit_wait.count == 2
    assert found.permit_wait.counts[0] == 1
    assert found.permit_wait.seconds > 0
    assert found.permits == 0


def test_a_child_counts_for_itself_from_its_first_call_on(plane: shmplane.Plane) -> None:
    plane["a"] = [1]
    before = plane.metrics()
    child = Forked(lambda: plane.put("a", [2]))
    plane["b"] = [3]
    child.wait()
    assert grown(before, plane.metrics(), "puts") == (2,)


def test_totals_never_go_back_while_processes_are_killed(plane: shmplane.Plane) -> None:
    def work() -> None:
        deadline = time.monotonic() + 0.03
        while time.monotonic() < deadline:
            plane["a"] = [1]
        kill_this_process()

    seen = [plane.metrics()]
    for _ in range(8):
        worker = Forked(work)
        seen += [plane.metrics() for _ in range(20)]
        worker.end()
        plane.gc()
        seen.append(plane.metrics())
    for earlier, later in pairwise(seen):
        assert all(step >= 0 for step in grown(earlier, later, "puts", "gets", "copied_nbytes", "reclaimed"))
        assert later.lock_wait.count >= earlier.lock_wait.count
    assert seen[-1].reclaimed == 8


def test_measurements_have_names_units_and_meanings(plane: shmplane.Plane) -> None:
    found = list(plane.metrics().measurements())
    assert {
        "shmplane_puts_total", "shmplane_gets_total", "shmplane_copied_bytes_total", "shmplane_segment_bytes",
        "shmplane_blocks", "shmplane_leases", "shmplane_lock_wait_seconds",
    } <= {one.prometheus_name for one in found}  # fmt: skip
    assert all(one.meaning.endswith(".") for one in found)
    labels = {label for one in found for label in one.prometheus_labels}
    assert labels == {"state", "kind"}


def test_a_plane_that_has_ended_says_so() -> None:
    plane = shmplane.Plane.temporary()
    plane.destroy()
    with pytest.raises(ClosedError):
        plane.metrics()
