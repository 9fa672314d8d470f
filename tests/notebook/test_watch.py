"""``plane.watch`` and what planes and blocks look like, in a real kernel."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from shmplane import Plane
from shmplane.observe import live
from tests.notebook import kernel
from tests.support.processes import run_python

pytest.importorskip("ipykernel")

OPEN = "import shmplane, time, threading\nplane = shmplane.Plane.temporary()\nplane['prices'] = [1, 2, 3]"


def run_kernel(*cells: str) -> list[str]:
    return run_python(Path(kernel.__file__), *cells, deadline=150).stdout.splitlines()


@pytest.fixture(autouse=True)
def _with_the_package(monkeypatch: pytest.MonkeyPatch, plane_root: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))


def test_a_picture_is_updated_until_it_is_stopped() -> None:
    lines = run_kernel(
        OPEN,
        "watch = plane.watch(seconds=0.05)\nprint('at once', watch.running)",
        "time.sleep(1)",
        "watch.stop()\nprint('running', watch.running)",
        "time.sleep(0.5)\nprint('threads', [t.name for t in threading.enumerate() if 'shmplane-watch' in t.name])",
    )
    first = next(line for line in lines if line.startswith("display_data"))
    updates = [line for line in lines if line.startswith("update_display_data")]
    assert len(updates) >= 3
    assert {line.split()[1] for line in [first, *updates]} == {first.split()[1]}
    assert all(" html " in line for line in [first, *updates])
    assert "said at once True" in lines
    assert lines[-2:] == ["said running False", "said threads []"]


@pytest.mark.parametrize(
    "end", ["plane.close()", "plane.destroy()", "shmplane.Plane(plane.name, root=plane.root).destroy()"]
)
def test_it_ends_with_the_plane(end: str) -> None:
    lines = run_kernel(OPEN, "watch = plane.watch(0.05)", end, "time.sleep(1)\nprint('running', watch.running)")
    assert lines[-1] == "said running False"
    assert lines[-2].endswith("True")  # the picture's place says that it is no longer updated


def test_a_cell_that_runs_again_leaves_one_picture_running() -> None:
    cell = "watches = globals().get('watches', [])\nwatches.append(plane.watch(0.05))"
    lines = run_kernel(OPEN, cell, cell, "print([watch.running for watch in watches])")
    assert lines[-1] == "said [False, True]"


def test_planes_blocks_and_layouts_show_themselves() -> None:
    code = "from IPython.display import display\nfor thing in (plane, plane.layout(), plane.attach('prices')): display(thing)"
    lines = run_kernel(OPEN, code)
    assert [line.split()[0] + line.split()[-3] for line in lines] == ["display_datahtml"] * 3


def test_what_is_kept_survives_a_restart_of_the_kernel(plane_root: Path) -> None:
    cell = "%%keep x\nprint('computing')\nx = 42.5"
    lines = run_kernel("%load_ext shmplane", cell, "restart", "%load_ext shmplane", cell, "print(x)")
    with Plane("jupyter", root=str(plane_root)) as plane:
        plane.destroy()
    assert lines.count("said computing") == 1 or sum("computing" in line for line in lines) == 1
    assert lines[-1] == "said 42.5"


def test_outside_of_a_notebook_it_says_what_to_do(plane: Plane) -> None:
    with pytest.raises(RuntimeError, match="layout"):
        plane.watch()


@pytest.mark.parametrize(
    ("seconds", "error"), [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_seconds_that_are_none_are_refused(plane: Plane, seconds: Any, error: Any) -> None:
    with pytest.raises(error):
        plane.watch(seconds)


class Subject:
    pass


class Handle:
    """A place in a front end."""

    def __init__(self) -> None:
        self.drawn: list[Any] = []
        self.update_now = threading.Event()

    def update(self, drawn: Any, *, raw: bool) -> None:
        assert raw
        self.drawn.append(drawn)
        self.update_now.set()


def test_a_picture_does_not_keep_what_it_draws() -> None:
    subject, handle = Subject(), Handle()
    watch = live.Watch(weakref.ref(subject), lambda _: {"text/plain": "x"}, 0.01)
    watch._handle = handle
    watch._thread.start()
    assert handle.update_now.wait(30)
    del subject
    watch._thread.join(30)
    assert not watch.running


def test_a_front_end_that_is_gone_ends_it() -> None:
    subject = Subject()
    watch = live.Watch(weakref.ref(subject), lambda _: {"text/plain": "x"}, 0.01)
    watch._thread.start()  # without a place to draw in
    watch._thread.join(30)
    assert not watch.running
    watch.stop()
