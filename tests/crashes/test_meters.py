"""Meters under death and Ctrl-C: at every store, and at bytecodes."""

from __future__ import annotations

from pathlib import Path

from tests.crashes.groups import problems_of, some_points, sweeps
from tests.crashes.meter_scenarios import METER_SCENARIOS

NAMES = [one.name for one in METER_SCENARIOS]
SAMPLES = {"bytecodes": 30, "interrupts": 15, "deadlines": 8, "calls": 8}


def test_what_was_counted_is_neither_lost_nor_counted_twice(plane_root: Path) -> None:
    found = {"stores": sweeps("stores", NAMES, plane_root, of="meter", deadline=110)}
    for results in (found | some_points(SAMPLES, NAMES, plane_root, of="meter")).values():
        assert not problems_of(results)
        assert all(result.points for result in results)
