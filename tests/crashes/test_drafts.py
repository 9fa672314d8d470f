"""Commits, appends and the freeing of chains under death and what signal handlers raise: at stores and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.draft_scenarios import DRAFT_SCENARIOS
from tests.crashes.groups import SOME_STORES, problems_of, some_points, sweeps
from tests.crashes.table_scenarios import TABLE_SCENARIOS
from tests.support.thrown import KINDS

NAMES = {"draft": [one.name for one in DRAFT_SCENARIOS], "table": [one.name for one in TABLE_SCENARIOS]}


@pytest.mark.parametrize("sample", [SOME_STORES, pytest.param(None, id="every", marks=pytest.mark.sweep)])
@pytest.mark.parametrize("of", NAMES)
def test_death_at_any_store_leaves_the_version_before_or_the_one_after(
    plane_root: Path, of: str, sample: int | None
) -> None:
    results = sweeps("stores", NAMES[of], plane_root, sample=sample, of=of)
    assert not problems_of(results)
    assert sum(result.kills for result in results) >= 0.95 * sum(result.points for result in results)


@pytest.mark.parametrize("of", NAMES)
def test_death_and_what_handlers_raise_at_some_bytecodes(plane_root: Path, of: str) -> None:
    samples = {"bytecodes": 5, "interrupts": 5, "values": 2, "calls": 2}
    for results in some_points(samples, NAMES[of], plane_root, of=of).values():
        assert not problems_of(results)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["bytecodes", *KINDS])
@pytest.mark.parametrize(("of", "name"), [(of, name) for of, names in NAMES.items() for name in names])
def test_death_and_what_handlers_raise_at_every_bytecode(plane_root: Path, of: str, name: str, kind: str) -> None:
    assert not problems_of(sweeps(kind, [name], plane_root, of=of, deadline=1800))
