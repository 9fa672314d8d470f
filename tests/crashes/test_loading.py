"""What is written while it is read, under death and what signal handlers raise: at every store, and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import problems_of, some_points, sweeps
from tests.crashes.loading_scenarios import LOADING_SCENARIOS
from tests.support.thrown import KINDS

NAMES = [one.name for one in LOADING_SCENARIOS]
#: scenarios that share a process, so that its start counts once
GROUPS = {number: NAMES[number::2] for number in range(2)}


@pytest.mark.parametrize("group", GROUPS)
def test_death_at_any_store_leaves_what_was_there_or_all_of_the_new(plane_root: Path, group: int) -> None:
    results = sweeps("stores", GROUPS[group], plane_root, of="loading")
    assert not problems_of(results)
    assert sum(result.kills for result in results) >= 0.95 * sum(result.points for result in results)


@pytest.mark.parametrize("group", GROUPS)
def test_death_and_what_handlers_raise_at_some_bytecodes(plane_root: Path, group: int) -> None:
    samples = {"bytecodes": 6, "interrupts": 6, "values": 4, "calls": 4}
    for results in some_points(samples, GROUPS[group], plane_root, of="loading").values():
        assert not problems_of(results)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["bytecodes", *KINDS])
@pytest.mark.parametrize("name", NAMES)
def test_death_and_what_handlers_raise_at_every_bytecode(plane_root: Path, name: str, kind: str) -> None:
    assert not problems_of(sweeps(kind, [name], plane_root, of="loading", deadline=1800))
