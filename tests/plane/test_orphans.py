"""Planes in which nobody lives any more do not stand in the way: of a plane that is made, or of a full file system."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmplane
from shmplane import system
from shmplane.manifest import directory_of
from shmplane.plane import remove_orphans
from shmplane.plane.process import orphans
from tests.plane.test_failing_calls import ALL_ACTS, _arrange
from tests.plane.test_room import OPTIONS
from tests.support.processes import Child

SIZES = (100_000, 3_000, 300)


def entries(root: str | Path) -> list[str]:
    return sorted(os.listdir(directory_of(str(root))))


def fill(plane: shmplane.Plane) -> int:
    """Put until nothing goes in any more; how many blocks that were."""
    count = 0
    for size in SIZES:
        try:
            while True:
                plane[f"x{count}"] = bytes(size)
                count += 1
        except shmplane.PlaneFull:
            pass
    return count


def killed(make: Callable[[], Any]) -> None:
    """A process that does this, and is killed with it in its hands."""
    pid = os.fork()
    if pid == 0:
        try:
            kept = make()
            os.kill(os.getpid(), signal.SIGKILL)
            del kept
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def left_behind(root: str | Path, count: int = 1) -> None:
    """Temporary planes whose processes lived at the same time and were killed."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_live, str(root), method="fork")) for _ in range(count)]
        for child in children:
            child.next()
        for child in children:
            child.kill()


def _live(root: str) -> Iterator[str]:
    plane = shmplane.Plane.temporary(root=root)
    plane["x"] = b"alive" * 20_000
    kept = plane["x"]
    yield plane.name
    yield bytes(kept[:5]).decode()


# In passing


