"""SIGKILL, and what signal handlers raise, at bytecodes of every public call that writes: a regular sample of them.

``python -m tests.crashes.sweep --all`` and ``pytest -m sweep tests/crashes/test_bytecodes.py`` have all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import GROUPS, problems_of, some_points, sweeps
from tests.crashes.scenarios import BY_NAME
from tests.support.thrown import KINDS

#: what else a handler raises, beside Ctrl-C and what a call of its own is refused with: one kind for each group
OTHERS = ("deadlines", "errors", "values", "keys")


@pytest.mark.parametrize("group", GROUPS)
def test_death_and_what_a_handler_raises_at_any_bytecode_leave_the_plane_as_before_or_after(
    plane_root: Path, group: int
) -> None:
    samples = {"bytecodes": 3, "interrupts": 3, "calls": 1, OTHERS[group % 4]: 1}
    results = some_points(samples, GROUPS[group], plane_root)

    for of_kind in results.values():
        assert not problems_of(of_kind)
        assert all(result.points for result in of_kind)
    deaths = results["bytecodes"]
    assert sum(result.kills for result in deaths) > 0.8 * sum(result.points for result in deaths)


@pytest.mark.sweep
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("kind", ["bytecodes", *KINDS])
@pytest.mark.parametrize("name", BY_NAME)
def test_every_bytecode(plane_root: Path, kind: str, name: str) -> None:
    assert not problems_of(sweeps(kind, [name], plane_root))
