"""Sweeps in a process of their own: columns stay wrapped in it, and a hang ends with it.

It loads the scenarios that it sweeps and no others: with Arrow, which some are about, each fork takes three times as long.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.crashes.scenarios import BY_NAME, DIES_AT_WORK
from tests.crashes.sweep import Result, run, run_kinds, run_recovery
from tests.support.crashing import Scenario
from tests.support.processes import run_in_child

NAMES = [name for name, scenario in BY_NAME.items() if not scenario.fresh]
#: so many stores of each scenario does the default run take; CI, ``pytest -m sweep`` and the sweep itself take all
SOME_STORES = 12
#: scenarios that share a survivor, so that its start counts once
GROUPS = {number: NAMES[number::6] for number in range(6)}


def sweeps(
    kind: str, names: list[str], root: Path, *, sample: int | None = None, of: str = "", deadline: float = 280
) -> list[Result]:
    """``of``: what the scenarios are about, as in the name of their module; nothing: those of every public call."""
    results: list[Result] = run_in_child(_sweeps, kind, names, str(root), sample, of, method="spawn", deadline=deadline)
    for result in results:
        print(f"{result.name}: {kind}, {result.points} points, {result.kills} kills, {result.seconds:.1f} s")
    return results


def some_points(
    samples: dict[str, int], names: list[str], root: Path, *, of: str = "", deadline: float = 280
) -> dict[str, list[Result]]:
    """Sweeps of several kinds at bytecodes, each with its sample, in one process and one world."""
    return run_in_child(_some_points, samples, names, str(root), of, method="spawn", deadline=deadline)  # type: ignore[no-any-return]


def recoveries(name: str, root: Path, *, sample: int | None = None) -> list[Result]:
    return run_in_child(_recoveries, name, str(root), sample, method="spawn", deadline=280)  # type: ignore[no-any-return]


def problems_of(results: list[Result]) -> str:
    return "\n".join(problem for result in results for problem in result.problems)


def _sweeps(kind: str, names: list[str], root: str, sample: int | None, of: str) -> list[Result]:
    return list(run(kind, _scenarios(names, of), root, sample=sample))


def _some_points(samples: dict[str, int], names: list[str], root: str, of: str) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {kind: [] for kind in samples}
    for result in run_kinds(samples, _scenarios(names, of), root):
        results[result.kind].append(result)
    return results


def _scenarios(names: list[str], of: str) -> list[Scenario]:
    found = BY_NAME
    if of:
        module = import_module(f"tests.crashes.{of}_scenarios")
        found = {scenario.name: scenario for scenario in getattr(module, f"{of.upper()}_SCENARIOS")}
    return [found[name] for name in names]


def _recoveries(name: str, root: str, sample: int | None) -> list[Result]:
    return list(run_recovery(root, [BY_NAME.get(name, DIES_AT_WORK)], sample=sample))
