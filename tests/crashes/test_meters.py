"""Meters under death and Ctrl-C: at every store, and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.meter_scenarios import METER_SCENARIOS
from tests.crashes.sweep import Result, run
from tests.support.processes import run_in_child


def sweep(root: str, kind: str, sample: int | None) -> list[Result]:
    return list(run(kind, METER_SCENARIOS, root, sample=sample))


@pytest.mark.parametrize(
    ("kind", "sample"), [("stores", None), ("bytecodes", 30), ("interrupts", 15), ("deadlines", 8), ("calls", 8)]
)
def test_what_was_counted_is_neither_lost_nor_counted_twice(plane_root: Path, kind: str, sample: int | None) -> None:
    results: list[Result] = run_in_child(sweep, str(plane_root), kind, sample, deadline=110)
    for result in results:
        print(f"{result.name}: {kind}, {result.points} points, {result.kills} kills")
        assert result.points
    assert not [problem for result in results for problem in result.problems]
