"""What is written while it is read, under death and what signal handlers raise: at stores and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import SOME_STORES, problems_of, some_points, sweeps
from tests.crashes.loading_scenarios import LOADING_SCENARIOS
from tests.support.thrown import KINDS

NAMES = [one.name for one in LOADING_SCENARIOS]


@pytest.mark.parametrize("sample", [SOME_STORES, pytest.param(None, id="every", marks=pytest.mark.sweep)])
def test_death_at_any_store_leaves_what_was_there_or_all_of_the_new(plane_root: Path, sample: int | None) -> None:
    results = sweeps("stores", NAMES, plane_root, sample=sample, of="loading")
    assert not problems_of(results)
    assert sum(result.kills for result in results) >= 0.95 * sum(result.points for result in results)


def test_death_and_what_handlers_raise_at_some_bytecodes(plane_root: Path) -> None:
    samples = {"bytecodes": 5, "interrupts": 5, "values": 2, "calls": 2}
    for results in some_points(samples, NAMES, plane_root, of="loading").values():
        assert not problems_of(results)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["bytecodes", *KINDS])
@pytest.mark.parametrize("name", NAMES)
def test_death_and_what_handlers_raise_at_every_bytecode(plane_root: Path, name: str, kind: str) -> None:
    assert not problems_of(sweeps(kind, [name], plane_root, of="loading", deadline=1800))
