"""Meters under death and Ctrl-C: at every store, and at bytecodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import problems_of, sweeps
from tests.crashes.meter_scenarios import METER_SCENARIOS


@pytest.mark.parametrize(
    ("kind", "sample"), [("stores", None), ("bytecodes", 30), ("interrupts", 15), ("deadlines", 8), ("calls", 8)]
)
def test_what_was_counted_is_neither_lost_nor_counted_twice(plane_root: Path, kind: str, sample: int | None) -> None:
    results = sweeps(kind, [one.name for one in METER_SCENARIOS], plane_root, sample=sample, of="meter", deadline=110)
    assert not problems_of(results)
    assert all(result.points for result in results)
