"""Queues under death and what handlers raise: at stores, in CI at every one, at bytecodes, and inside recovery."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.queue_scenarios import OVERTAKEN_SCENARIOS, QUEUE_SCENARIOS, RING_SCENARIOS
from tests.crashes.sweep import Result, run, run_recovery
from tests.support.processes import run_in_child


def sweep(root: str, kind: str, sample: int | None) -> list[Result]:
    others = OVERTAKEN_SCENARIOS if kind == "interrupts" else []
    return [
        result
        for scenarios in (QUEUE_SCENARIOS, RING_SCENARIOS, others)
        for result in run(kind, scenarios, root, sample=sample)
    ]


def recoveries(root: str) -> list[Result]:
    return list(run_recovery(root, [QUEUE_SCENARIOS[0], QUEUE_SCENARIOS[3]], sample=4))


@pytest.mark.parametrize(
    ("kind", "sample"),
    [("stores", 8), ("bytecodes", 3), ("interrupts", 3), ("deadlines", 1), ("calls", 1), ("twice", 2)],
)
def test_an_item_waits_is_taken_or_is_gone(plane_root: Path, kind: str, sample: int | None) -> None:
    results: list[Result] = run_in_child(sweep, str(plane_root), kind, sample, method="spawn", deadline=110)
    for result in results:
        print(f"{result.name}: {kind}, {result.points} points, {result.kills} kills")
        assert result.points
    assert not [problem for result in results for problem in result.problems]


def test_death_inside_recovery_loses_no_item(plane_root: Path) -> None:
    results: list[Result] = run_in_child(recoveries, str(plane_root), method="spawn", deadline=110)
    assert not [problem for result in results for problem in result.problems]


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["stores", "bytecodes", "interrupts", "deadlines", "calls", "twice"])
def test_items_are_right_after_death_and_what_handlers_raise_at_every_point(plane_root: Path, kind: str) -> None:
    results: list[Result] = run_in_child(sweep, str(plane_root), kind, None, method="spawn", deadline=1700)
    assert not [problem for result in results for problem in result.problems]
