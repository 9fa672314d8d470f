"""Where planes lie, and what killed processes left beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import shmplane
from shmplane import observe
from shmplane.plane import remove_orphans
from tests.support.processes import Child


def test_planes_are_listed_by_name(plane_root: Path) -> None:
    with shmplane.Plane("b") as b, shmplane.Plane("a") as a:
        assert observe.default_root() == a.root
        assert observe.plane_names(str(plane_root)) == ["a", "b"]
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


def test_a_plane_that_is_only_called_like_a_temporary_one_is_not_left_over(plane_root: Path) -> None:
    with shmplane.Plane("temporary-data") as plane:
        plane["x"] = 1
    assert observe.leftovers(str(plane_root)) == []
    with shmplane.Plane("other") as other:
        assert other.gc().planes == 0
        other.destroy()
    with shmplane.Plane("temporary-data", create=False) as plane:
        assert plane["x"] == 1
        plane.destroy()


def test_nothing_is_removed_from_a_directory_that_others_can_write(plane_root: Path) -> None:
    directory = Path(observe.directory_of(str(plane_root)))
    (directory / ".dead-0").mkdir(parents=True, mode=0o700)
    (directory / ".dead-0" / "file").touch()
    directory.chmod(0o777)
    with pytest.raises(shmplane.PlaneSecurityError):
        remove_orphans(str(plane_root))
    assert (directory / ".dead-0" / "file").exists()
    directory.chmod(0o700)
    assert remove_orphans(str(plane_root)) == 1


def test_a_link_for_other_programs_is_left_over_once_its_plane_is_gone(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane:
        plane["x"] = bytes(100_000)
        directory = Path(observe.directory_of(str(plane_root)))
        segment = next((directory / "p").glob("s[0-9]*"))
        link = plane_root / f"shmplane.{os.geteuid()}.p.1"
        os.link(segment, link)
        assert observe.leftovers(str(plane_root)) == []
        plane.destroy()
    (left,) = observe.leftovers(str(plane_root))
    assert (left.path, left.nbytes) == (str(link), link.stat().st_blocks * 512)
    (check,) = observe.check_planes(str(plane_root))
    assert (check.status, check.cure) == ("warn", "shmplane gc")
    remove_orphans(str(plane_root))
    assert not link.exists()


def test_a_file_in_a_plane_that_no_table_knows_is_found_and_the_others_are_not(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane:
        plane["x"] = bytes(100_000)
        assert [check.status for check in observe.check_planes(str(plane_root))] == ["pass"]
        stranger = Path(observe.directory_of(str(plane_root))) / "p" / "s12345"
        stranger.touch(0o600)
        (check,) = observe.check_planes(str(plane_root))
        assert check.status == "warn"
        assert check.cure == f"Nothing of the plane lies there: rm {stranger}"
        stranger.unlink()
        plane.destroy()
