"""Commits, appends and the freeing of chains under death and what signal handlers raise: at every store, and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.draft_scenarios import DRAFT_SCENARIOS
from tests.crashes.sweep import Result, run
from tests.support.processes import run_in_child
from tests.support.thrown import KINDS

NAMES = [one.name for one in DRAFT_SCENARIOS]


def run_sweep(root: str, names: list[str], kind: str, sample: int | None) -> list[Result]:
    return list(run(kind, [one for one in DRAFT_SCENARIOS if one.name in names], root, sample=sample))


def sweep_in_child(root: Path, names: list[str], kind: str, sample: int | None = None) -> list[Result]:
    results: list[Result] = run_in_child(run_sweep, str(root), names, kind, sample, deadline=1800)
    for result in results:
        print(f"{result.name}: {kind}, {result.points} points, {result.kills} kills, {result.seconds:.1f} s")
    problems = [problem for result in results for problem in result.problems]
    assert not problems, "\n".join(problems[:5])
    return results


@pytest.mark.parametrize("group", range(4))
def test_death_at_any_store_leaves_the_version_before_or_the_one_after(plane_root: Path, group: int) -> None:
    results = sweep_in_child(plane_root, NAMES[group::4], "stores")
    assert sum(result.kills for result in results) >= 0.95 * sum(result.points for result in results)


@pytest.mark.parametrize(
    ("kind", "sample"),
    [("bytecodes", 9), ("interrupts", 9), ("values", 2), ("calls", 2)],
)
@pytest.mark.parametrize("group", range(2))
def test_death_and_what_handlers_raise_at_some_bytecodes(plane_root: Path, group: int, kind: str, sample: int) -> None:
    sweep_in_child(plane_root, NAMES[group::2], kind, sample)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["bytecodes", *KINDS])
@pytest.mark.parametrize("name", NAMES)
def test_death_and_what_handlers_raise_at_every_bytecode(plane_root: Path, name: str, kind: str) -> None:
    sweep_in_child(plane_root, [name], kind)
