"""What a cache promises, with a plane of its own and in a given one."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import pickle
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import Cache, ItemTooLarge, PlaneMismatch, PlaneSecurityError, UnsupportedValue
from shmplane.cache import arguments

MIB = 1 << 20

VALUES = {
    "json": {"a": [1, 2, {"b": None}], "c": "text"},
    "bytes": b"some bytes",
    "large bytes": os.urandom(100_000),
    "array": np.arange(12.0).reshape(3, 4),
    "large array": np.arange(300_000),
    "empty array": np.zeros((0, 3)),
    "table": pa.table({"x": [1, None, 3], "y": ["a", "b", None]}),
    "large table": pa.table({"x": np.arange(200_000), "y": [f"row {i % 7}" for i in range(200_000)]}),
    "tree": {"a": np.arange(5), "b": [1, b"x"]},
    "large tree": {"a": np.arange(50_000), "b": [1, pa.table({"x": [1]})]},
    "none": None,
    "number": 3.5,
}


def same(found: Any, value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return found.dtype == value.dtype and np.array_equal(found, value)
    if isinstance(value, pa.Table):
        return bool(found.equals(value))
    if isinstance(value, dict):
        return list(found) == list(value) and all(same(found[key], value[key]) for key in value)
    if isinstance(value, list):
        return len(found) == len(value) and all(map(same, found, value))
    return bytes(found) == value if isinstance(value, bytes) else bool(found == value)


@pytest.mark.parametrize("kind", VALUES)
def test_what_was_set_is_found_in_memory_and_on_disk(cache: Cache, kind: str) -> None:
    cache[kind] = VALUES[kind]
    assert same(cache[kind], VALUES[kind])
    forget_memory(cache)
    for _ in range(3):  # mapped, mapped and promoted, from memory
        assert same(cache[kind], VALUES[kind])
    assert cache.stats().promotions == 1


def forget_memory(cache: Cache) -> None:
    """What eviction from memory comes to."""
    plane = cache._plane
    for name in plane.names(cache._prefix):
        if not name.endswith("limits"):
            with contextlib.suppress(KeyError):  # another process was faster
                del plane[name]


def test_values_are_read_only(cache: Cache) -> None:
    for size in (10, 200_000):
        cache["x"] = np.arange(size)
        for _ in range(2):
            found = cache["x"]
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 7
            with pytest.raises(ValueError, match="WRITEABLE"):
                found.flags.writeable = True
            forget_memory(cache)


def test_a_value_outlives_what_is_set_and_cleared_later(cache: Cache) -> None:
    for size in (10, 200_000):
        cache["x"] = np.full(size, 1)
        old = cache["x"]
        forget_memory(cache)
        mapped = cache["x"]
        cache["x"] = np.full(size, 2)
        cache.clear()
        assert (old == 1).all()
        assert (mapped == 1).all()


def test_missing_keys(cache: Cache) -> None:
    assert cache.get("x") is None
    assert cache.get("x", 7) == 7
    assert "x" not in cache
    assert cache.delete("x") is False
    with pytest.raises(KeyError):
        cache["x"]
    with pytest.raises(KeyError):
        del cache["x"]


def test_the_mapping_of_keys(cache: Cache) -> None:
    keys: list[Any] = ["a", b"a", 1, 1.0, True, None, ("t", 2, (b"x",))]
    for number, key in enumerate(keys):
        cache[key] = number
    assert len(cache) == len(keys)
    assert list(cache) == keys
    assert [type(key) for key in cache] == [type(key) for key in keys]
    assert [cache[key] for key in keys] == list(range(len(keys)))
    del cache[1]
    assert 1 not in cache
    assert 1.0 in cache
    assert cache.clear() == len(keys) - 1
    assert len(cache) == 0
    assert list(cache) == []
    assert cache.get("a") is None


def test_items_of_a_tag_go_together(cache: Cache) -> None:
    for number in range(6):
        cache.set(number, {"n": number}, tag="even" if number % 2 == 0 else None)
    assert cache.evict("even") == 3
    assert [cache.get(number) is None for number in range(6)] == [True, False] * 3
    assert cache.evict("odd") == 0


def test_an_item_goes_when_its_time_has_come(cache: Cache) -> None:
    cache.set("x", 1, ttl=0.15)
    cache.set("y", 2, ttl=60)
    cache.set("z", 3, ttl=None)
    assert cache["x"] == 1
    time.sleep(0.2)
    assert cache.get("x") is None
    assert "x" not in cache
    assert len(cache) == 2
    assert sorted(cache) == ["y", "z"]
    forget_memory(cache)
    assert cache.get("x") is None
    assert cache["y"] == 2


def test_a_ttl_of_zero_is_over_at_once(cache: Cache) -> None:
    cache.set("x", 1, ttl=0)
    assert cache.get("x") is None


@pytest.mark.parametrize("ttl", [-1, -0.001, math.nan])
def test_a_negative_ttl_is_refused(cache: Cache, ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        cache.set("x", 1, ttl=ttl)
    with pytest.raises(ValueError, match="ttl"):
        cache.get_or_compute("x", int, ttl=ttl)


@pytest.mark.parametrize("ttl", [1e10, 1e300, math.inf])
def test_a_time_beyond_all_words_is_one_that_does_not_come(cache: Cache, ttl: float) -> None:
    cache.set("x", 1, ttl=ttl, cost=math.inf)
    forget_memory(cache)
    assert cache["x"] == 1
    assert cache.get_or_compute("y", lambda: 2, ttl=ttl, grace=math.inf) == 2


def test_what_is_out_of_date_does_not_count_when_it_is_taken_out(cache: Cache) -> None:
    for key in "abc":
        cache.set(key, 1, ttl=0, tag="old")
    cache.set("d", 1, tag="old")
    assert cache.delete("a") is False
    with pytest.raises(KeyError):
        del cache["b"]
    assert cache.evict("old") == 1
    cache.set("e", 1, ttl=0)
    assert cache.clear() == 0


def test_what_cannot_be_stored_is_refused_and_changes_nothing(cache: Cache) -> None:
    cache["x"] = 1
    with pytest.raises(UnsupportedValue):
        cache["x"] = object()
    with pytest.raises(UnsupportedValue):
        cache.get_or_compute("y", object)
    assert cache["x"] == 1
    assert "y" not in cache


def test_many_at_once(cache: Cache) -> None:
    cache.set_many({"a": 1, "b": 2, 3: 4}, tag="t")
    assert cache.get_many(["a", 3, "missing"]) == {"a": 1, 3: 4}
    assert cache.evict("t") == 3


def test_a_value_is_computed_once(cache: Cache) -> None:
    calls: list[int] = []

    def compute(number: int) -> dict[str, int]:
        calls.append(number)
        return {"n": number}

    assert cache.get_or_compute("x", compute, 1) == {"n": 1}
    assert cache.get_or_compute("x", compute, 2) == {"n": 1}
    forget_memory(cache)
    assert cache.get_or_compute("x", compute, 3) == {"n": 1}
    assert calls == [1]
    assert cache.stats().computes == 1


def test_an_error_of_the_function_reaches_its_caller_and_is_not_kept(cache: Cache) -> None:
    def fail() -> int:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        cache.get_or_compute("x", fail)
    assert cache.get_or_compute("x", int) == 0


def test_a_key_inside_its_own_computation_is_refused(cache: Cache) -> None:
    with pytest.raises(RuntimeError, match="itself"):
        cache.get_or_compute("x", lambda: cache.get_or_compute("y", lambda: cache.get_or_compute("x", int)))
    assert cache.get_or_compute("x", lambda: cache.get_or_compute("y", int) + 1) == 1


def test_threads_compute_once(cache: Cache) -> None:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        time.sleep(0.05)
        return 5

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get_or_compute("x", compute))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5] * 6
    assert len(calls) == 1


def _never() -> int:
    pytest.fail("it was computed twice")


def test_where_no_semaphore_is_free_it_computes_alone_and_still_stores(tmp_path: Path, plane: shmplane.Plane) -> None:
    with Cache(tmp_path / "cache", memory="8MiB", disk="32MiB", plane=plane) as cache, contextlib.ExitStack() as stack:
        for number in range(420):
            stack.enter_context(plane.lock(f"other {number}"))
        assert cache.get_or_compute("x", lambda: 1) == 1
        assert asyncio.run(cache.get_or_compute_async("y", lambda: 2)) == 2
        assert (cache["x"], cache["y"]) == (1, 2)
        assert cache.stats().computes_alone == 2
        stack.close()
        assert cache.get_or_compute("z", lambda: 3) == 3
        assert cache.stats().computes_alone == 2


def test_a_stale_value_serves_while_another_is_computed(cache: Cache) -> None:
    assert cache.get_or_compute("x", lambda: 1, ttl=0.05, grace=60) == 1
    time.sleep(0.1)
    assert cache.get("x") is None
    begun, go_on = threading.Event(), threading.Event()

    def compute() -> int:
        begun.set()
        go_on.wait(20)
        return 2

    thread = threading.Thread(target=cache.get_or_compute, args=("x", compute), kwargs={"ttl": 60, "grace": 60})
    thread.start()
    begun.wait(20)
    assert cache.get_or_compute("x", _never, ttl=60, grace=60) == 1
    go_on.set()
    thread.join()
    assert cache["x"] == 2
    assert cache.stats().stale_hits == 1


def test_what_was_set_is_stale_within_the_grace_of_who_asks(cache: Cache) -> None:
    def fails() -> str:
        raise LookupError

    cache.set("x", "old", ttl=0)
    assert cache.get_or_compute("x", fails, grace=1000.0) == "old"
    with pytest.raises(LookupError):
        cache.get_or_compute("x", fails)


def test_a_stale_value_serves_when_the_function_raises(cache: Cache) -> None:
    cache.get_or_compute("x", lambda: 1, ttl=0.05, grace=60)
    time.sleep(0.1)
    assert cache.get_or_compute("x", lambda: 1 / 0, grace=60) == 1
    with pytest.raises(ZeroDivisionError):
        cache.get_or_compute("x", lambda: 1 / 0)


def test_calls_are_memoized_by_their_arguments(cache: Cache) -> None:
    calls: list[Any] = []

    @cache.memoize(tag="area")
    def area(width: float, height: float = 2, *, unit: str = "m") -> dict[str, Any]:
        """Width times height."""
        calls.append((width, height, unit))
        return {"area": width * height, "unit": unit}

    assert area(3) == area(3, 2) == area(height=2, width=3, unit="m") == {"area": 6, "unit": "m"}
    assert len(calls) == 1
    assert area(3.0)["area"] == 6
    assert area(3, unit="cm")["unit"] == "cm"
    assert len(calls) == 3
    assert area.__doc__ == "Width times height."
    cache.evict("area")
    area(3)
    assert len(calls) == 4


def test_arrays_tables_and_blocks_are_arguments_by_content(cache: Cache, plane: shmplane.Plane) -> None:
    calls: list[int] = []

    @cache.memoize()
    def total(values: Any) -> int:
        calls.append(1)
        return len(calls)

    assert total(np.arange(10)) == total(np.arange(10))
    assert total(np.arange(10.0)) == 2
    assert total(np.arange(10).reshape(2, 5)) == 3
    assert total(pa.table({"x": [1]})) == total(pa.table({"x": [1]})) == 4
    plane["x"] = np.arange(3)
    with plane.attach("x") as block, plane.attach("x") as again:
        assert total(block) == total(again) == 5
    plane["x"] = np.arange(3)
    with plane.attach("x") as block:
        assert total(block) == 6
    assert total({"a": 1, "b": [2]}) == total({"b": [2], "a": 1}) == 7
    with pytest.raises(TypeError, match="values"):
        total(object())


def test_an_array_that_shows_a_block_is_an_argument_by_its_version(cache: Cache, plane: shmplane.Plane) -> None:
    calls = []

    @cache.memoize()
    def total(values: Any) -> float:
        calls.append(1)
        return float(np.frombuffer(values, "u1").sum() if isinstance(values, memoryview) else np.sum(values))

    large = np.arange(8 << 20)
    plane["large"], plane["bytes"], plane["tree"] = large, b"abc" * 1000, {"a": np.arange(5000), "b": np.ones(5000)}
    with limited_hashing(1 << 20):
        for _ in range(2):
            assert total(plane["large"]) == large.sum()
            assert total(plane["large"][5:]) == large[5:].sum()
            assert total(plane["large"][::2]) == large[::2].sum()
            assert total(plane["large"].reshape(2, -1)) == large.sum()
    assert len(calls) == 4
    for _ in range(2):
        assert total(plane["bytes"]) == sum(b"abc" * 1000)
        assert total(plane["tree"]["a"]) == np.arange(5000).sum()
        assert total(plane["tree"]["b"]) == 5000
    assert len(calls) == 7
    with plane.edit("large") as draft:
        draft.array[0] = 7
    assert total(plane["large"]) == large.sum() + 7
    assert len(calls) == 8


@contextlib.contextmanager
def limited_hashing(nbytes: int) -> Iterator[None]:
    """More than that of content is an error."""

    def refuse(digest: Any, value: Any) -> None:
        if value.nbytes > nbytes:
            pytest.fail("a block was read for a key")
        real(digest, value)

    real = arguments._add_content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arguments, "_add_content", refuse)
        yield


def test_what_everybody_sees_change_is_an_argument_by_content(cache: Cache, plane: shmplane.Plane) -> None:
    @cache.memoize()
    def total(values: Any) -> int:
        return int(np.sum(values.array() if isinstance(values, shmplane.Block) else values))

    shared = plane.mutable("shared", (10,), "i8")
    for number in (1, 2):
        shared[:] = number
        assert total(plane["shared"]) == 10 * number
        assert total(plane.attach("shared")) == 10 * number


def test_another_version_forgets_what_older_code_computed(cache: Cache) -> None:
    def answer() -> int:
        return 1

    assert cache.memoize(version=1)(answer)() == 1
    answer.__code__ = (lambda: 2).__code__
    assert cache.memoize(version=1)(answer)() == 1
    assert cache.memoize(version=2)(answer)() == 2


def test_tasks_compute_once(cache: Cache) -> None:
    calls: list[int] = []

    async def compute(number: int) -> Any:
        calls.append(number)
        await asyncio.sleep(0.02)
        return np.arange(number)

    @cache.memoize()
    async def remembered(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0)
        return number * 2

    async def main() -> None:
        found = await asyncio.gather(*(cache.get_or_compute_async("x", compute, 50_000) for _ in range(5)))
        assert all(len(value) == 50_000 for value in found)
        assert calls == [50_000]
        assert await cache.get_or_compute_async("y", lambda: 7) == 7  # a plain function
        assert await cache.get_or_compute_async("y", lambda: 8) == 7
        assert await remembered(3) == await remembered(number=3) == 6
        assert calls == [50_000, 3]
        with pytest.raises(ZeroDivisionError):
            await cache.get_or_compute_async("z", lambda: 1 / 0)

    asyncio.run(main())


def test_the_limits_are_hard(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="4MiB", disk="8MiB") as cache:
        for number in range(30):
            cache[number] = np.full(MIB // 8, number)
            assert on_disk(tmp_path / "cache") <= 8 * MIB
            assert cache.stats().memory.nbytes <= 4 * MIB
        assert 3 <= len(cache) <= 8
        assert cache.stats().evictions > 0
        assert all((cache[key] == key).all() for key in cache)


def on_disk(directory: Path) -> int:
    """B of files and database, as ``du`` counts, without the journal."""
    files = [path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("cache.db-")]
    return sum(path.stat().st_blocks * 512 for path in files)


def test_an_item_larger_than_one_tier_goes_past_it(tmp_path: Path) -> None:
    with Cache(tmp_path / "a", memory="2MiB", disk="16MiB") as cache:
        cache["x"] = np.zeros(MIB // 2)
        assert cache["x"].nbytes == 4 * MIB
        assert cache.stats().memory.nbytes <= 2 * MIB
    with Cache(tmp_path / "b", memory="16MiB", disk="2MiB") as cache:
        cache["x"] = np.zeros(MIB // 2)
        assert cache["x"].nbytes == 4 * MIB
        assert "x" in cache
        assert len(cache) == 1
        assert list(cache) == ["x"]
        forget_memory(cache)
        assert "x" not in cache
        assert cache.get("x") is None
        assert len(cache) == 0


@pytest.mark.parametrize("memory", [0, 1, 4095])
def test_without_memory_everything_goes_past_it(tmp_path: Path, memory: int) -> None:
    with Cache(tmp_path / "cache", memory=memory, disk="1MiB") as cache:
        for key, value in {"small": b"s" * 2000, "large": b"l" * 50_000}.items():
            cache[key] = value
            assert bytes(cache[key]) == value
        assert cache.stats().past_memory == 2
        assert cache.stats().memory.nbytes == 0


def test_an_item_larger_than_both_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="2MiB", disk="4MiB") as cache:
        cache["x"] = 1
        cache["y"] = np.zeros(1000)
        with pytest.raises(ItemTooLarge) as raised:
            cache["x"] = np.zeros(MIB)
        assert raised.value.facts["nbytes"] > 8 * MIB
        assert cache["x"] == 1
        assert len(cache) == 2


def test_files_and_directory_are_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Cache(tmp_path / "cache", memory="4MiB", disk="8MiB") as cache:
            cache["x"] = np.zeros(100_000)
            cache["y"] = 1
            for path in (tmp_path / "cache", *(tmp_path / "cache").rglob("*")):
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode == (0o700 if path.is_dir() else 0o600), path
    finally:
        os.umask(before)


def test_other_limits_than_those_in_use_are_refused(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="4MiB", disk="8MiB") as cache:
        cache["x"] = 1
        with pytest.raises(PlaneMismatch, match="memory"):
            Cache(tmp_path / "cache", memory="8MiB", disk="8MiB")
        with pytest.raises(PlaneMismatch, match="disk"):
            Cache(tmp_path / "cache", memory="4MiB", disk="16MiB")
        with pytest.raises(PlaneMismatch, match="policy"):
            Cache(tmp_path / "cache", memory="4MiB", disk="8MiB", policy="lru")
        with Cache(tmp_path / "cache", memory="4MiB", disk="8MiB") as again:
            assert again["x"] == 1
    with Cache(tmp_path / "cache", memory="8MiB", disk="16MiB", policy="lru") as later:
        assert later["x"] == 1


def test_what_nobody_uses_in_a_plane_takes_new_limits(tmp_path: Path, plane: shmplane.Plane) -> None:
    with Cache(tmp_path / "cache", memory="4MiB", disk="8MiB", plane=plane) as cache:
        cache["x"] = 1
        with pytest.raises(PlaneMismatch, match="memory"):
            Cache(tmp_path / "cache", memory="2MiB", disk="8MiB", plane=plane)
    with Cache(tmp_path / "cache", memory="2MiB", disk="8MiB", plane=plane, policy="lru") as cache:
        assert cache["x"] == 1
        with pytest.raises(PlaneMismatch, match="policy"):
            Cache(tmp_path / "cache", memory="2MiB", disk="8MiB", plane=plane)


@pytest.mark.parametrize(("policy", "goes"), [("lru", 1), ("lfu", 1), ("sieve", 1), ("fifo", 0)])
def test_the_policy_says_what_leaves_memory(tmp_path: Path, plane: shmplane.Plane, policy: Any, goes: int) -> None:
    with Cache(tmp_path / "cache", memory="1MiB", disk="32MiB", policy=policy, plane=plane) as cache:
        for number in range(3):
            cache[number] = np.full(300_000, number, "u1")
        for number in (0, 2):
            for _ in range(2):
                assert cache[number][0] == number
        cache[3] = np.full(300_000, 3, "u1")
        assert memory_has(cache) == {0, 1, 2, 3} - {goes}
        assert cache.stats().memory.evictions == 1
        assert sorted(cache) == [0, 1, 2, 3]
        assert cache[goes][0] == goes


def memory_has(cache: Cache) -> set[Any]:
    """The keys that are in memory."""
    from shmplane.cache.keys import digest_of, encode_key

    plane = cache._plane
    return {key for key in cache if f"{cache._prefix}{digest_of(encode_key(key))}" in plane}


def test_a_small_item_that_was_used_stays_beside_a_scan(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="4MiB", disk="64MiB") as cache:
        cache["kept"] = np.arange(1000)
        for number in range(60):
            cache.get("kept")
            cache[number] = np.zeros(200_000, "u1")
        assert "kept" in memory_has(cache)
        assert cache.stats().memory.evictions > 30


def test_a_directory_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(PlaneSecurityError):
        Cache(tmp_path / "open")
    (tmp_path / "file").write_text("x")
    with pytest.raises(PlaneSecurityError):
        Cache(tmp_path / "file")


def test_a_directory_that_is_removed_meanwhile_is_said(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="8MiB", disk="32MiB") as cache:
        cache["x"] = 1
        shutil.rmtree(tmp_path / "cache")
        assert cache["x"] == 1
        for value in (1, b"x" * 100_000):
            with pytest.raises(shmplane.PlaneNotFound, match="open the cache anew"):
                cache["y"] = value
    with Cache(tmp_path / "cache", memory="8MiB", disk="32MiB") as cache:
        assert cache.get("x") is None


def test_an_item_that_is_found_in_memory_stays_on_disk(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="1MiB", disk="2MiB", policy="lru") as cache:
        for number in range(60):
            cache[number] = bytes(100_000)
            cache.get(0)
        assert 0 in cache
        assert 1 not in cache
        assert 59 in cache


def test_a_closed_cache_says_so(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", memory="4MiB", disk="8MiB")
    cache["x"] = np.zeros(100_000)
    kept = cache["x"]
    cache.close()
    cache.close()
    with pytest.raises(shmplane.ClosedError):
        cache.get("x")
    assert (kept == 0).all()


def test_a_cache_pickles_as_its_arguments(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="4MiB", disk="8MiB") as cache:
        cache["x"] = 1
        with pickle.loads(pickle.dumps(cache)) as again:
            assert again["x"] == 1


@pytest.mark.parametrize("options", [{"memory": "x"}, {"disk": -1}, {"policy": "best"}, {"ttl": -1}, {"ttl": math.nan}])
def test_bad_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says what is wrong with it
        Cache(tmp_path / "cache", **options)


def test_without_diskcache_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "shmplane.cache.database", raising=False)
    monkeypatch.delitem(sys.modules, "shmplane.cache.rows", raising=False)
    monkeypatch.setitem(sys.modules, "diskcache", None)
    with pytest.raises(ImportError, match=r"shmplane\[cache\]"):
        Cache(tmp_path / "cache")
