"""Caches under death and what signal handlers raise: the old value or the new one, and nothing left behind.

``python -m tests.crashes.sweep --all --scenario cache:`` has every point.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.cache_scenarios import CACHE_SCENARIOS
from tests.crashes.sweep import Result, run
from tests.support.processes import run_in_child
from tests.support.thrown import KINDS

BY_NAME = {one.name: one for one in CACHE_SCENARIOS}
#: what is killed in the default run; one process for all, so that its start counts once
FEW = ["set a large one", "set where others go", "promote a small one", "compute", "evict a tag"]


def run_sweep(root: str, names: list[str], kind: str, sample: int | None) -> list[Result]:
    return list(run(kind, [BY_NAME[name] for name in names], root, sample=sample))


def sweep(root: Path, names: list[str], kind: str, sample: int | None = None) -> list[Result]:
    results: list[Result] = run_in_child(run_sweep, str(root), names, kind, sample, deadline=3500)
    problems = [problem for result in results for problem in result.problems]
    assert not problems, "\n".join(problems[:5])
    return results


@pytest.mark.parametrize(("kind", "sample"), [("stores", 4), ("bytecodes", 8)])
def test_death_leaves_the_old_value_or_the_new_one_and_nothing_else(plane_root: Path, kind: str, sample: int) -> None:
    results = sweep(plane_root, [f"cache: {name}" for name in FEW], kind, sample)
    assert sum(result.kills for result in results) >= 0.7 * sum(result.points for result in results)


@pytest.mark.parametrize(("kind", "sample"), [("interrupts", 6), ("values", 3), ("calls", 3)])
def test_what_handlers_raise_comes_out_and_leaves_nothing(plane_root: Path, kind: str, sample: int) -> None:
    sweep(plane_root, [f"cache: {name}" for name in FEW], kind, sample)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["stores", "bytecodes", *KINDS])
@pytest.mark.parametrize("name", BY_NAME)
def test_every_point(plane_root: Path, name: str, kind: str) -> None:
    sweep(plane_root, [name], kind)
