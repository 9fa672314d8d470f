"""The pytest plugin. Load it with ``-p shmplane.testing``, or ``pytest_plugins = ["shmplane.testing"]`` in a conftest.py.

* Every process of a run (each worker of pytest-xdist is one) has a root of planes of its own: ``SHMPLANE_ROOT`` points to it,
  for child processes too. A test marked ``shmplane_default_root`` sees the user's root instead, and nobody watches it there.
* A test that leaves planes, segments, leases, permits or descriptors behind fails, once its fixtures have ended. What it
  may leave, a mark says: ``@pytest.mark.shmplane_leaves("descriptors", reason="...")``.
* ``plane`` is a temporary plane. ``once_per_run(name, fn)`` is a value that one process of the run computes and all map.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ..manifest import default_root
from ..plane import Plane
from . import counts
from .roots import RunRoot

__all__ = ["once_per_run", "plane"]

T = TypeVar("T")

_RUN_VARIABLE = "SHMPLANE_TEST_RUN"
_ROOT_VARIABLE = "SHMPLANE_ROOT"

_run = pytest.StashKey[RunRoot]()
_before = pytest.StashKey[dict[str, str | None]]()
_root = pytest.StashKey[str]()
_failed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shmplane_default_root: planes in the user's root, where no leak is looked for")
    config.addinivalue_line("markers", "shmplane_leaves(*kinds, reason): what this test may leave behind, and why")
    config.stash[_before] = {name: os.environ.get(name) for name in (_ROOT_VARIABLE, _RUN_VARIABLE)}
    worker = getattr(config, "workerinput", {}).get("workerid", "main")
    if worker == "main" or _RUN_VARIABLE not in os.environ:
        config.stash[_run] = run = RunRoot()
        os.environ[_RUN_VARIABLE] = str(run.path)  # for the workers, which start later
    config.stash[_root] = root = f"{os.environ[_RUN_VARIABLE]}/{worker}"
    Path(root).mkdir(mode=0o700, exist_ok=True)
    os.environ[_ROOT_VARIABLE] = root


def pytest_unconfigure(config: pytest.Config) -> None:
    for name, value in config.stash.get(_before, {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if _run in config.stash:
        config.stash[_run].remove()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.when in {"setup", "call"} and report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(autouse=True)
def _shmplane_leaves_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compare what there is before and after a test."""
    if request.node.get_closest_marker("shmplane_default_root"):
        before = request.config.stash[_before][_ROOT_VARIABLE]
        if before is None:
            monkeypatch.delenv(_ROOT_VARIABLE)
        else:
            monkeypatch.setenv(_ROOT_VARIABLE, before)
        yield
        return
    root = request.config.stash[_root]
    before_it = counts.take(root)
    yield
    if request.node.stash.get(_failed, False):
        return  # its traceback keeps objects alive, and one failure is enough
    # Every other fixture has ended; pytest would keep their values for a moment longer.
    request.node.funcargs.clear()
    left = counts.settled_growth(before_it, root, kept=_of_planes_there(before_it))
    for mark in request.node.iter_markers("shmplane_leaves"):
        if not mark.kwargs.get("reason"):
            pytest.fail("shmplane_leaves needs a reason=", pytrace=False)
        for kind in mark.args:
            left.pop(kind, None)
    if left:
        pytest.fail(f"the test left behind:\n{counts.describe(left)}", pytrace=False)


def _of_planes_there(before: counts.Counts) -> Callable[[str, str], bool]:
    """Blocks that stay, by name, in a plane that is older than the test are what it has put there."""
    return lambda kind, thing: kind == "segments" and thing in before.planes


@pytest.fixture
def plane() -> Iterator[Plane]:
    """A temporary plane, closed after the test."""
    with Plane.temporary() as made:
        yield made


@pytest.fixture(scope="session")
def once_per_run() -> Iterator[Callable[[str, Callable[[], T]], T]]:
    """``once_per_run(name, fn)``: the value of ``fn()``, computed by one process of the run and mapped by all.

    Under pytest-xdist a session-scoped fixture is computed in every worker; this one is computed once, however many ask
    at once, and when the worker that computes is killed, another one does. Everything that a plane takes may be a value;
    it is read-only.
    """
    with Plane("once-per-run", root=os.environ.get(_RUN_VARIABLE, default_root())) as shared:

        def value_of(name: str, fn: Callable[[], T]) -> T:
            return shared.get_or_put(name, fn)  # type: ignore[no-any-return]

        yield value_of
