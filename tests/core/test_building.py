"""The core is optional: whatever keeps it from being built or loaded, planes work, and it can be told why it is not used."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import shmplane
from shmplane import core
from shmplane.core.build_hook import compile_core
from shmplane.observe import Check, check_host
from tests.support.forked import run_forked
from tests.support.inside import core_of
from tests.support.processes import run_python
from tests.support.requires import require_core

FOLDER = Path(core.__file__).parent
BUILT = FOLDER / "_core.abi3.so"

LOOK = """
import sys
sys.path.insert(0, {folder!r})
import shmplane, shmplane.core
with shmplane.Plane.temporary() as plane:
    for value in (b"1", b"2", b"3"):
        plane["a"] = value
    assert bytes(plane["a"]) == b"3"
    del plane["a"]
    print(plane._attachment.core is not None, shmplane.core.why_not())
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The library with its core, to be damaged."""
    require_core()
    shutil.copytree(FOLDER.parent, tmp_path / "shmplane", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def said_by(copy: Path, **environment: str) -> str:
    return run_python(LOOK.format(folder=str(copy)), env=environment).stdout.strip()


def test_a_build_beside_its_source_is_used(copy: Path) -> None:
    assert said_by(copy) == "True None"


def test_without_a_build_python_does_it_all(copy: Path) -> None:
    (copy / "shmplane" / "core" / BUILT.name).unlink()
    assert said_by(copy).startswith("False it was not built; ")


@pytest.mark.parametrize("damage", [b"", b"\x7fELF of another machine", b"#!/bin/sh\n"])
def test_a_file_that_is_no_library_of_this_machine_is_passed_over(copy: Path, damage: bytes) -> None:
    (copy / "shmplane" / "core" / BUILT.name).write_bytes(damage)
    assert said_by(copy).startswith("False it was not built; ")


@pytest.mark.parametrize("name", ["_core.c", "lockword.h"])
def test_a_build_of_another_release_is_passed_over(copy: Path, name: str) -> None:
    with (copy / "shmplane" / "core" / name).open("a") as source:
        source.write("/* one line more */\n")
    assert said_by(copy).startswith("False it was built from another source")


def test_one_whose_source_is_gone_is_passed_over(copy: Path) -> None:
    (copy / "shmplane" / "core" / "_core.c").unlink()
    assert said_by(copy).startswith("False it was built from another source")


@pytest.mark.parametrize(
    ("value", "said"), [("1", "False SHMPLANE_PURE is set"), ("0", "True None"), ("", "True None")]
)
def test_it_can_be_refused(copy: Path, value: str, said: str) -> None:
    assert said_by(copy, SHMPLANE_PURE=value) == said


@pytest.mark.parametrize(
    "compiler", ["/nonexistent/cc", "false", "'gcc", "sh -c 'printf \\\\377 >&2; exit 1'", "sh -c 'echo >&2; exit 1'"]
)
def test_no_compiler_keeps_an_install_from_ending_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert compile_core(tmp_path / "built.so")
    assert not list(tmp_path.iterdir())


def test_a_child_has_what_its_parent_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    require_core()
    with shmplane.Plane.temporary() as plane:
        monkeypatch.setenv("SHMPLANE_PURE", "1")
        run_forked(lambda: _check_engine(plane, "core"))


def _check_engine(plane: shmplane.Plane, engine: str) -> None:
    assert plane.stats().engine == engine


def test_it_is_refused_by_each_plane_that_is_opened_then(monkeypatch: pytest.MonkeyPatch) -> None:
    require_core()
    with shmplane.Plane.temporary() as first:
        monkeypatch.setenv("SHMPLANE_PURE", "1")
        with shmplane.Plane.temporary() as second:
            assert (core_of(first) is None, core_of(second) is None) == (False, True)
            for plane in (first, second):
                plane["a"] = b"1"
                assert bytes(plane["a"]) == b"1"
            assert [first.stats().engine, second.stats().engine] == ["core", "python"]


def test_doctor_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    require_core()
    assert _core_check().found == "compiled"
    monkeypatch.setenv("SHMPLANE_PURE", "1")
    assert _core_check().found == "Python alone, which is slower: SHMPLANE_PURE is set"
    assert _core_check().status == "pass"


def _core_check() -> Check:
    (found,) = [check for check in check_host("/dev/shm") if check.name == "core"]
    return found


def test_a_python_without_a_gil_does_not_even_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_core()
    monkeypatch.setattr(sys, "abiflags", "t")
    assert core._look() == "this Python has no GIL, which the core needs"


def test_the_core_is_short_enough_to_be_read() -> None:
    assert len((FOLDER / "_core.c").read_text().splitlines()) <= 900
