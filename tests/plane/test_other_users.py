"""Other users, and a process that becomes another user: nothing of theirs is taken for ours, and the error says who is who."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.forked import run_forked

NOBODY = 65_534
LARGE = bytes(range(256)) * 500

SQUATTED = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from tests.plane import test_other_users
test_other_users.with_names_taken_by_another_user()
"""


def _as_nobody(act: Callable[[], object]) -> None:
    def change_user_and_act() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        act()

    run_forked(change_user_and_act)


@pytest.mark.usefixtures("needs_root", "needs_mounts")
def test_a_file_that_another_user_put_in_place_of_a_segment_is_never_handed_out() -> None:
    """In a mount namespace of its own, whose /dev/shm is empty."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$1" -c "$2"', "sh",
         sys.executable, SQUATTED],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def with_names_taken_by_another_user() -> None:
    with shmplane.Plane("squat", capacity="32MiB", root="/dev/shm") as plane:
        seen = plane.put("first", LARGE)
        base, number = seen.shm_name.rsplit(".", 1)
        taken = [f"/dev/shm/{base}.{int(number) + step}" for step in range(1, 20)]

        def take() -> None:
            for path in taken:
                Path(path).write_bytes(b"EVIL" * 50_000)
                Path(path).chmod(0o666)

        _as_nobody(take)
        block = plane.put("prices", LARGE)
        for use in (lambda: block.shm_name, lambda: block.shm_offset, block.shared_memory):
            with pytest.raises(shmplane.PlaneSecurityError, match="of user 65534") as caught:
                use()
        assert caught.value.path in taken
        assert caught.value.uid == NOBODY
        assert block.value() == LARGE
        # Another kind of file there is no better, and neither is one that comes later.
        os.unlink(taken[0])
        os.symlink(taken[1], taken[0])
        with pytest.raises(shmplane.PlaneSecurityError):
            _ = block.shm_name
        os.unlink(taken[0])
        assert block.shm_name == os.path.basename(taken[0])
        os.unlink(taken[0])
        Path(taken[0]).write_bytes(b"EVIL" * 50_000)
        with pytest.raises(shmplane.PlaneSecurityError):
            block.shared_memory()
        plane.delete("prices")
        block.close()
        plane.gc()
        plane.trim()
        plane.destroy()
    left = [str(path) for path in Path("/dev/shm").iterdir() if path.name.startswith("shmplane.")]
    assert sorted(left) == sorted(taken[1:])  # the other user's; ours went


STEPS: dict[str, Callable[[shmplane.Plane], Any]] = {
    "get": lambda plane: plane["large"],
    "put": lambda plane: plane.put("new", LARGE),
    "create": lambda plane: plane.create("new", (100_000,), "u1"),
    "buffer": lambda plane: plane.buffer(100_000),
    "append": lambda plane: plane.append("new", {"a": list(range(20_000))}),
    "edit": lambda plane: plane.edit("large array").array,
    "trim": lambda plane: plane.trim(),
    "delete": lambda plane: plane.delete("small"),
    "gc": lambda plane: plane.gc(),
}


@pytest.fixture
def open_to_all(plane_root: Path) -> Path:
    """A root in which every user can have planes."""
    plane_root.parent.chmod(0o711)
    plane_root.chmod(0o777)
    return plane_root


@pytest.mark.usefixtures("needs_root")
def test_a_worker_that_changed_its_user_is_told_so_and_goes_on_with_what_it_can(open_to_all: Path) -> None:
    """As gunicorn and celery do it: opened by root before the fork, used by another user."""
    with shmplane.Plane("plane", root=str(open_to_all), capacity="8MiB") as plane:
        plane["large"], plane["small"], plane["large array"] = LARGE, b"small", np.arange(20_000)
        plane["warm"] = bytes(200_000)
        del plane["warm"]
        held = [plane["large array"]]

        def use() -> None:
            refused = {}
            for what, step in STEPS.items():
                try:
                    step(plane)
                except shmplane.PlaneSecurityError as error:
                    refused[what] = error
                assert plane.stats().processes == 2  # what failed takes nothing with it
                assert held[0].sum() == 199_990_000
                with plane.lock("goes on"):
                    pass
            for what in ("get", "put", "create", "buffer"):
                assert "opened as user 0, now this process is user 65534" in str(refused[what])
                assert (refused[what].opened_as, refused[what].user) == (0, NOBODY)
            assert not refused.keys() & {"trim", "delete", "gc"}

        _as_nobody(use)
        assert bytes(plane["large"]) == LARGE
        assert plane.names() == ["large", "large array"]
        plane.gc()
        plane.gc()
        assert not faults_of(plane)
        held.clear()
        plane.destroy()


@pytest.mark.usefixtures("needs_root")
def test_a_plane_opened_after_the_change_of_user_is_that_users_own(open_to_all: Path) -> None:
    with shmplane.Plane("plane", root=str(open_to_all), capacity="8MiB") as plane:
        plane["large"] = LARGE

        def open_another() -> None:
            with shmplane.Plane("plane", root=str(open_to_all), capacity="8MiB") as own:
                assert not own.names()
                own["large"] = LARGE[::-1]
                assert bytes(own["large"]) == LARGE[::-1]
                own.destroy()

        _as_nobody(open_another)
        assert bytes(plane["large"]) == LARGE
        plane.destroy()


@pytest.mark.usefixtures("needs_root")
def test_a_plane_ended_by_a_worker_that_changed_its_user_goes_when_it_is_opened_again(open_to_all: Path) -> None:
    with shmplane.Plane("plane", root=str(open_to_all), capacity="8MiB") as plane:
        plane["large"] = LARGE

        def end() -> None:
            with pytest.raises(shmplane.PlaneSecurityError, match="which has ended: the plane was opened as user 0"):
                plane.destroy()
            plane.destroy()

        _as_nobody(end)
        with pytest.raises(shmplane.ClosedError):
            plane.names()
    with shmplane.Plane("plane", root=str(open_to_all)) as again:
        assert not again.names()
        again.destroy()
    assert not list(open_to_all.glob("shmplane-0/*"))
