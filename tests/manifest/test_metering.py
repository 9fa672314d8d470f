"""Meters: what a process counted is counted once, also when it, or whoever folds it, dies at any store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmplane.manifest import LEVEL_WORDS, OTHER_ROWS, Limits, Manifest, Metering, store
from shmplane.tables import table
from tests.manifest.conftest import make
from tests.support.tracing import STORES, wrap_columns

NO_LEVELS = [0] * LEVEL_WORDS


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


def process(manifest: Manifest, slot: int) -> Metering:
    manifest.processes.state[slot] = 1
    made = Metering(manifest)
    made.back_rows(slot)
    return made


def end(manifest: Manifest, slot: int) -> None:
    Metering(manifest).fold(slot)
    manifest.processes.state[slot] = 0


def test_a_total_is_the_sum_over_all_processes(manifest: Manifest) -> None:
    for slot in range(3):
        metering = process(manifest, slot)
        metering.write(slot, metering.open(b"x"), [slot + 1, *NO_LEVELS[1:], 10 * slot])
    assert Metering(manifest).total(metering.open(b"x"))[: LEVEL_WORDS + 1] == [6, *NO_LEVELS[1:], 30]


def test_levels_go_with_their_process_and_counts_stay(manifest: Manifest) -> None:
    for slot in range(2):
        metering = process(manifest, slot)
        metering.write(slot, metering.open(b"x"), [1, *NO_LEVELS[1:], 10])
    end(manifest, 0)
    assert metering.total(metering.open(b"x"))[: LEVEL_WORDS + 1] == [1, *NO_LEVELS[1:], 20]
    end(manifest, 0)
    assert metering.total(metering.open(b"x"))[LEVEL_WORDS] == 20


def test_who_joins_in_the_slot_of_another_begins_at_nothing(manifest: Manifest) -> None:
    metering = process(manifest, 0)
    row = metering.open(b"x")
    metering.write(0, row, [1, *NO_LEVELS[1:], 10])
    manifest.processes.metered[0] = 0  # as a death between the row and its clean-up leaves it
    again = process(manifest, 0)
    assert not any(again.total(row))


def test_a_name_that_nobody_uses_makes_room_for_another(manifest: Manifest) -> None:
    metering = process(manifest, 0)
    rows = [metering.open(b"%d" % number) for number in range(manifest.meters.rows - OTHER_ROWS)]
    for row in rows[1:]:
        metering.write(0, row, [1])
    assert metering.open(b"new") == rows[0]
    assert metering.is_named(rows[0], b"new")
    assert not metering.is_named(rows[0], b"0")
    metering.write(0, rows[0], [1])
    other = metering.open(b"one more")
    assert metering.is_named(other, b"other")
    assert metering.open(b"and one") == other
    of_another_kind = metering.open(b"\0one", b"\0other")
    assert metering.is_named(of_another_kind, b"\0other")
    assert len({*rows, other, of_another_kind}) == manifest.meters.rows


def test_death_at_any_store_of_a_fold_neither_loses_nor_doubles_a_count(manifest: Manifest) -> None:
    zeros = [0] * (LEVEL_WORDS - 2)
    rounds = 0
    for at in range(1, 200):
        rounds = at
        metering = Metering(manifest)
        manifest.processes.state[0] = manifest.processes.state[1] = 1
        for slot, name in ((0, b"one"), (1, b"two")):
            metering.back_rows(slot)
            metering.write(slot, metering.open(name), [1, 2, *zeros, at, 7])
        STORES.arm(at)
        with contextlib.suppress(_Killed):
            metering.fold(1)
        stores = STORES.disarm()
        recovering = Metering(manifest)
        assert recovering.total(recovering.open(b"two"))[LEVEL_WORDS:][:2] == [at * (at + 1) // 2, 7 * at]
        recovering.fold(1)
        manifest.processes.state[1] = 0
        assert recovering.total(recovering.open(b"one"))[:2] == [1, 2]
        assert recovering.total(recovering.open(b"two"))[:2] == [0, 0]
        assert recovering.total(recovering.open(b"two"))[LEVEL_WORDS:][:2] == [at * (at + 1) // 2, 7 * at]
        if stores < at:
            break
    assert 8 < rounds < 199


def test_death_at_any_store_of_taking_part_and_counting_does_no_harm(manifest: Manifest) -> None:
    for at in range(1, 400):
        metering = Metering(manifest)
        manifest.processes.state[0] = 1
        STORES.arm(at)
        with contextlib.suppress(_Killed):
            metering.back_rows(0)
            metering.write(0, metering.open(b"name %d" % (at % 3)), [1] * LEVEL_WORDS + [3, 3])
        stores = STORES.disarm()
        Metering(manifest).fold(0)
        manifest.processes.state[0] = 0
        for name, row in metering.names().items():
            assert name.startswith(b"name ")
            found = metering.total(row)
            assert not any(found[:LEVEL_WORDS])
            assert found[LEVEL_WORDS] % 3 == 0
        if stores < at:
            return
    pytest.fail("it never came to its end")
