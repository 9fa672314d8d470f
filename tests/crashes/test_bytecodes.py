"""SIGKILL, and what signal handlers raise, at bytecodes of every public call that writes: a regular sample of them.

``python -m tests.crashes.sweep --all`` and ``pytest -m sweep tests/crashes/test_bytecodes.py`` have all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.groups import GROUPS, problems_of, sweeps
from tests.crashes.scenarios import BY_NAME
from tests.support.thrown import KINDS


@pytest.mark.parametrize("group", GROUPS)
def test_death_at_any_bytecode_leaves_the_plane_as_before_or_after(plane_root: Path, group: int) -> None:
    results = sweeps("bytecodes", GROUPS[group], plane_root, sample=4)

    assert not problems_of(results)
    assert sum(result.kills for result in results) > 0.8 * sum(result.points for result in results)


@pytest.mark.parametrize("group", GROUPS)
def test_an_interrupt_at_any_bytecode_leaves_a_plane_that_goes_on(plane_root: Path, group: int) -> None:
    results = sweeps("interrupts", GROUPS[group], plane_root, sample=4)

    assert not problems_of(results)
    assert all(result.points for result in results)


#: each group with what a handler's own call raises, and with one of the others
RAISED = [(group, kind) for group in GROUPS for kind in ("calls", ("deadlines", "errors", "values", "keys")[group % 4])]


@pytest.mark.parametrize(("group", "kind"), RAISED)
def test_what_a_handler_raises_at_any_bytecode_comes_out_and_leaves_nothing(
    plane_root: Path, group: int, kind: str
) -> None:
    results = sweeps(kind, GROUPS[group], plane_root, sample=2)

    assert not problems_of(results)
    assert all(result.points for result in results)


@pytest.mark.sweep
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("kind", ["bytecodes", *KINDS])
@pytest.mark.parametrize("name", BY_NAME)
def test_every_bytecode(plane_root: Path, kind: str, name: str) -> None:
    assert not problems_of(sweeps(kind, [name], plane_root))
