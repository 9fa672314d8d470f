"""Handles: a block travels as a few bytes and arrives as a lease on the very version, or as ``StaleHandle``."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import Block, Conflict, Plane, PlaneNotFound, StaleHandle
from tests.support.processes import Child, Method, run_in_child

HANDLE_NBYTES = 300


def total(block: Block) -> int:
    with block:
        return int(block.array().sum())


def wait_for_leases(plane: Plane, count: int) -> bool:
    deadline = time.monotonic() + 5
    while plane.stats().leases != count and time.monotonic() < deadline:
        time.sleep(0.002)
    return plane.stats().leases == count


# Size


def test_a_handle_has_less_than_300_bytes_whatever_it_stands_for(plane: Plane) -> None:
    wide = pa.table({f"a column with a long name {number}": [number] for number in range(500)})
    for name, value in (("x", np.zeros(1_000_000)), ("wide", wide), ("ü" * 60, 1), ("a" * 120, b"x"), (None, [1])):
        block = plane.put(name, value)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            handle = pickle.dumps(block, protocol)
            assert len(handle) < HANDLE_NBYTES
            assert pickle.loads(handle).version == block.version


@pytest.mark.default_root
def test_a_handle_has_less_than_300_bytes_with_the_longest_names(plane_name: str) -> None:
    name = plane_name.ljust(64, "x")
    with Plane(name) as plane:
        for block_name in ("a" * 120, "ü" * 60):
            handle = pickle.dumps(plane.put(block_name, 1))
            assert len(handle) < HANDLE_NBYTES
            assert pickle.loads(handle).name == block_name
        plane.destroy()


def test_a_handle_has_less_than_300_bytes_also_with_a_root_of_100(plane_root: Path, plane_name: str) -> None:
    # The root travels in full: one of several hundred bytes makes a handle of several hundred.
    root = plane_root / ("r" * (99 - len(str(plane_root))))
    root.mkdir()
    with Plane(plane_name.ljust(64, "x"), root=root) as plane:
        handle = pickle.dumps(plane.put("a" * 120, 1))
        assert len(handle) < HANDLE_NBYTES
        assert pickle.loads(handle).name == "a" * 120
        plane.destroy()


# Ways to travel


def sends_back(inbox: Any, outbox: Any) -> None:
    block = inbox.get(timeout=20)
    outbox.put((total(block), block.name, block.version))


def test_a_handle_travels_through_a_queue(plane: Plane) -> None:
    context = multiprocessing.get_context("spawn")
    inbox, outbox = context.Queue(), context.Queue()
    process = context.Process(target=sends_back, args=(inbox, outbox))
    process.start()
    inbox.put(plane.put("x", np.arange(5)))
    assert outbox.get(timeout=20) == (10, "x", 1)
    process.join(20)
    process.close()
    for queue in (inbox, outbox):
        queue.close()
        queue.join_thread()


def test_a_handle_travels_through_a_pipe_both_ways(plane: Plane) -> None:
    with Child(echoes, plane.put(None, np.arange(5))) as child:
        back = child.next()
        assert back.value().tolist() == [0, 2, 4, 6, 8]
        child.result()


def echoes(block: Block) -> Iterator[Block]:
    with Plane(block.__reduce__()[1][1], create=False) as plane:
        yield plane.put(None, block.value() * 2)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_handles_travel_through_an_executor(plane: Plane, method: Method) -> None:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        blocks = [plane.put(None, np.arange(number)) for number in range(4)]
        assert list(executor.map(total, blocks)) == [0, 0, 1, 3]
    gc.collect()
    assert wait_for_leases(plane, 4)


def test_handles_travel_through_joblib(plane: Plane) -> None:
    pytest.importorskip("joblib")
    # In a process of its own, since loky's helpers live as long as who uses them.
    assert run_in_child(totals_by_joblib, plane.put("x", np.arange(5))) == [10, 10, 10]
    plane.gc()
    assert plane.stats().processes == 1


def totals_by_joblib(block: Block) -> list[int]:
    import joblib

    totals: list[int] = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(total)(block) for _ in range(3))
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)
    return totals


def test_an_unpickled_block_is_a_lease_of_its_own(plane: Plane) -> None:
    block = plane.put("x", np.arange(3))
    again = pickle.loads(pickle.dumps(block))
    block.close()
    plane["x"] = 0
    assert again.value().tolist() == [0, 1, 2]
    assert (again.name, again.version, again.leases) == ("x", 1, 1)


def test_a_handle_needs_no_open_plane_and_holds_one_only_while_it_lives(plane: Plane) -> None:
    block = plane.put("x", np.arange(3))
    assert run_in_child(reads_and_leaves, pickle.dumps(block)) == (3, 2, 1)


def reads_and_leaves(handle: bytes) -> tuple[int, int, int]:
    block = pickle.loads(handle)
    plane_name, leases = block.__reduce__()[1][1], block.leases
    array = block.value()
    del block
    values = int(array.sum())
    del array
    with Plane(plane_name, create=False) as plane:
        assert wait_for_leases(plane, 1)
        return values, leases, plane.stats().leases


# Linger


def test_an_anonymous_block_outlives_its_last_lease(plane: Plane) -> None:
    handle = pickle.dumps(plane.put(None, np.arange(3)))
    gc.collect()
    assert wait_for_leases(plane, 0)
    assert pickle.loads(handle).value().tolist() == [0, 1, 2]


def test_without_linger_an_anonymous_block_ends_with_its_last_lease(plane: Plane) -> None:
    block = plane.put(None, np.arange(3), linger=0)
    handle = pickle.dumps(block)
    assert pickle.loads(handle).shape == (3,)
    block.close()
    assert wait_for_leases(plane, 0)
    with pytest.raises(StaleHandle):
        pickle.loads(handle)
    assert plane.stats().blocks == 0


def test_the_linger_time_counts_from_the_last_lease_and_then_memory_comes_back(plane: Plane) -> None:
    block = plane.put(None, np.zeros(1_000_000, "u1"), linger=0.3)
    handle = pickle.dumps(block)
    time.sleep(0.5)
    plane.gc()
    assert pickle.loads(handle).nbytes == 1_000_000  # leased all the time
    block.close()
    del block
    assert wait_for_leases(plane, 0)
    time.sleep(0.5)
    plane.gc()
    with pytest.raises(StaleHandle, match="longer linger="):
        pickle.loads(handle)
    assert plane.stats().used_nbytes == 0


def makes_one_and_waits(plane: Plane, linger: float) -> Iterator[bytes]:
    block = plane.put(None, np.arange(100_000), linger=linger)
    yield pickle.dumps(block)
    yield pickle.dumps(block)


def test_a_handle_arrives_when_its_maker_was_killed(plane: Plane) -> None:
    with Child(makes_one_and_waits, plane, 30.0) as child:
        handle = child.next()
        child.kill()
    plane.gc()  # the maker's leases go, the block stays
    assert plane.stats().leases == 0
    block = pickle.loads(handle)
    assert block.value()[-1] == 99_999
    assert block.leases == 1


def test_what_a_killed_maker_left_goes_with_its_linger_time(plane: Plane) -> None:
    with Child(makes_one_and_waits, plane, 0.1) as child:
        handle = child.next()
        child.kill()
    deadline = time.monotonic() + 10
    while plane.stats().blocks and time.monotonic() < deadline:
        time.sleep(0.05)
        plane.gc()
    assert plane.stats().blocks == plane.stats().used_nbytes == 0
    with pytest.raises(StaleHandle):
        pickle.loads(handle)


# Stale handles


def test_a_superseded_version_that_nobody_leases_is_gone(plane: Plane) -> None:
    block = plane.put("x", 1)
    handle = pickle.dumps(block)
    plane["x"] = 2
    assert pickle.loads(handle).value() == 1
    block.close()
    assert wait_for_leases(plane, 0)
    with pytest.raises(StaleHandle) as caught:
        pickle.loads(handle)
    assert isinstance(caught.value, LookupError)
    assert (caught.value.facts["name"], caught.value.facts["plane"]) == ("x", plane.name)
    assert not caught.value.retryable


def test_a_row_that_is_used_again_is_not_taken_for_the_older_block(plane: Plane) -> None:
    handles = []
    for number in range(20):
        block = plane.put(None, number, linger=0)
        handles.append(pickle.dumps(block))
        block.close()
        assert wait_for_leases(plane, 0)
    kept = plane.put(None, "another")
    for handle in handles:
        with pytest.raises(StaleHandle):
            pickle.loads(handle)
    assert kept.value() == "another"


def test_a_handle_of_a_destroyed_plane_is_stale(plane_name: str) -> None:
    with Plane(plane_name) as plane:
        block = plane.put("x", 1)
        handle = pickle.dumps(block)
        plane.destroy()
    with pytest.raises(StaleHandle, match="destroyed"):
        pickle.loads(handle)
    with pytest.raises(StaleHandle):
        run_in_child(pickle.loads, handle)


def test_a_handle_of_an_earlier_plane_of_that_name_is_stale(plane_name: str) -> None:
    with Plane(plane_name) as first:
        handle = pickle.dumps(first.put("x", 1))
        first.destroy()
    with Plane(plane_name) as second:
        mine = second.put("x", 2)
        with pytest.raises(StaleHandle, match="another"):
            pickle.loads(handle)
        assert mine.value() == 2
        assert second.stats().leases == 1
        del mine
        second.destroy()


def test_a_handle_of_another_plane_cannot_be_attached(plane: Plane) -> None:
    with Plane.temporary() as other, other.put("x", 1) as block:
        with pytest.raises(StaleHandle, match="another plane"):
            plane.attach(block)
        assert other.attach(block).value() == 1


def test_a_handle_from_another_host_is_stale(plane_root: Path, plane_name: str) -> None:
    # On another host there is no such directory.
    with Plane(plane_name, root=plane_root) as plane:
        handle = pickle.dumps(plane.put("x", 1))
        elsewhere = handle.replace(str(plane_root).encode(), str(plane_root)[:-1].encode() + b"_")
        assert elsewhere != handle
        with pytest.raises(StaleHandle, match="another host or user"):
            pickle.loads(elsewhere)
        plane.destroy()


def reads_as_nobody(handle: bytes) -> str:
    os.setuid(65534)
    try:
        pickle.loads(handle)
    except shmplane.ShmplaneError as error:
        return type(error).__name__
    return "read"


@pytest.mark.usefixtures("needs_root")
@pytest.mark.default_root
def test_a_handle_of_another_user_is_stale(plane_name: str) -> None:
    with Plane(plane_name) as plane:
        assert run_in_child(reads_as_nobody, pickle.dumps(plane.put("x", 1))) == "StaleHandle"
        plane.destroy()


@pytest.mark.usefixtures("needs_root")
def test_a_root_that_may_not_be_entered_is_an_error_of_ours(plane: Plane) -> None:
    found = run_in_child(reads_as_nobody, pickle.dumps(plane.put("x", 1)))
    assert found in {"StaleHandle", "PlaneSecurityError"}


# Expected versions


def counts_wins(plane: Plane, rounds: int, mark: int) -> Iterator[Any]:
    yield "ready"
    wins = []
    for version in range(rounds):
        try:
            plane.put("x", mark, expected_version=version)
            wins.append(version)
        except Conflict:
            pass
        # The next round begins when somebody has won this one.
        plane.wait("x", newer_than=version, timeout=20)
    yield wins


def test_of_many_processes_exactly_one_finds_the_version_it_expects(plane: Plane) -> None:
    rounds, processes = 40, 4
    children = [Child(counts_wins, plane, rounds, mark) for mark in range(processes)]
    try:
        assert {child.next() for child in children} == {"ready"}
        for child in children:
            child._tell("next")  # all at once
        wins = [version for child in children for version in child._receive("yielded", 60)]
        for child in children:
            child.result()
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert sorted(wins) == list(range(rounds))
    assert plane.attach("x").version == rounds


def test_of_many_threads_exactly_one_finds_the_version_it_expects(plane: Plane) -> None:
    barrier = threading.Barrier(8)
    won: list[int] = []

    def try_it(mark: int) -> None:
        barrier.wait()
        try:
            plane.put("x", np.full(20_000, mark), expected_version=0)
            won.append(mark)
        except Conflict:
            pass

    threads = [threading.Thread(target=try_it, args=(mark,)) for mark in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert plane["x"][0] == won[0]
    assert plane.stats().blocks == 1


def test_a_conflict_says_both_versions_and_changes_nothing(plane: Plane) -> None:
    plane.put("x", 1, expected_version=0)
    plane.put("x", 2, expected_version=1)
    for expected in (0, 1, 3):
        with pytest.raises(Conflict, match=f"version 2, expected {expected}") as caught:
            plane.put("x", np.zeros(100_000), expected_version=expected)
        assert caught.value.retryable
    assert plane["x"] == 2
    with pytest.raises(Conflict):
        plane.put("missing", 1, expected_version=1)
    assert "missing" not in plane
    del plane["x"]
    assert plane.put("x", 3, expected_version=0).version == 3  # above the highest


# Planes


def test_a_plane_pickles_as_its_name_and_root(plane: Plane) -> None:
    plane["x"] = [1]
    with pickle.loads(pickle.dumps(plane)) as again:
        assert (again.name, again.root) == (plane.name, plane.root)
        assert again is not plane
        assert again["x"] == [1]
    assert plane["x"] == [1]
    assert run_in_child(dict, plane) == {"x": [1]}


def test_a_trusting_plane_arrives_trusting(plane: Plane) -> None:
    plane.put("x", {1, 2}, codec="pickle")
    with Plane(plane.name, create=False, trust_pickle=True) as trusting:
        with pickle.loads(pickle.dumps(trusting)) as again:
            assert again["x"] == {1, 2}
    with pickle.loads(pickle.dumps(plane)) as again, pytest.raises(shmplane.UnsafeCodec):
        again["x"]


def test_a_plane_that_is_gone_does_not_come_back_by_unpickling(plane_name: str) -> None:
    with Plane(plane_name) as plane:
        pickled = pickle.dumps(plane)
        plane.destroy()
    with pytest.raises(PlaneNotFound):
        pickle.loads(pickled)


# Fork


def uses_what_it_inherited(plane: Plane, block: Block, view: Any) -> Any:
    seen = int(view.sum()), block.value().tolist(), plane["x"].tolist(), block.leases
    plane["from child"] = pickle.loads(pickle.dumps(block)).value() * 2
    return seen


def test_a_forked_child_uses_plane_block_and_views_at_once(plane: Plane) -> None:
    block = plane.put("x", np.arange(3))
    view = block.value()
    seen = run_in_child(uses_what_it_inherited, plane, block, view, method="fork")
    assert seen == (3, [0, 1, 2], [0, 1, 2], 2)
    assert plane["from child"].tolist() == [0, 2, 4]
    plane.gc()
    assert block.leases == 1
    assert view.tolist() == [0, 1, 2]


def keeps_it_inherited(view: Any) -> Iterator[Any]:
    yield view.tolist()
    yield view.tolist()


def test_a_forked_childs_lease_outlives_its_parents(plane: Plane) -> None:
    view = plane.put("x", np.arange(3)).value()
    with Child(keeps_it_inherited, view, method="fork") as child:
        assert child.next() == [0, 1, 2]
        del view
        gc.collect()
        del plane["x"]
        plane["y"] = np.arange(3) + 7
        assert child.next() == [0, 1, 2]
        assert plane.stats().leases == 1
        child.kill()
    plane.gc()
    assert plane.stats().leases == 0
