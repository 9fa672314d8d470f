"""The types that users see: complete, and wrong programs are found out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import shmplane
from tests.support.checkers import REPOSITORY, mypy_faults, pyright_faults, untyped_symbols
from tests.support.pages import examples_of_pages

WRONG = """\
import shmplane

with shmplane.Plane("x") as plane:
    plane.put(3, 3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each example of the pages as a file, whose lines are those of its page, and a program that is wrong in line 4."""
    for example in examples_of_pages(all_of_them=True):
        (tmp_path / example.file_name).write_text(example.source + "\n", encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    return tmp_path


@pytest.mark.timeout(300)
def test_mypy_in_strict_mode_finds_what_is_wrong_and_nothing_else(folder: Path) -> None:
    # In one run: to read the library costs more than all that is checked.
    types = REPOSITORY / "tests" / "types"
    found = mypy_faults(*sorted(folder.glob("*.py")), types / "checked.py", types / "pools.py").splitlines()
    assert [line for line in found if ": error: " in line and "wrong.py:4: " not in line] == []
    assert found[-1].startswith("Found 1 error in 1 file (")


@pytest.mark.timeout(300)
def test_pyright_finds_what_is_wrong_and_nothing_else(folder: Path) -> None:
    assert [fault.split(": ")[0] for fault in pyright_faults(folder)] == ["wrong.py:4"]


@pytest.mark.timeout(300)
def test_the_public_types_are_complete() -> None:
    unknown, ambiguous = untyped_symbols()
    public = tuple(f"{thing.__module__}.{thing.__qualname__}" for thing in _public_types())
    assert public
    assert [name for name in unknown + ambiguous if name.startswith(public)] == []


def _public_types() -> list[type]:
    things = [getattr(shmplane, name) for name in shmplane.__all__]
    return [thing for thing in things if isinstance(thing, type)]


def test_the_types_are_marked_as_there() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib.resources as r; print(r.files('shmplane').joinpath('py.typed').is_file())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "True"
