"""Evictable blocks make room for others: the least recently used first, never one that somebody uses, never half of one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import ItemTooLarge, PlaneFull
from shmplane.codecs import encode
from shmplane.manifest import EvictionQueues, open_group
from shmplane.plane.blocks.publish import put_unleased
from shmplane.plane.blocks.target import Target
from shmplane.system import ignoring
from tests.support.audit import faults_of
from tests.support.inside import attachment_of, change, look, manifest_of, suspect_everything
from tests.support.processes import Child

KIB = 1 << 10


@pytest.fixture
def small_plane(plane_root: Path) -> Iterator[shmplane.Plane]:
    """Room for eight blocks of 100 KB, and none of it is kept warm."""
    with shmplane.Plane("plane", root=plane_root, capacity=8 * 104 * KIB, recycle=0) as plane:
        yield plane
        assert not faults_of(plane)
        plane.destroy()


def _fill(plane: shmplane.Plane, count: int = 8, nbytes: int = 100 * KIB) -> None:
    for index in range(count):
        plane.put(f"{index}", bytes([index]) * nbytes, evictable=True).close()


def test_the_least_recently_used_goes_first(small_plane: shmplane.Plane) -> None:
    _fill(small_plane)
    assert bytes(small_plane["0"])[0] == 0
    small_plane.gc()  # its lease has ended
    small_plane.put("new", bytes(100 * KIB), evictable=True).close()
    assert "0" in small_plane
    assert "1" not in small_plane
    assert len(small_plane) == 8


def test_what_is_leased_stays_and_the_next_goes(small_plane: shmplane.Plane) -> None:
    _fill(small_plane)
    held = [small_plane[f"{index}"] for index in range(7)]
    small_plane["new"] = bytes(100 * KIB)
    assert small_plane.names() == [*map(str, range(7)), "new"]
    assert all(bytes(view) == bytes([index]) * 100 * KIB for index, view in enumerate(held))


def test_a_plane_whose_evictable_blocks_are_all_leased_is_full_until_one_is_not(small_plane: shmplane.Plane) -> None:
    _fill(small_plane)
    held = [small_plane[f"{index}"] for index in range(8)]
    for _ in range(2):
        with pytest.raises(PlaneFull):
            small_plane["new"] = bytes(100 * KIB)
    assert len(small_plane) == 8
    del held[3]
    small_plane["new"] = bytes(100 * KIB)
    assert "3" not in small_plane


def test_what_does_not_fit_at_all_evicts_nothing(small_plane: shmplane.Plane) -> None:
    _fill(small_plane)
    with pytest.raises(PlaneFull):
        small_plane["huge"] = bytes(9 * 104 * KIB)
    assert len(small_plane) == 8


def test_what_is_not_evictable_stays(small_plane: shmplane.Plane) -> None:
    for index in range(7):
        small_plane[f"{index}"] = bytes(100 * KIB)
    small_plane.put("cached", bytes(100 * KIB), evictable=True).close()
    small_plane["new"] = bytes(100 * KIB)
    assert "cached" not in small_plane
    with pytest.raises(PlaneFull):
        small_plane["one more"] = bytes(100 * KIB)
    assert len(small_plane) == 8


@pytest.mark.parametrize("nbytes", [300, 5_000, 60_000, 200_000])
def test_a_plane_full_of_small_blocks_takes_one_of_any_size(small_plane: shmplane.Plane, nbytes: int) -> None:
    for index in range(2_000):
        small_plane.put(f"{index}", b"%d" % index * 200, evictable=True).close()
    assert len(small_plane) < 2_000
    small_plane["new"] = bytes(nbytes)
    assert bytes(small_plane["new"]) == bytes(nbytes)
    for name in small_plane:
        if name != "new":
            assert bytes(small_plane[name]) == name.encode() * 200


def test_a_block_without_a_name_is_nobodys_to_evict(small_plane: shmplane.Plane) -> None:
    blocks = [small_plane.put(None, bytes(100 * KIB), evictable=True) for _ in range(8)]
    with pytest.raises(PlaneFull):
        small_plane["new"] = bytes(100 * KIB)
    assert all(bytes(block.buffer()) == bytes(100 * KIB) for block in blocks)


def _evictable(plane: shmplane.Plane) -> set[str]:
    def rows(tx: Any) -> set[str]:
        return {name for name in tx.all_names() if tx.blocks.group[tx.current(name.encode())[1]]}

    found: set[str] = look(plane, rows)
    return found


def test_what_is_made_of_an_evictable_block_is_evictable(plane: shmplane.Plane) -> None:
    plane.put("array", np.arange(50_000), evictable=True).close()
    plane.put("table", pa.table({"a": [1]}), evictable=True).close()
    with plane.edit("array") as draft:
        draft.array[0] = 7
    plane.append("table", pa.table({"a": [2]})).close()
    plane.rename("array", "renamed")
    assert _evictable(plane) == {"renamed", "table"}
    plane["table"] = b"put anew"
    assert _evictable(plane) == {"renamed"}
    assert not faults_of(plane)


def test_an_evicted_table_takes_what_was_appended_to_it_along(small_plane: shmplane.Plane) -> None:
    rows = pa.table({"a": list(range(20_000))})
    small_plane.put("table", rows, evictable=True).close()
    for _ in range(2):
        small_plane.append("table", rows).close()
    small_plane["new"] = bytes(700 * KIB)
    assert small_plane.names() == ["new"]


def test_recovery_builds_the_queues_again(small_plane: shmplane.Plane) -> None:
    _fill(small_plane)
    small_plane["0"]
    small_plane.gc()
    suspect_everything(small_plane)
    small_plane.gc()
    assert not faults_of(small_plane)
    small_plane["new"] = bytes(100 * KIB)
    assert "0" in small_plane
    assert "1" not in small_plane


def test_a_capacity_is_lowered_over_what_is_evictable(small_plane: shmplane.Plane) -> None:
    _fill(small_plane)
    small_plane.resize(3 * 104 * KIB)
    assert small_plane.names() == ["5", "6", "7"]


# Groups with a limit


def _put_in_group(plane: shmplane.Plane, group: int, name: str, nbytes: int) -> None:
    put_unleased(attachment_of(plane), encode(bytes(nbytes)), Target(name.encode(), group=group))


@pytest.mark.parametrize("policy", ["s3fifo", "lru", "lfu", "fifo", "sieve"])
def test_a_group_stays_within_its_limit_whatever_is_put(plane: shmplane.Plane, policy: str) -> None:
    group, limit = change(plane, open_group, b"cache", policy, 500 * KIB), 500 * KIB
    plane["other"] = b"stays"
    for index in range(300):
        _put_in_group(plane, group, f"{index % 97}", (index * 7919) % 90_000 + 1)
        groups = look(plane, lambda tx: tx.manifest.groups)
        assert 0 < groups.used_nbytes[group - 1] <= limit
    assert groups.evictions[group - 1] > 0
    assert "other" in plane
    assert not faults_of(plane)


@pytest.mark.parametrize("policy", ["s3fifo", "lru", "lfu", "sieve"])
def test_what_was_hit_without_a_lease_outlives_what_was_not(plane: shmplane.Plane, policy: str) -> None:
    group = change(plane, open_group, b"cache", policy, 100 * KIB)
    for index in range(9):
        _put_in_group(plane, group, f"{index}", 10_000)
    hits = EvictionQueues(manifest_of(plane))
    for _ in range(3):
        hits.hit(look(plane, lambda tx: tx.current(b"0")[1]))
    for index in range(9, 12):
        _put_in_group(plane, group, f"{index}", 10_000)
    assert "0" in plane
    assert not {"1", "2"} & set(plane.names())


def test_a_hit_of_what_is_not_evictable_is_nothing(plane: shmplane.Plane) -> None:
    plane["x"] = b"x"
    EvictionQueues(manifest_of(plane)).hit(0)
    assert not look(plane, lambda tx: tx.blocks.seen[0])


def test_an_item_larger_than_its_group_says_so(plane: shmplane.Plane) -> None:
    group = change(plane, open_group, b"cache", "s3fifo", 100 * KIB)
    _put_in_group(plane, group, "fits", 90_000)
    with pytest.raises(ItemTooLarge, match="limit"):
        _put_in_group(plane, group, "does not", 110_000)
    assert plane.names() == ["fits"]
    assert not faults_of(plane)


def test_a_group_in_use_by_others_is_full(plane: shmplane.Plane) -> None:
    group = change(plane, open_group, b"cache", "s3fifo", 100 * KIB)
    _put_in_group(plane, group, "a", 90_000)
    held = plane["a"]
    with pytest.raises(PlaneFull, match="lease"):
        _put_in_group(plane, group, "b", 90_000)
    assert bytes(held) == bytes(90_000)
    del held
    _put_in_group(plane, group, "b", 90_000)
    assert plane.names() == ["b"]


# Several processes


def _body(name: str) -> bytes:
    generator = random.Random(name)
    return generator.randbytes(generator.choice([100, 3_000, 40_000, 150_000]))


def _work(name: str, root: str, seed: int) -> tuple[int, int, list[str]]:
    """Put and get at random, and check whatever is seen, now and when others have evicted much."""
    generator, wrong, hits, puts = random.Random(seed), list[str](), 0, 0
    held: list[tuple[str, Any]] = []
    with shmplane.Plane(name, root=root) as plane:
        for _ in range(600):
            key = f"{generator.randrange(80)}"
            found = plane.get(key)
            if found is None:
                with ignoring(PlaneFull):  # all that there is may be leased at this moment
                    plane.put(key, _body(key), evictable=True).close()
                    puts += 1
                continue
            hits += 1
            held.append((key, found))
            if len(held) > 3:
                old, view = held.pop(0)
                if crc32(view) != crc32(_body(old)):
                    wrong.append(old)
        held.clear()
    return puts, hits, wrong


def test_processes_that_evict_each_others_blocks_see_whole_ones_only(plane_root: Path) -> None:
    with shmplane.Plane("shared", root=plane_root, capacity="2MiB") as plane:
        workers = [Child(_work, "shared", str(plane_root), seed) for seed in range(3)]
        results = [worker.result() for worker in workers]
        for puts, hits, wrong in results:
            assert not wrong
            assert puts > 50  # there was never room for all
            assert hits > 50
        plane.gc()
        assert not faults_of(plane)
        plane.destroy()
