"""Where planes lie is said twice, for the sake of start-up time; the two must say the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import shmplane
from shmplane import observe
from shmplane import plane as planes
from tests.support.processes import Child


def test_places_agree_with_those_of_the_plane(plane_root: Path) -> None:
    with shmplane.Plane("b") as b, shmplane.Plane("a") as a:
        root = str(plane_root)
        assert observe.default_root() == a.root
        assert observe.directory_of(root) == planes.directory_of(root)
        assert observe.plane_names(root) == planes.plane_names(root) == ["a", "b"]
        a.destroy()
        b.destroy()


def live_in_a_temporary_plane(root: str):
    plane = shmplane.Plane.temporary(root=root)
    yield plane.name


def test_a_temporary_plane_is_left_over_once_its_last_process_is_killed(plane_root: Path) -> None:
    root = str(plane_root)
    with Child(live_in_a_temporary_plane, root) as child:
        name = child.next()
        assert observe.leftovers(root) == []
        child.kill()
    (left,) = observe.leftovers(root)
    assert left.path.endswith(name)
    assert left.nbytes > 0
    with shmplane.Plane.temporary() as plane:
        plane.gc()
    assert observe.leftovers(root) == []


@pytest.mark.parametrize(("entry", "is_left"), [(".dead-0", True), (".new-0", False)])
def test_half_removed_directories_are_left_over_and_newborn_ones_are_not(
    plane_root: Path, entry: str, is_left: bool
) -> None:
    directory = Path(observe.directory_of(str(plane_root)))
    (directory / entry).mkdir(parents=True, mode=0o700)
    assert bool(observe.leftovers(str(plane_root))) == is_left
    os.rmdir(directory / entry)
