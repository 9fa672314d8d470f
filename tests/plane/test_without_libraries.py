"""JSON values and bytes need neither NumPy nor pyarrow, and imports of those do not get in the way of forks."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import Plane
from shmplane.system import imports, late
from shmplane.system.modules import LATE
from tests.support.forked import run_forked
from tests.support.processes import run_python
from tests.support.waiting import HANG_S

LOADED = "print([name for name in ('numpy', 'pyarrow', 'pandas', 'polars', 'torch') if name in sys.modules])"

ROUND_TRIP = f"""
import gc, os, sys, time, shmplane
with shmplane.Plane.temporary() as plane:
    for nbytes in (0, 1, 300, 5_000, 70_000, 1 << 20):
        value = os.urandom(nbytes)
        plane["x"] = value
        view = plane["x"]
        assert view.readonly and bytes(view) == value and view.nbytes == nbytes
        assert bytes(plane.get("x", as_="bytes")) == plane.get("x", as_="python") == value
        block = plane.attach("x")
        assert bytes(block.buffer()) == bytes(block.value()) == value and block.shape == (nbytes,)
        for change in (lambda: view.__setitem__(0, 1), lambda: view.obj.write(b"x"), lambda: view.obj.close()):
            try:
                change()
            except (TypeError, IndexError, ValueError):
                pass
            else:
                raise SystemExit("a view was written to, or closed")
        assert not hasattr(view.obj, "_lease")
        # The last view ends the lease, and not before: the memory is not another block's until then.
        block.close()
        part, view = view[nbytes // 2 :], None
        plane["x"] = b"-" * nbytes
        for _ in range(3):
            plane["y"] = b"y" * nbytes
        assert bytes(part) == value[nbytes // 2 :]
        assert plane.stats().leases == 1
        part = None
        gc.collect()
        plane.gc()
        assert plane.stats().leases == 0
    plane.put("config", {{"limit": 5, "names": ["a"] * 40_000}})
    plane["small"] = [1]
    assert plane["small"] == [1] and plane["config"]["limit"] == 5
    with plane.edit("config") as draft:
        draft.value["limit"] = 6
    assert plane["config"]["limit"] == 6
    block = plane.attach("config")
    unread = plane.attach("y")
    assert plane.wait("small").version == 1 and plane.get("nothing") is None
{LOADED.replace("print", "    print")}
assert block.value()["limit"] == 6
assert bytes(unread.value()) == b"y" * (1 << 20)
"""


def test_json_and_bytes_are_put_and_read_without_numpy_and_pyarrow(plane_root: Path) -> None:
    assert run_python(ROUND_TRIP).stdout == "[]\n"


MOST_MODULES = 88  #: 84 today, the compiled core included; with all that a first put or lock needs it was 192
FIRST_PLANE = """
import sys, shmplane
before = set(sys.modules)
plane = shmplane.Plane.temporary(capacity="64MiB")
print(*sorted(set(sys.modules) - before))
plane.destroy()
"""
DEAR = {"numpy", "pyarrow", "pandas", "polars", "inspect", "dataclasses", "json", "pickle", "pathlib", "tempfile"}


def test_the_first_plane_of_a_process_loads_what_it_needs_and_no_more(plane_root: Path) -> None:
    loaded = run_python(FIRST_PLANE).stdout.split()
    assert "shmplane.plane.plane" in loaded
    assert not DEAR & set(loaded)
    assert not [name for name in loaded if name.startswith(("shmplane.codecs", "shmplane.observe.", "shmplane.scopes"))]
    assert len(loaded) <= MOST_MODULES


def test_what_is_loaded_late_becomes_a_plain_module(plane: Plane) -> None:
    plane["x"] = [1]
    door, codecs = sys.modules["shmplane.plane.plane"], sys.modules["shmplane.codecs"]
    assert type(door.codecs) is ModuleType
    assert door.codecs.encode is codecs.encode
    assert {"shmplane.codecs", "shmplane.plane.drafts"} <= set(LATE)


def test_a_late_module_has_no_more_than_the_real_one() -> None:
    module = late("shmplane.errors")
    with pytest.raises(AttributeError, match="not loaded yet"):
        module.__wrapped__  # noqa: B018
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018
    assert module.PlaneFull is shmplane.PlaneFull
    LATE.remove("shmplane.errors")


SLOW = """
from tests.plane.test_without_libraries import BEGAN, END
BEGAN.set()
assert END.wait(30)
whole = True
"""
BEGAN, END = threading.Event(), threading.Event()


@pytest.fixture
def slow_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A library that is loaded once ``END`` is set; ``BEGAN`` says that somebody waits for it."""
    (tmp_path / "slow_library.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "LIBRARIES", ["slow_library", *imports.LIBRARIES])
    BEGAN.clear()
    END.clear()
    yield "slow_library"
    END.set()
    sys.modules.pop("slow_library", None)


def _is_whole() -> None:
    assert importlib.import_module("slow_library").whole


def test_a_fork_waits_for_a_library_that_another_thread_is_importing(plane: Plane, slow_library: str) -> None:
    """A child with a half-made module would wait for ever for a thread that it has not."""
    importing = threading.Thread(target=importlib.import_module, args=(slow_library,))
    importing.start()
    assert BEGAN.wait(HANG_S)
    goes_on = threading.Timer(0.2, END.set)
    goes_on.start()
    run_forked(_is_whole)
    importing.join()
    goes_on.join()


def test_an_import_that_begins_during_a_fork_waits_for_its_end(
    plane: Plane, slow_library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = threading.Thread(target=importlib.import_module, args=(slow_library,))
    END.set()
    imports.hold_imports()  # the first half of a fork
    importing.start()
    assert not BEGAN.wait(0.1)
    run_forked(_is_whole)  # a fork within it, by the same thread
    imports.release_imports()
    assert BEGAN.wait(HANG_S)
    importing.join()


def test_a_late_module_that_is_first_used_during_a_fork_waits_for_its_end(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_library.py").write_text("whole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    module, found = late("late_library"), threading.Event()

    def use() -> None:
        if module.whole:
            found.set()

    using = threading.Thread(target=use)
    imports.hold_imports()  # the first half of a fork
    using.start()
    assert not found.wait(0.1)
    imports.release_imports()
    assert found.wait(HANG_S)
    using.join()
    LATE.remove("late_library")
    del sys.modules["late_library"]


def test_a_fork_inside_an_import_does_not_wait_for_itself(plane: Plane, slow_library: str, tmp_path: Path) -> None:
    (tmp_path / "slow_library.py").write_text(
        "import os\npid = os.fork()\nif not pid: os._exit(0)\nassert os.waitpid(pid, 0)[1] == 0\nwhole = True\n"
    )
    _is_whole()
    run_forked(_is_whole)


def test_a_child_forked_during_a_first_read_reads_too(plane: Plane) -> None:
    plane["config"] = {"limit": 5}
    plane["array"] = np.arange(5)
    outcome = run_python(FIRST_READS, plane.name, plane.root)
    assert (outcome.stdout, outcome.stderr) == ("0\n", "")


FIRST_READS = """
import os, signal, sys, threading, time, warnings, shmplane
warnings.simplefilter("ignore")  # from Python 3.12 on: of a fork beside threads
plane = shmplane.Plane(sys.argv[1], root=sys.argv[2], create=False)
failed = 0
for delay in (0.0, 0.01, 0.03, 0.1, 0.2):
    if not (tries := os.fork()):  # a fresh process each time, so that nothing is imported yet
        threading.Thread(target=lambda: plane["array"], daemon=True).start()
        time.sleep(delay)
        if not (child := os.fork()):
            signal.alarm(20)
            os._exit(0 if plane["config"]["limit"] == 5 and plane["array"][4] == 4 else 1)
        os._exit(os.waitpid(child, 0)[1] != 0)
    failed += os.waitpid(tries, 0)[1] != 0
print(failed)
"""


NOT_INSTALLED = """
import sys
import pyarrow as pa, shmplane
plane = shmplane.Plane(sys.argv[1], root=sys.argv[2], create=False)
library = sys.argv[3]
sys.modules[library] = None  # as if it were not installed
for read in (
    lambda: plane[library],
    lambda: plane.get("table", as_=library),
    lambda: plane.get("array", as_=library),
    lambda: getattr(plane.attach("table"), f"to_{library}")(),
):
    try:
        read()
    except ModuleNotFoundError as error:
        assert f"pip install 'shmplane[{library}]'" in str(error), str(error)
        assert error.name == library
    else:
        raise SystemExit("no error")
assert plane["table"].num_rows == plane.attach(library).table().num_rows == 2
"""


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(plane: Plane, library: str) -> None:
    frames = pytest.importorskip(library)
    plane[library] = frames.DataFrame({"a": [1, 2]})
    plane["table"] = pa.table({"a": [1, 2]})
    plane["array"] = np.arange(2)
    run_python(NOT_INSTALLED, plane.name, plane.root, library)
