"""Where planes lie, and what beside them nobody needs any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import shmplane
from shmplane.manifest import TEMPORARY_PREFIX, default_root, directory_of, link_prefix, plane_names, why_left_over
from tests.support.processes import Child


@pytest.fixture
def directory(plane_root: Path) -> Path:
    """Where planes of the root lie."""
    made = Path(directory_of(str(plane_root)))
    made.mkdir()
    return made


def test_the_environment_says_where_the_default_root_is(plane_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_root() == str(plane_root)
    monkeypatch.delenv("SHMPLANE_ROOT")
    assert default_root() == "/dev/shm"


def test_each_user_has_a_directory_and_links_of_his_own() -> None:
    assert directory_of("/dev/shm") == f"/dev/shm/shmplane-{os.geteuid()}"
    assert link_prefix("/dev/shm", "market") == f"/dev/shm/shmplane.{os.geteuid()}.market."


def test_names_are_those_of_planes_that_are_complete(directory: Path, plane_root: Path) -> None:
    for entry in ("b", "a", ".new-1", ".dead-1"):
        (directory / entry).mkdir()
    assert plane_names(str(plane_root)) == ["a", "b"]


def test_a_root_without_planes_has_no_names(plane_root: Path) -> None:
    assert plane_names(str(plane_root)) == []


def test_what_is_half_removed_is_left_over(directory: Path) -> None:
    (directory / ".dead-1").mkdir()
    assert why_left_over(str(directory / ".dead-1")) == "half removed"


def test_what_is_being_made_now_is_not(directory: Path) -> None:
    (directory / ".new-1").mkdir()
    assert why_left_over(str(directory / ".new-1")) is None


def test_what_an_entry_without_a_token_is_depends_on_its_age(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / ".new-1").mkdir()
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert why_left_over(str(directory / ".new-1")) == "half made"


def test_a_plane_that_stays_is_needed_whatever_it_is_called(plane_root: Path) -> None:
    name = f"{TEMPORARY_PREFIX}but-not-really"
    with shmplane.Plane(name) as plane:
        path = f"{directory_of(plane.root)}/{name}"
        plane.close()
        assert why_left_over(path) is None
        shmplane.Plane(name).destroy()


def _make_a_temporary_plane() -> object:
    plane = shmplane.Plane.temporary()
    yield plane.name
    yield "never asked for"


def test_a_temporary_plane_is_left_over_once_its_process_is_gone(plane_root: Path) -> None:
    with Child(_make_a_temporary_plane) as child:
        path = f"{directory_of(str(plane_root))}/{child.next()}"
        assert why_left_over(path) is None
        child.kill()
    assert why_left_over(path) == "temporary plane of ended processes"
