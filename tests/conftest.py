"""Every test runs in its process's own plane root, and under the leak guard (``tests/support/guard.py``)."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import guard, requires
from tests.support.roots import RUN, make_session_root, remove_session_root

if TYPE_CHECKING:
    import shmplane

# How long an example takes, or is drawn for, is the machine's business: no test asserts a time.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_ROOT = pytest.StashKey[Path]()
_FAILED = pytest.StashKey[bool]()
RUNNER = os.getpid()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROOT] = make_session_root()
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # Started in the background of a script. Tests send Ctrl-C to themselves and to programs that inherit this.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    remove_session_root(config.stash[_ROOT])


@pytest.hookimpl(optionalhook=True)  # there is none with ``-p no:xdist``
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: for a third of its time a test waits, for a process, a kill, a deadline."""
    return len(os.sched_getaffinity(0)) + 1


#: files with a test of ten seconds or more
LONG = (
    "tests/cli/test_demo.py", "tests/connections/test_host_limit.py", "tests/crashes/", "tests/integration/test_chaos.py",
    "tests/integrations/test_joblib.py", "tests/integrations/test_two_hosts.py", "tests/plane/test_fork.py",
    "tests/properties/test_plane_as_a_dict.py", "tests/testing/", "tests/types/",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each worker begins with its part of what takes long, so that none is left with it when the others are done.

    With ``--dist worksteal`` a worker begins with as many tests as the others, those that stand together here.
    """
    count = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    long = [item for item in items if item.nodeid.startswith(LONG)]
    rest = [item for item in items if not item.nodeid.startswith(LONG)]
    size = len(rest) // count
    if count > 1:
        items[:] = [
            item
            for worker in range(count)
            for item in (
                *long[worker::count],
                *rest[worker * size : None if worker == count - 1 else (worker + 1) * size],
            )
        ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if os.getpid() != RUNNER:  # a child that a test forked and lost; it must not go on as a second runner
        os.write(2, f"a forked child came back from {item.nodeid}:\n{report.longreprtext}\n".encode())
        os._exit(70)
    if report.when in {"setup", "call"} and report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def _no_python_in_collections() -> Iterator[None]:
    """Hypothesis times collections by a callback of Python code; what a signal handler raises in there, Python drops."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = [*callbacks, *(later for later in gc.callbacks if later not in callbacks)]


@pytest.fixture(autouse=True)
def _leak_guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves files, descriptors, mappings, leases or processes behind."""
    root = request.config.stash[_ROOT]
    planes = guard.planes_below(root)
    before = guard.take_snapshot(root, planes=planes)
    # What pytest and the libraries keep for good need not be looked through by every collection in a test.
    gc.freeze()
    yield
    if request.node.stash.get(_FAILED, False):
        gc.unfreeze()
        return  # its traceback keeps objects alive; one failure is enough
    # Every other fixture of the test has ended; pytest itself would keep their values for a moment longer.
    request.node.funcargs.clear()
    leaks = guard.leaked_since(before, root, planes=planes)
    gc.unfreeze()
    for marker in request.node.iter_markers("guard_ignores"):
        assert marker.kwargs.get("reason"), "guard_ignores needs a reason"
        for kind in marker.args:
            leaks.pop(kind, None)
    if leaks:
        pytest.fail(guard.describe(leaks), pytrace=False)


@pytest.fixture(autouse=True)
def _default_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests marked ``default_root`` see the library as users do who set no root."""
    if request.node.get_closest_marker("default_root"):
        monkeypatch.delenv("SHMPLANE_ROOT")


@pytest.fixture
def plane_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty root in shared memory, also for the children that the test starts; removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="root-", dir=request.config.stash[_ROOT]))
    monkeypatch.setenv("SHMPLANE_ROOT", str(root))
    yield root
    shutil.rmtree(root)


@pytest.fixture
def plane_name(request: pytest.FixtureRequest) -> str:
    """A plane name that nobody else uses, also in the default root."""
    return f"{RUN}.{os.urandom(4).hex()}"


@pytest.fixture
def plane() -> Iterator[shmplane.Plane]:
    """A temporary plane, closed afterwards."""
    import shmplane

    with shmplane.Plane.temporary() as plane:
        yield plane


@pytest.fixture
def needs_root() -> None:
    requires.require(requires.is_root(), "needs root")


@pytest.fixture
def needs_pid_namespaces() -> None:
    requires.require(requires.can_unshare_pids(), "needs `unshare --pid`")


@pytest.fixture
def needs_mounts() -> None:
    requires.require(requires.can_mount_tmpfs(), "needs `unshare --mount` and mounting a tmpfs")
