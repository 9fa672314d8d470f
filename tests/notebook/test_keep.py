"""``%load_ext shmplane`` and ``%%keep``, in real IPython shells: each a process of its own, as after a restart."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from shmplane import Plane
from tests.support.processes import run_in_child

pytest.importorskip("IPython")

COMPUTE = "%%keep x\nimport numpy as np, pathlib\npathlib.Path('runs').open('a').write('1')\nx = np.arange(1000)"


@pytest.fixture(autouse=True)
def _in_its_directory(tmp_path: Path, plane_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    yield
    with Plane("jupyter", root=str(plane_root)) as plane:
        plane.destroy()


def shell(*cells: str) -> str:
    """What it says, on both streams."""
    return run_in_child(_run_cells, cells)  # type: ignore[no-any-return]


def _run_cells(cells: tuple[str, ...]) -> str:
    from IPython.testing.globalipapp import start_ipython

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        ip = start_ipython()
        ip.run_cell("%load_ext shmplane")
        for cell in cells:
            if not ip.run_cell(cell).success:
                print("FAILED")
    return said.getvalue()


def runs() -> int:
    return len(Path("runs").read_text())


def test_what_a_cell_computed_survives_the_kernel() -> None:
    assert "kept in plane 'jupyter': x" in shell(COMPUTE, "print(x.sum(), x.flags.writeable)")
    said = shell(COMPUTE, "print(x.sum(), x.flags.writeable)")
    assert "did not run: x version 1" in said
    assert "499500 False" in said
    assert runs() == 1
    assert Plane("jupyter")["x"].tolist() == list(range(1000))


def test_again_runs_it_and_keeps_the_new_value() -> None:
    shell(COMPUTE)
    shell(COMPUTE.replace("%%keep", "%%keep --again"))
    assert runs() == 2
    assert Plane("jupyter").attach("x").version == 2


def test_a_variable_is_the_same_whether_the_cell_ran_or_not() -> None:
    first = shell(COMPUTE, "print(type(x), x.flags.writeable, x.base is None)")
    second = shell(COMPUTE, "print(type(x), x.flags.writeable, x.base is None)")
    assert first.splitlines()[-1] == second.splitlines()[-1]


def test_a_cell_that_changed_is_told_of() -> None:
    shell(COMPUTE)
    assert "has changed" not in shell(COMPUTE)
    assert "has changed" in shell(COMPUTE + " * 2", "print(x[1])")
    assert "has changed" not in shell(COMPUTE.replace("%%keep x", "%%keep --again x") + " * 2", "print(x[1])")


def test_a_value_that_somebody_else_put_is_attached_without_a_word() -> None:
    shell(COMPUTE)
    Plane("jupyter")["x"] = np.zeros(3)
    said = shell(COMPUTE, "print(x.shape)")
    assert "(3,)" in said
    assert "changed" not in said


def test_several_variables_are_kept_together() -> None:
    cell = "%%keep a b\nprint('computing')\na, b = {'k': 1}, [1, 2]"
    assert "computing" in shell(cell)
    assert "computing" not in shell(cell, "print(a, b)")
    del Plane("jupyter")["a"]
    assert "computing" in shell(cell)


def test_a_cell_that_raises_keeps_nothing_and_takes_nothing_away() -> None:
    assert "FAILED" not in shell(COMPUTE)
    shell("%%keep --again x\nx = 5\n1 / 0", "%%keep y\ny = 1\n1 / 0")
    assert Plane("jupyter")["x"].shape == (1000,)
    assert "y" not in Plane("jupyter")


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%keep\nx = 1", "NAME..."),
        ("%%keep 1x\nx = 1", "NAME..."),
        ("%%keep 'x\nx = 1", "NAME..."),
        ("%%keep y\nx = 1", "no variable y"),
        ("%%keep f\nf = lambda: 1", "UnsupportedValue"),
    ],
)
def test_what_cannot_be_kept_is_said(cell: str, says: str) -> None:
    assert says in shell(cell)
    assert Plane("jupyter").names() == []


def test_a_plane_that_was_destroyed_is_made_again() -> None:
    destroy = "import shmplane; del x; shmplane.Plane('jupyter').destroy()"
    said = shell(COMPUTE, destroy, COMPUTE, "print(x.sum())")
    assert said.count("kept in plane") == 2


def test_the_extension_can_be_unloaded_and_loaded_again() -> None:
    said = shell("%unload_ext shmplane", "%load_ext shmplane", "%reload_ext shmplane", COMPUTE)
    assert "kept in plane" in said
    said = shell("%unload_ext shmplane", COMPUTE)
    assert "keep" in said
    assert "kept in plane" not in said