def test_making_a_plane_removes_the_temporary_planes_of_killed_processes(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_IN_PASSING_S", 60.0)  # usually it is a moment's worth
    left_behind(plane_root, 3)
    assert len(entries(plane_root)) == 3
    with shmplane.Plane("new") as plane:
        assert entries(plane_root) == ["new"]
        plane.destroy()


def test_so_does_making_a_temporary_one(plane_root: Path) -> None:
    left_behind(plane_root)
    with shmplane.Plane.temporary() as plane:
        assert entries(plane_root) == [plane.name]


def test_the_default_capacity_counts_what_has_become_free(plane_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def looking(root: str) -> int:
        seen.append([entry for entry in entries(root) if not entry.startswith(".new-")])
        return 1 << 24

    left_behind(plane_root)
    monkeypatch.setattr(system, "free_nbytes", looking)
    with shmplane.Plane.temporary():
        assert seen == [[]]


def test_what_stays_is_as_before(plane_root: Path) -> None:
    """Planes with names, temporary ones in use, what is being made or newborn, and what others have."""
    base = Path(directory_of(str(plane_root)))
    killed(lambda: shmplane.Plane("named").put("x", bytes(100_000)))
    killed(lambda: shmplane.Plane("temporary-by-name-only").put("x", b"1"))
    others = plane_root / "shmplane-54321" / "temporary-0123456789abcdef"
    others.mkdir(parents=True)
    (others / "tokens").touch()
    newborn = base / ".new-newborn"
    newborn.mkdir()
    with Child(_live, str(plane_root), method="fork") as child:
        in_use = child.next()
        with shmplane.Plane("new") as plane:
            assert entries(plane_root) == sorted([in_use, ".new-newborn", "named", "new", "temporary-by-name-only"])
            plane.destroy()
        assert child.next() == "alive"
        child.result()
    assert (others / "tokens").exists()
    for name in ("named", "temporary-by-name-only"):
        with shmplane.Plane(name, create=False) as plane:
            assert "x" in plane
            plane.destroy()
    newborn.rmdir()


def test_half_made_and_half_removed_planes_go_as_well(plane_root: Path) -> None:
    with shmplane.Plane("first") as plane:
        base = Path(directory_of(str(plane_root)))
        (base / ".dead-0123").mkdir()
        (base / ".dead-0123" / "s1").write_bytes(bytes(5_000))
        with shmplane.Plane("second") as second:
            assert entries(plane_root) == ["first", "second"]
            second.destroy()
        plane.destroy()


def test_joining_a_plane_looks_at_no_other(plane_root: Path) -> None:
    with shmplane.Plane("first") as plane:
        left_behind(plane_root)
        with Child(_join, plane, method="spawn") as child:
            child.result()
        assert len(entries(plane_root)) == 2
        plane.gc()
        assert entries(plane_root) == ["first"]
        plane.destroy()


def _join(plane: Any) -> list[str]:
    names: list[str] = plane.names()
    return names


def test_a_search_that_is_cut_short_comes_to_all_of_it_in_the_end(plane_root: Path) -> None:
    with shmplane.Plane.temporary() as living:
        left_behind(plane_root, 4)
        for _ in range(2_000):
            remove_orphans(str(plane_root), seconds=0)
            if entries(plane_root) == [living.name]:
                break
        assert entries(plane_root) == [living.name]


def test_an_entry_that_cannot_be_removed_stops_nothing(plane_root: Path) -> None:
    base = Path(directory_of(str(plane_root)))
    base.mkdir(mode=0o700)
    (base / "temporary-0000000000000000").write_text("no directory")
    left_behind(plane_root)
    with shmplane.Plane("new") as plane:
        assert entries(plane_root) == ["new", "temporary-0000000000000000"]
        plane.destroy()
    (base / "temporary-0000000000000000").unlink()


# A full file system

FULL = """
import sys
sys.path[:0] = {path!r}
from tests.plane import test_orphans
test_orphans.{function}({root!r})
"""


def in_mount(root: Path, options: str, function: str) -> None:
    """Run a function of this module on a file system of its own, which nobody else sees."""
    source = FULL.format(path=sys.path, root=str(root), function=function)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {options} tmpfs "$1" && exec "$2" -c "$3"', "sh",
         str(root), sys.executable, source],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def use_up_the_rest(root: str) -> list[str]:
    """The last pages, then the last inodes."""
    made: list[str] = []
    try:
        while True:
            made.append(f"{root}/ballast{len(made)}")
            with open(made[-1], "wb", buffering=0) as file:
                while file.write(bytes(4096)) == 4096:
                    pass
    except OSError:
        # It may be there, without a byte in it.
        return [path for path in made if os.path.exists(path)]


@pytest.mark.usefixtures("needs_root", "needs_mounts")
@pytest.mark.parametrize("options", ["size=6m", "size=64m,nr_inodes=60"], ids=["pages", "inodes"])
def test_killed_processes_that_left_it_full_keep_no_call_from_its_room(tmp_path: Path, options: str) -> None:
    in_mount(tmp_path, options, "call_everything_when_full")


def call_everything_when_full(root: str) -> None:
    """Every public call, in a plane that is open, when temporary planes of killed processes have taken the last page."""
    for name, act in ALL_ACTS.items():
        with shmplane.Plane("plane", root=root, **OPTIONS) as plane:
            _arrange(plane)
            killed(lambda: _filled(root))
            ballast = use_up_the_rest(root)
            act(plane)
            for path in ballast:
                os.unlink(path)
            plane.gc()
            assert entries(root) == ["plane"], name
            gc.collect()
            plane.destroy()


def _filled(root: str) -> shmplane.Plane:
    plane = shmplane.Plane.temporary(root=root, capacity="64MiB")
    fill(plane)
    return plane


@pytest.mark.usefixtures("needs_root", "needs_mounts")
def test_killed_processes_that_left_it_full_keep_no_successor_from_starting(tmp_path: Path) -> None:
    in_mount(tmp_path, "size=8m", "start_when_full")


def start_when_full(root: str) -> None:
    """What a restarted container does: open a plane and put, as before; joining, making and making a temporary one."""
    with shmplane.Plane("there", root=root, **OPTIONS) as there:
        there["small"] = b"s"
    for name in ("new", "there", None):
        killed(lambda: _filled(root))
        ballast = use_up_the_rest(root)
        options = {"root": root, "capacity": "4MiB"} if name != "there" else {"root": root}
        source = (
            f"import shmplane; plane = shmplane.Plane({name!r}, **{options!r})"
            if name
            else f"import shmplane; plane = shmplane.Plane.temporary(**{options!r})"
        )
        started = subprocess.run(
            [sys.executable, "-c", f"{source}; plane['large'] = bytes(3_000_000); print(len(plane['large']))"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert (started.stdout, started.stderr) == ("3000000\n", "")
        for path in ballast:
            os.unlink(path)
        if name:
            with shmplane.Plane(name, root=root, create=False) as plane:
                assert ("small" in plane) is (name == "there")
                plane.destroy()
        assert entries(root) == ([] if name != "new" else ["there"])


@pytest.mark.usefixtures("needs_root", "needs_mounts")
def test_a_file_system_that_named_planes_fill_is_full(tmp_path: Path) -> None:
    in_mount(tmp_path, "size=6m", "be_refused_when_named_planes_fill_it")


def be_refused_when_named_planes_fill_it(root: str) -> None:
    killed(lambda: fill(shmplane.Plane("named", root=root, capacity="64MiB")))
    ballast = use_up_the_rest(root)
    with pytest.raises(shmplane.PlaneFull):
        shmplane.Plane("new", root=root).put("x", bytes(100_000))
    for path in ballast:
        os.unlink(path)
    with shmplane.Plane("named", root=root, create=False) as named:
        assert len(named) > 40
        assert all(not any(value) for value in named.values())
