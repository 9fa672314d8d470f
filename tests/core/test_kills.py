"""SIGKILL after every store of the compiled core: the library that ships is the one that is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from shmplane.manifest import LockKind
from tests.crashes.native_scenarios import NATIVE_SCENARIOS
from tests.crashes.sweep import Result, run
from tests.support.processes import run_in_child
from tests.support.requires import require_core

PARTS = 4


def test_death_at_a_store_of_the_core_leaves_the_plane_as_before_or_after(plane_root: Path) -> None:
    check(run_in_child(_sweeps, str(plane_root), "word", 5, 0, 1, method="spawn", deadline=280))


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("lock", ["word", "ofd"])
def test_death_at_any_store_of_the_core_leaves_the_plane_as_before_or_after(
    plane_root: Path, lock: LockKind, part: int
) -> None:
    check(run_in_child(_sweeps, str(plane_root), lock, None, part, PARTS, method="spawn", deadline=280))


def check(results: list[Result]) -> None:
    assert not [problem for result in results for problem in result.problems]
    for result in results:
        # One that is done in Python alone, since its process has not used the core before, says nothing.
        assert result.kills == result.points > 4, result  # two are those of the lock


def _sweeps(root: str, lock: LockKind, sample: int | None, part: int, parts: int) -> list[Result]:
    return list(run("native", NATIVE_SCENARIOS[part::parts], root, sample=sample, lock=lock))


@pytest.fixture(autouse=True)
def _with_the_core() -> None:
    require_core()
