"""One cache, several processes: what one sets the others find, one computes for all, and whoever is killed leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

import shmplane
from shmplane import Cache
from tests.cache.test_cache import forget_memory, on_disk
from tests.support.processes import Child

MIB = 1 << 20


def open_cache(directory: Path) -> Cache:
    return Cache(directory, memory="8MiB", disk="32MiB")


def _get(directory: Path, key: Any) -> Any:
    with open_cache(directory) as cache:
        found = cache.get(key)
        return None if found is None else np.array(found).sum()


def test_what_one_process_sets_the_others_find(tmp_path: Path) -> None:
    with open_cache(tmp_path / "cache") as cache:
        for size in (3, 200_000):
            cache["x"] = np.ones(size)
            with Child(_get, tmp_path / "cache", "x") as child:
                assert child.result() == size


def test_a_forked_child_uses_the_cache_of_its_parent(tmp_path: Path) -> None:
    with open_cache(tmp_path / "cache") as cache:
        cache["x"] = np.ones(200_000)

        def in_child(cache: Cache) -> int:
            cache["y"] = 5
            return int(cache["x"].sum())

        with Child(in_child, cache, method="fork") as child:
            assert child.result() == 200_000
        assert cache["y"] == 5


def _compute(directory: Path, log: Path, kill_first: bool) -> int:
    with open_cache(directory) as cache:

        def compute() -> Any:
            with log.open("a") as file:
                file.write("x\n")
            if kill_first and len(log.read_text().splitlines()) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.05)
            return np.arange(100_000)

        return int(cache.get_or_compute("x", compute)[-1])


def test_eight_processes_at_once_compute_once(tmp_path: Path) -> None:
    with open_cache(tmp_path / "cache") as cache, contextlib.ExitStack() as stack:
        args = (tmp_path / "cache", tmp_path / "log", False)
        children = [stack.enter_context(Child(_compute, *args, method="fork")) for _ in range(8)]
        assert [child.result() for child in children] == [99_999] * 8
        assert (tmp_path / "log").read_text() == "x\n"
        assert cache.stats().computes == 1


def test_a_killed_leaders_work_passes_on(tmp_path: Path) -> None:
    with open_cache(tmp_path / "cache"), contextlib.ExitStack() as stack:
        args = (tmp_path / "cache", tmp_path / "log", True)
        children = [stack.enter_context(Child(_compute, *args, method="fork")) for _ in range(8)]
        results = []
        for child in children:
            with contextlib.suppress(Exception):
                results.append(child.result())
        assert results == [99_999] * 7
        assert (tmp_path / "log").read_text() == "x\n" * 2


def _write_on(directory: Path, number: int, rounds: int) -> int:
    with open_cache(directory) as cache:
        for turn in range(rounds):
            key = (number, turn % 7)
            cache[key] = np.full(MIB // 8 + number, turn)
            found = cache.get(key)
            assert found is None or found[0] == turn
    return rounds


def test_four_writers_never_exceed_the_limits(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with open_cache(directory) as cache, contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_write_on, directory, number, 12, method="fork")) for number in range(4)]
        most_disk = most_memory = 0
        deadline = time.monotonic() + 100
        finished = 0
        while finished < 4 and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                most_disk = max(most_disk, on_disk(directory))
            most_memory = max(most_memory, cache.stats().memory.nbytes)
            finished = sum(child.has_said() for child in children)
            time.sleep(0.002)
        assert [child.result() for child in children] == [12] * 4
        assert most_disk <= 32 * MIB
        assert most_memory <= 8 * MIB
        journal = directory / "cache.db-wal"
        assert not journal.exists() or journal.stat().st_size <= 4 * MIB


def _die_writing(directory: Path) -> None:
    with open_cache(directory) as cache:
        database = cache._open().database

        def die(*_: Any, **__: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        database.put = die  # type: ignore[method-assign, assignment]
        cache["x"] = np.zeros(MIB)


def test_what_a_killed_writer_reserved_and_wrote_comes_back(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with open_cache(directory) as cache:
        cache["y"] = 1
        before = on_disk(directory)
        with Child(_die_writing, directory, method="fork") as child:
            child.process.join(60)
            assert child.process.exitcode == -signal.SIGKILL
        assert on_disk(directory) > before + 8 * MIB
        with open_cache(directory) as later:
            assert later.get("x") is None
            assert later["y"] == 1
        assert on_disk(directory) <= before + MIB
        assert cache.stats().disk.nbytes <= before + MIB


def _storm(directory: Path, number: int) -> int:
    """Set growing numbers under few keys and check that what is read never goes back."""
    seen: dict[int, int] = {}
    with open_cache(directory) as cache:
        for turn in range(1, 120):
            key = turn % 3
            if number == 0:
                cache[key] = np.full(3000, turn)
            elif turn % 40 == 0:
                forget_memory(cache)
            for asked in range(3):
                found = cache.get(asked)
                if found is not None:
                    version = int(found[0])
                    assert version >= seen.get(asked, 0), (asked, version, seen)
                    seen[asked] = version
    return len(seen)


def test_no_reader_sees_an_older_value_again(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with open_cache(directory), contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_storm, directory, number, method="fork")) for number in range(3)]
        for child in children:
            child.result()


def test_what_happens_is_counted_over_all_processes(tmp_path: Path) -> None:
    with open_cache(tmp_path / "cache") as cache:
        cache["x"] = np.ones(3)
        with Child(_get, tmp_path / "cache", "x") as child:
            child.result()
        with Child(_get, tmp_path / "cache", "missing") as child:
            child.result()
        found = cache.stats()
        assert (found.hits, found.misses, found.sets) == (1, 1, 1)


def test_what_a_parent_counted_is_not_counted_again_by_its_child(tmp_path: Path) -> None:
    with open_cache(tmp_path / "cache") as cache:
        cache["x"] = 1
        for _ in range(5):
            assert cache["x"] == 1

        def in_child(cache: Cache) -> None:
            assert cache["x"] == 1
            cache.close()

        with Child(in_child, cache, method="fork") as child:
            child.result()
        found = cache.stats()
        assert (found.hits, found.sets) == (6, 1)


def test_a_connection_pool_does_not_count_caches(tmp_path: Path, plane: shmplane.Plane) -> None:
    with Cache(tmp_path / "cache", memory="8MiB", disk="32MiB", plane=plane) as cache:
        cache["x"] = 1
        assert shmplane.connections.host_statistics(plane) == {}
