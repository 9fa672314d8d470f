"""Sweeps in a process of their own: columns stay wrapped in it, and a hang ends with it."""

from __future__ import annotations

from pathlib import Path

from tests.crashes.scenarios import BY_NAME, DIES_AT_WORK
from tests.crashes.sweep import Result, run, run_recovery
from tests.support.processes import run_in_child

NAMES = [name for name, scenario in BY_NAME.items() if not scenario.fresh]
#: scenarios that share a survivor, so that its start counts once
GROUPS = {number: NAMES[number::6] for number in range(6)}


def sweeps(kind: str, names: list[str], root: Path, *, sample: int | None = None) -> list[Result]:
    return run_in_child(_sweeps, kind, names, str(root), sample, deadline=280)  # type: ignore[no-any-return]


def recoveries(name: str, root: Path, *, sample: int | None = None) -> list[Result]:
    return run_in_child(_recoveries, name, str(root), sample, deadline=280)  # type: ignore[no-any-return]


def problems_of(results: list[Result]) -> str:
    return "\n".join(problem for result in results for problem in result.problems)


def _sweeps(kind: str, names: list[str], root: str, sample: int | None) -> list[Result]:
    return list(run(kind, [BY_NAME[name] for name in names], root, sample=sample))


def _recoveries(name: str, root: str, sample: int | None) -> list[Result]:
    return list(run_recovery(root, [BY_NAME.get(name, DIES_AT_WORK)], sample=sample))
