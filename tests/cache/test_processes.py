"""One cache, several processes: what one sets the others find, one computes for all, and whoever is killed leaves nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

import shmplane
from shmplane import Cache
from shmplane.cache.keys import digest_of, encode_key
from shmplane.plane import MISSING
from tests.cache.test_cache import forget_memory, on_disk
from tests.support.inside import directory_of
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


def _read_on(directory: Path, numbers: int) -> int:
    """From disk, so that the journal does not begin anew by itself."""
    count = 0
    with open_cache(directory) as cache:
        # On a busy machine it may come to read when all is written.
        while not count or not (directory / "finished").exists():
            for key in itertools.product(range(numbers), range(7)):
                found = cache._open().find_on_disk(encode_key(key), digest_of(encode_key(key)))
                count += found is not MISSING
    return count


def _segments_of(plane: Any) -> int:
    """B of its shared memory, as the file system has them."""
    return sum(path.stat().st_blocks * 512 for path in directory_of(plane).glob("s*") if path.exists())


def test_four_writers_never_exceed_the_limits(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    journal = directory / "cache.db-wal"
    with open_cache(directory) as cache, contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_write_on, directory, number, 12, method="fork")) for number in range(4)]
        reader = stack.enter_context(Child(_read_on, directory, 4, method="fork"))
        most_disk = most_journal = most_memory = most_segments = 0
        deadline = time.monotonic() + 100
        finished = 0
        while finished < 4 and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                most_disk = max(most_disk, on_disk(directory))
            with contextlib.suppress(FileNotFoundError):
                most_journal = max(most_journal, journal.stat().st_size)
            with contextlib.suppress(FileNotFoundError):
                most_segments = max(most_segments, _segments_of(cache._plane))
            most_memory = max(most_memory, cache.stats().memory.nbytes)
            finished = sum(child.has_said() for child in children)
            time.sleep(0.001)
        (directory / "finished").touch()
        assert [child.result() for child in children] == [12] * 4
        assert reader.result() > 0
        assert MIB < most_disk <= 32 * MIB
        assert MIB < most_memory <= 8 * MIB
        assert most_segments <= 8 * MIB
        assert 0 < most_journal <= 4 * MIB


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


KEYS = 3
#: seconds of a storm
STORM_S = 3.0


def _floors(directory: Path) -> Any:
    """Of each key the version below which everything is stale by now, which its writer says."""
    return np.memmap(directory.parent / "floors", np.int64, "r+", shape=(KEYS,))


def _write_versions(directory: Path, key: int) -> int:
    floors, version, until = _floors(directory), 0, time.monotonic() + STORM_S
    with open_small(directory) as cache:
        while time.monotonic() < until:
            version += 1
            # Of a row, of a file and of one that is larger than memory, in turn.
            cache.set(key, np.full((500, 3000, 40_000)[version % 3], version), tag="all" if version % 2 else None)
            floors[key] = version
            if version % 5 == 0:
                cache.delete(key)
                floors[key] = version + 1
    return version


def _evict_versions(directory: Path) -> int:
    turn, until = 0, time.monotonic() + STORM_S
    with open_small(directory) as cache:
        while time.monotonic() < until:
            turn += 1
            forget_memory(cache)
            if turn % 3 == 0:
                cache.evict("all")
            time.sleep(0.002)
    return turn


def _read_versions(directory: Path) -> int:
    floors, found, until = _floors(directory), 0, time.monotonic() + STORM_S
    with open_small(directory) as cache:
        for key in itertools.cycle(range(KEYS)):
            if time.monotonic() > until:
                return found
            floor = int(floors[key])
            value = cache.get(key)
            if value is not None:
                found += 1
                assert value[0] >= floor, (key, value[0], floor)
                assert (value == value[0]).all(), key
    raise AssertionError


def open_small(directory: Path) -> Cache:
    return Cache(directory, memory="256KiB", disk="4MiB")


def test_no_reader_ever_sees_a_stale_value_in_a_storm(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    np.zeros(KEYS, np.int64).tofile(tmp_path / "floors")
    with open_small(directory) as cache, contextlib.ExitStack() as stack:
        jobs: list[tuple[Any, ...]] = [(_write_versions, directory, key) for key in range(KEYS)]
        jobs += [(_evict_versions, directory)] + [(_read_versions, directory)] * 3
        children = [stack.enter_context(Child(*job, method="fork")) for job in jobs]
        results = [child.result() for child in children]
        assert sum(results[KEYS + 1 :]) > 0
        assert cache.stats().promotions > 0


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
