"""Rates under death and what handlers raise: at every store, and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.rate_scenarios import RATE_SCENARIOS
from tests.crashes.sweep import Result, run
from tests.support.processes import run_in_child


def sweep(root: str, kind: str, sample: int | None) -> list[Result]:
    return list(run(kind, RATE_SCENARIOS, root, sample=sample))


@pytest.mark.parametrize(
    ("kind", "sample"), [("stores", None), ("bytecodes", 30), ("interrupts", 20), ("deadlines", 6), ("calls", 6)]
)
def test_a_rate_grants_no_more_than_its_terms_allow_and_holds_up_nobody(
    plane_root: Path, kind: str, sample: int | None
) -> None:
    results: list[Result] = run_in_child(sweep, str(plane_root), kind, sample, deadline=110)
    for result in results:
        print(f"{result.name}: {kind}, {result.points} points, {result.kills} kills")
        assert result.points
    assert not [problem for result in results for problem in result.problems]


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["bytecodes", "interrupts", "deadlines", "calls"])
def test_a_rate_is_right_after_death_and_what_handlers_raise_at_every_bytecode(plane_root: Path, kind: str) -> None:
    results: list[Result] = run_in_child(sweep, str(plane_root), kind, None, deadline=1700)
    assert not [problem for result in results for problem in result.problems]
