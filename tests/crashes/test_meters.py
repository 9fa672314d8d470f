"""Meters under death and what handlers raise: at stores and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import SOME_STORES, problems_of, some_points, sweeps
from tests.crashes.meter_scenarios import METER_SCENARIOS

NAMES = [one.name for one in METER_SCENARIOS]
SAMPLES = {"bytecodes": 12, "interrupts": 8, "deadlines": 4, "calls": 4}


def test_what_was_counted_is_neither_lost_nor_counted_twice(plane_root: Path) -> None:
    found = {"stores": sweeps("stores", NAMES, plane_root, sample=SOME_STORES, of="meter", deadline=110)}
    for results in (found | some_points(SAMPLES, NAMES, plane_root, of="meter")).values():
        assert not problems_of(results)
        assert all(result.points for result in results)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["stores", *SAMPLES])
def test_meters_are_right_after_death_and_what_handlers_raise_at_every_point(plane_root: Path, kind: str) -> None:
    assert not problems_of(sweeps(kind, NAMES, plane_root, of="meter", deadline=3500))
