"""Spilling under death and what signal handlers raise: at every store, at bytecodes, and inside recovery from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import problems_of, some_points, sweeps
from tests.crashes.spill_scenarios import SPILL_SCENARIOS
from tests.crashes.sweep import NEVER, Result, sweep_recovery
from tests.support.crashing import World
from tests.support.processes import run_in_child
from tests.support.thrown import KINDS
from tests.support.tracing import STORES, wrap_columns

NAMES = [one.name for one in SPILL_SCENARIOS]


def test_death_at_stores_leaves_every_block_where_it_can_be_read(plane_root: Path) -> None:
    results = sweeps("stores", NAMES, plane_root, sample=5, of="spill")
    assert not problems_of(results)
    assert sum(result.kills for result in results) >= 0.95 * sum(result.points for result in results)


def test_death_and_what_handlers_raise_at_some_bytecodes(plane_root: Path) -> None:
    for results in some_points({"bytecodes": 3, "interrupts": 3, "calls": 1}, NAMES, plane_root, of="spill").values():
        assert not problems_of(results)


def run_recoveries(root: str, name: str, sample: int) -> list[Result]:
    """A process dies when it has made half, and whoever recovers dies as well."""
    wrap_columns()
    world = World(root, capacity=32 << 20, spill=f"{root}/spill")
    scenario = next(one for one in SPILL_SCENARIOS if one.name == name)
    try:
        world.run(scenario, STORES, NEVER)
        count = world.run(scenario, STORES, NEVER).points
        return [sweep_recovery(world, scenario, count * part // 4, sample=sample) for part in (1, 2, 3)]
    finally:
        world.close()


@pytest.mark.parametrize("name", ["spill"])
def test_death_inside_recovery_from_a_spiller_is_recovered_from(plane_root: Path, name: str) -> None:
    results: list[Result] = run_in_child(run_recoveries, str(plane_root), name, 2, method="spawn", deadline=1800)
    assert not [problem for result in results for problem in result.problems]
    assert sum(result.kills for result in results) >= 5


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["stores", "bytecodes", *KINDS])
@pytest.mark.parametrize("name", NAMES)
def test_death_and_what_handlers_raise_at_every_point(plane_root: Path, name: str, kind: str) -> None:
    assert not problems_of(sweeps(kind, [name], plane_root, of="spill", deadline=1800))
