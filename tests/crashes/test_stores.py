"""SIGKILL after stores to the manifest, of every public call that writes: a regular sample of them.

``python -m tests.crashes.sweep --all --only stores``, ``pytest -m sweep tests/crashes/test_stores.py`` and CI have every store.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import NAMES, SOME_STORES, problems_of, recoveries, sweeps
from tests.crashes.scenarios import DIES_AT_WORK, RECOVERED


@pytest.mark.parametrize("sample", [SOME_STORES, pytest.param(None, id="every", marks=pytest.mark.sweep)])
@pytest.mark.parametrize("half", range(2))
def test_death_at_any_store_leaves_the_plane_as_before_or_after(
    plane_root: Path, half: int, sample: int | None
) -> None:
    results = sweeps("stores", NAMES[half::2], plane_root, sample=sample)

    assert len(results) == len(NAMES[half::2])
    assert not problems_of(results)
    # A point may fall away when a timer was faster.
    assert sum(result.kills for result in results) >= 0.95 * sum(result.points for result in results)


def test_death_while_the_tables_grow_leaves_the_plane_as_before_or_after(plane_root: Path) -> None:
    assert not problems_of(sweeps("stores", ["put until the tables grow"], plane_root, sample=SOME_STORES))


@pytest.mark.parametrize("name", [DIES_AT_WORK.name, *RECOVERED[::3]])
def test_death_inside_recovery_is_recovered_from(plane_root: Path, name: str) -> None:
    results = recoveries(name, plane_root, sample=6)

    assert not problems_of(results)
    assert sum(result.kills for result in results) >= 5
