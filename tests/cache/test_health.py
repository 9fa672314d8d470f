"""A cache says how it is: a new one is well, and what is wrong names its cure."""

from __future__ import annotations

from pathlib import Path

import pytest

import shmplane
from shmplane import Cache
from shmplane.cache import CacheStatistics, TierStatistics
from shmplane.cache.tally import judge

MIB = 1 << 20


def test_a_new_cache_is_well_and_one_that_is_closed_says_so(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="1MiB", disk="1MiB") as cache:
        cache["x"] = 1
        assert cache.health().status == "pass"
    with pytest.raises(shmplane.ClosedError):
        cache.health()


def test_a_value_too_large_for_both_tiers_was_refused_and_one_too_large_for_the_disk_is_told(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", memory="4MiB", disk="1MiB") as cache:
        cache["large"] = bytes(2 * MIB)
        (found,) = (check for check in cache.health().checks if check.status != "pass")
        assert "1 past the disk" in found.found
        assert "disk=" in found.cure


@pytest.mark.parametrize(
    ("what", "facts", "free"),
    [("contents", {"damaged": 2}, 10 * MIB), ("computing", {"computes_alone": 1}, 10 * MIB), ("disk", {}, 100)],
)
def test_what_is_wrong_names_its_cure(what: str, facts: dict[str, int], free: int) -> None:
    tier = TierStatistics(0, 0, 0, MIB)
    health = judge(CacheStatistics(hits=0, misses=0, computes=1, evictions=0, memory=tier, disk=tier, **facts), free)
    assert health.status == "warn"
    assert [(check.name, bool(check.cure)) for check in health.checks if check.status != "pass"] == [(what, True)]
