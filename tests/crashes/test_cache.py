"""Caches under death and what signal handlers raise: the old value or the new one, and nothing left behind.

``python -m tests.crashes.sweep --all --scenario cache:`` has every point.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.cache_scenarios import CACHE_SCENARIOS
from tests.crashes.groups import problems_of, sweeps
from tests.support.thrown import KINDS

#: what is killed in the default run; one process for all, so that its start counts once
FEW = [
    f"cache: {name}"
    for name in ("set a large one", "set where others go", "promote a small one", "compute", "evict a tag")
]


@pytest.mark.parametrize(("kind", "sample"), [("stores", 4), ("bytecodes", 8)])
def test_death_leaves_the_old_value_or_the_new_one_and_nothing_else(plane_root: Path, kind: str, sample: int) -> None:
    results = sweeps(kind, FEW, plane_root, sample=sample, of="cache")
    assert not problems_of(results)
    assert sum(result.kills for result in results) >= 0.7 * sum(result.points for result in results)


@pytest.mark.parametrize(("kind", "sample"), [("interrupts", 6), ("values", 3), ("calls", 3)])
def test_what_handlers_raise_comes_out_and_leaves_nothing(plane_root: Path, kind: str, sample: int) -> None:
    assert not problems_of(sweeps(kind, FEW, plane_root, sample=sample, of="cache"))


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["stores", "bytecodes", *KINDS])
@pytest.mark.parametrize("name", [one.name for one in CACHE_SCENARIOS])
def test_every_point(plane_root: Path, name: str, kind: str) -> None:
    assert not problems_of(sweeps(kind, [name], plane_root, of="cache", deadline=3500))
