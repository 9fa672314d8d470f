"""Spilling under death and what signal handlers raise: at every store, at bytecodes, and inside recovery from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.spill_scenarios import SPILL_SCENARIOS
from tests.crashes.sweep import NEVER, Result, run, sweep_recovery
from tests.support.crashing import World
from tests.support.processes import run_in_child
from tests.support.thrown import KINDS
from tests.support.tracing import STORES, wrap_columns

NAMES = [one.name for one in SPILL_SCENARIOS]


def run_sweep(root: str, names: list[str], kind: str, sample: int | None) -> list[Result]:
    return list(run(kind, [one for one in SPILL_SCENARIOS if one.name in names], root, sample=sample))


def sweep_in_child(root: Path, names: list[str], kind: str, sample: int | None = None) -> list[Result]:
    results: list[Result] = run_in_child(run_sweep, str(root), names, kind, sample, deadline=1800)
    for result in results:
        print(f"{result.name}: {kind}, {result.points} points, {result.kills} kills, {result.seconds:.1f} s")
    problems = [problem for result in results for problem in result.problems]
    assert not problems, "\n".join(problems[:5])
    return results


def test_death_at_stores_leaves_every_block_where_it_can_be_read(plane_root: Path) -> None:
    results = sweep_in_child(plane_root, NAMES, "stores", 5)
    assert sum(result.kills for result in results) >= 0.95 * sum(result.points for result in results)


@pytest.mark.parametrize(("kind", "sample"), [("bytecodes", 3), ("interrupts", 3), ("calls", 1)])
def test_death_and_what_handlers_raise_at_some_bytecodes(plane_root: Path, kind: str, sample: int) -> None:
    sweep_in_child(plane_root, NAMES, kind, sample)


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
    results: list[Result] = run_in_child(run_recoveries, str(plane_root), name, 2, deadline=1800)
    assert not [problem for result in results for problem in result.problems]
    assert sum(result.kills for result in results) >= 5


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["stores", "bytecodes", *KINDS])
@pytest.mark.parametrize("name", NAMES)
def test_death_and_what_handlers_raise_at_every_point(plane_root: Path, name: str, kind: str) -> None:
    sweep_in_child(plane_root, [name], kind)
