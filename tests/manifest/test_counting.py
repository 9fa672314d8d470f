"""Counting: what a process counted is in the total once, and the total never goes back, whoever dies at whatever store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmplane import PlaneCorrupt
from shmplane.manifest import Counting, Limits, Manifest, read_counters, store
from shmplane.tables import table
from tests.manifest.conftest import make
from tests.support.tracing import STORES, wrap_columns


class _Killed(BaseException):
    """Stands for a death: nothing after it happens."""


def _die() -> None:
    raise _Killed


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manifest]:
    """An empty one, whose stores are counted."""
    for module in (table, store):
        monkeypatch.setattr(module, "view_column", table.view_column)
    monkeypatch.setenv("SHMPLANE_PURE", "1")  # which the next line sets for good
    wrap_columns()
    monkeypatch.setattr(STORES, "act", _die)
    made = make(tmp_path / "manifest", Limits(64, 8))
    yield made
    STORES.disarm()
    made.close()


def process(manifest: Manifest, slot: int) -> Counting:
    made = Counting(manifest)
    made.begin(slot)
    manifest.processes.state[slot] = 1
    made.act_for(slot)
    return made


def end(manifest: Manifest, slot: int) -> None:
    Counting(manifest).fold(slot)
    manifest.processes.state[slot] = 0


def misses(manifest: Manifest) -> int:
    return read_counters(manifest)["misses"][0]


def test_a_total_is_the_sum_over_all_processes_and_those_that_have_ended(manifest: Manifest) -> None:
    for slot in range(3):
        counting = process(manifest, slot)
        for _ in range(10**slot):
            counting.missed()
    assert misses(manifest) == 111
    end(manifest, 1)
    assert misses(manifest) == 111
    end(manifest, 0)
    process(manifest, 0).missed()
    assert misses(manifest) == 112


def test_who_has_no_slot_yet_counts_as_well(manifest: Manifest) -> None:
    Counting(manifest).recovered()
    assert read_counters(manifest)["recoveries"] == [1]
    assert sum(sum(words) for words in read_counters(manifest).values()) == 1


def test_waits_are_told_by_how_long_they_took(manifest: Manifest) -> None:
    counting = process(manifest, 0)
    for seconds in (1e-5, 2e-5, 99.0):
        counting.waited(_Waited(seconds))
    found = read_counters(manifest)
    assert (found["waits"][0], found["waits"][1], found["waits"][-1]) == (1, 1, 1)
    assert found["waited_ns"] == [99_000_030_000]


class _Waited:
    """Stands for the lock."""

    def __init__(self, seconds: float) -> None:
        self.waited = seconds


def test_death_at_any_store_of_joining_counting_and_folding_neither_loses_nor_doubles_a_count(
    manifest: Manifest,
) -> None:
    process(manifest, 1).missed()
    counted, last, rounds = 1, 1, 0
    for at in range(1, 400):
        rounds = at
        STORES.arm(at)
        done = 0
        with contextlib.suppress(_Killed):
            counting = process(manifest, 0)
            for _ in range(3):
                done += 1  # the store that is the last one of a killed process has happened
                counting.missed()
            counting.evicted()
            end(manifest, 0)
        stores = STORES.disarm()
        counted += done
        # Whoever looks in between, and the next one that sees to it: once, and not less than before.
        seen = misses(manifest)
        assert last <= seen <= counted
        if manifest.processes.state[0]:
            end(manifest, 0)
        assert seen == misses(manifest)
        counted = last = seen
        if stores < at:
            break
    assert 8 < rounds < 399


def test_a_header_that_names_a_process_that_cannot_be_is_refused(manifest: Manifest) -> None:
    process(manifest, 0).missed()
    manifest.header.counted[0] = 99 << 1
    with pytest.raises(PlaneCorrupt, match="slot 98"):
        end(manifest, 0)
