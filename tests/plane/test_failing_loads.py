"""``load`` and ``save`` when system calls fail, or the file shrinks meanwhile: a typed error, and what was there before.

``pytest -m sweep`` has more error numbers.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from tests.plane.test_failing_calls import Failing
from tests.support.inside import creations_of
from tests.support.processes import run_in_child

CALLS = ["open", "preadv", "pwrite", "ftruncate", "fsync", "fstat", "fchmod", "stat", "link", "replace", "readlink"]
MOST_CALLS = 200
ROWS = 60_000
TABLE = pa.table({"n": np.arange(ROWS), "s": ["text"] * ROWS})
TREE = {"a": np.arange(ROWS), "b": np.arange(5)}
VALUES: dict[str, Any] = {
    "npy": TREE["a"], "bin": TREE["a"], "npz": TREE, "safetensors": TREE, "parquet": TABLE, "arrow": TABLE, "csv": TABLE
}  # fmt: skip


NUMBERS = [
    errno.EIO,
    *(pytest.param(number, marks=pytest.mark.sweep) for number in (errno.ENOSPC, errno.EMFILE, errno.EACCES)),
]


def fill(plane: shmplane.Plane, directory: Path, suffix: str) -> Path:
    path = directory / f"a.{suffix}"
    plane["x"] = VALUES[suffix]
    plane.save("x", path)
    return path


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("suffix", VALUES)
def test_whichever_system_call_fails_it_is_a_typed_error_and_all_is_as_before(
    plane: shmplane.Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, number: int
) -> None:
    path = fill(plane, tmp_path, suffix)
    whole = path.read_bytes()
    failing = Failing(number)
    for name in CALLS:
        if number != errno.EMFILE or name == "open":
            monkeypatch.setattr(os, name, failing._wrap(name, getattr(os, name)))
    descriptors = len(os.listdir("/proc/self/fd"))
    for act in ("load", "save"):
        for at in range(1, MOST_CALLS):
            try:
                with failing.once(at):
                    plane.load("y", path).close() if act == "load" else plane.save("x", path)
            except shmplane.ShmplaneError as error:
                assert os.strerror(number) in str(error)  # noqa: PT017
                assert act == "save" or "y" not in plane
            assert path.read_bytes() == whole
            plane.pop("y", None)
            if failing.count < at:
                break
        assert 1 < at < MOST_CALLS - 1
        # What cannot be removed, since that failed as well, is not tried here.
        assert os.listdir(tmp_path) == [path.name]
        assert not creations_of(plane)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2


def _limit_that_leaves(more: int) -> int:
    used = {int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
    return [number for number in range(len(used) + more + 1) if number not in used][more]


def _without_descriptors(root: str, directory: str) -> None:
    with shmplane.Plane("plane", root=root, capacity="64MiB") as plane:
        paths = {suffix: fill(plane, Path(directory), suffix) for suffix in VALUES}
        for path in paths.values():
            plane.load("y", path).close()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for more in range(6):
            for suffix, path in paths.items():
                plane["x"] = VALUES[suffix]
                for act in ("load", "save"):
                    resource.setrlimit(resource.RLIMIT_NOFILE, (_limit_that_leaves(more), hard))
                    try:
                        plane.load("y", path).close() if act == "load" else plane.save("x", path)
                    except shmplane.PlaneFull as full:
                        assert "descriptors" in str(full) or "files" in str(full), full  # noqa: PT017
                    finally:
                        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            assert sorted(os.listdir(directory)) == sorted(path.name for path in paths.values())
        assert not creations_of(plane)
        plane.destroy()


def test_without_descriptors_it_is_full_and_says_so(plane_root: Path, tmp_path: Path) -> None:
    """Also where it is Arrow, or Python's reader of zip files, that opens the file."""
    run_in_child(_without_descriptors, str(plane_root), str(tmp_path))


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("suffix", VALUES)
def test_a_file_that_shrinks_while_it_is_read_is_refused(
    plane: shmplane.Plane, tmp_path: Path, suffix: str, warm: bool
) -> None:
    table = pa.table({"n": np.random.default_rng(1).random(600_000)})
    tree = {"a": np.arange(600_000), "b": np.arange(600_000)}
    plane["x"] = tree if suffix in {"npz", "safetensors"} else tree["a"] if suffix in {"npy", "bin"} else table
    path = tmp_path / f"a.{suffix}"
    plane.save("x", path)
    if warm:
        for _ in range(3):
            plane.load("y", path).close()
    plane.pop("y", None)
    size = path.stat().st_size

    def shrink(done: int, total: int) -> None:
        os.truncate(path, min(size // 2, path.stat().st_size))

    try:
        plane.load("y", path, progress=shrink).close()
    except (shmplane.FileTruncated, ValueError) as error:
        assert path.name in str(error)  # noqa: PT017
        assert "y" not in plane
    else:
        # All of it had been read when it was first heard of.
        assert suffix in {"npy", "bin"}
    assert not creations_of(plane)
