"""No room: in the capacity, in a table, on the file system, among the descriptors. A typed error, and nothing changes."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmplane
from shmplane.manifest import store
from shmplane.plane.drafts import ArrayDraft
from shmplane.plane.memory import segments
from shmplane.system import files, libc
from tests.support.audit import faults_of
from tests.support.forked import run_forked
from tests.support.inside import (
    directory_of,
    forget_mappings,
    forget_views,
    is_mapped_to_be_filled,
    recycled_nbytes,
)
from tests.support.processes import run_in_child

SMALL, LARGE = b"s" * 700, b"L" * 100_000
OPTIONS: dict[str, Any] = {"capacity": 8 << 20, "max_blocks": 128, "max_processes": 4}

Act = Callable[[shmplane.Plane], Any]


def _build(plane: shmplane.Plane) -> None:
    with plane.create("new", (100_000,), "u1") as builder:
        builder.array[:] = 1


def _fill_buffer(plane: shmplane.Plane) -> None:
    with plane.buffer(100_000) as buffer:
        buffer.publish("new")


def _lock(plane: shmplane.Plane) -> None:
    with plane.lock("a"):
        pass


ACTS: dict[str, Act] = {
    "put small": lambda plane: plane.put("new", SMALL),
    "put large": lambda plane: plane.put("new", LARGE),
    "replace": lambda plane: plane.put("large", LARGE[::-1]),
    "put anonymous": lambda plane: plane.put(None, LARGE, linger=0.0),
    "set": lambda plane: plane.__setitem__("new", LARGE),
    "build": _build,
    "buffer": _fill_buffer,
    "mutable": lambda plane: plane.mutable("new", (100_000,), "u1"),
    "get": lambda plane: bytes(plane["large"]),
    "get small": lambda plane: bytes(plane["small"]),
    "attach": lambda plane: plane.attach("large").close(),
    "delete": lambda plane: plane.delete("large"),
    "rename": lambda plane: plane.rename("large", "new"),
    "gc": lambda plane: plane.gc(),
    "trim": lambda plane: plane.trim(),
    "resize": lambda plane: plane.resize(4 << 20),
    "lock": _lock,
    "stats": lambda plane: plane.stats(),
}


def state_of(plane: shmplane.Plane) -> dict[str, bytes]:
    return {name: bytes(plane[name]) for name in plane}


def check(plane: shmplane.Plane, before: dict[str, bytes], *, failed: bool) -> None:
    """As before when it failed; whole in any case; and it still works."""
    gc.collect()
    plane.gc()
    found = state_of(plane)
    if failed:
        assert found == before
    plane.gc()
    plane.gc()
    assert not faults_of(plane)
    assert plane.stats().blocks == len(found)
    plane.put("probe", SMALL)
    assert bytes(plane["probe"]) == SMALL
    del plane["probe"]


# System calls that are interrupted


def test_an_interrupted_system_call_is_made_again(plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python makes its own again (PEP 475); those of ours that a signal can interrupt do the same."""
    import ctypes

    real, calls = libc._fallocate, []

    def interrupted(*args: Any) -> int:
        calls.append(args)
        if len(calls) % 2:
            ctypes.set_errno(errno.EINTR)
            return -1
        return int(real(*args))

    monkeypatch.setattr(libc, "_fallocate", interrupted)
    plane["x"] = SMALL

    assert len(calls) >= 2
    assert bytes(plane["x"]) == SMALL


# Limits of the plane


def test_a_full_plane_refuses_and_stays_as_it_is(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=str(plane_root), capacity=1 << 20) as plane:
        plane["a"] = bytes(1_000_000)
        before = state_of(plane)
        for act in ("put large", "build", "buffer", "put anonymous", "mutable"):
            for _ in range(2):
                with pytest.raises(shmplane.PlaneFull) as caught:
                    ACTS[act](plane)
                assert caught.value.retryable
        check(plane, before, failed=True)
        del plane["a"]
        plane["new"] = bytes(1_000_000)
        plane.destroy()


def test_more_blocks_than_rows_are_refused(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=str(plane_root), max_blocks=20, capacity=4 << 20) as plane:
        for index in range(20):
            plane[str(index)] = b"x"
        before = state_of(plane)
        for value in (b"y", LARGE):
            with pytest.raises(shmplane.PlaneFull, match="blocks"):
                plane["one too many"] = value
        assert state_of(plane) == before
        assert not faults_of(plane)
        del plane["3"]
        plane["one too many"] = b"now"
        plane.gc()
        assert not faults_of(plane)
        plane.destroy()


def test_names_can_be_used_up_and_come_back(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=str(plane_root), max_blocks=8, capacity=4 << 20) as plane:
        for index in range(600):
            plane[f"name/{index}"] = b"x"
            del plane[f"name/{index}"]
        plane.gc()
        assert not faults_of(plane)
        plane["name/0"] = b"y"
        assert bytes(plane["name/0"]) == b"y"
        plane.destroy()


def test_more_processes_than_slots_are_refused(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=str(plane_root), max_processes=1) as plane:
        plane["x"] = SMALL
        with pytest.raises(shmplane.PlaneFull, match="slots"):
            run_in_child(_open, str(plane_root))
        run_forked(lambda: None)  # needs no slot to succeed
        assert not faults_of(plane)
        plane.destroy()


def _open(root: str) -> None:
    shmplane.Plane("plane", root=root).close()


def test_descriptors_that_run_out_are_a_typed_error(plane: shmplane.Plane) -> None:
    run_in_child(_run_out_of_descriptors, plane.root, plane.name)
    assert bytes(plane["after"]) == LARGE
    plane.gc()
    assert not faults_of(plane)


def _run_out_of_descriptors(root: str, name: str) -> None:
    plane = shmplane.Plane(name, root=root)
    plane["large"], plane["small"] = LARGE, SMALL
    before = state_of(plane)
    forget_mappings(plane)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    for act in ("put large", "replace", "build", "buffer", "put anonymous", "mutable"):
        with pytest.raises(shmplane.PlaneFull, match="descriptors"):
            ACTS[act](plane)
    with pytest.raises(shmplane.PlaneFull, match="descriptors"):
        shmplane.Plane("another", root=root)
    for fd in taken:
        os.close(fd)
    check(plane, before, failed=True)
    plane["after"] = LARGE
    plane.close()


def test_address_space_that_runs_out_is_a_typed_error(plane: shmplane.Plane) -> None:
    run_in_child(_run_out_of_addresses, plane.root, plane.name)
    plane.gc()
    assert not faults_of(plane)


def _run_out_of_addresses(root: str, name: str) -> None:
    plane = shmplane.Plane(name, root=root)
    plane["large"] = bytes(64 << 20)
    before = {name: len(plane[name]) for name in plane}
    forget_views(plane)
    gc.collect()
    forget_mappings(plane)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), hard))
    for act in (lambda: plane["large"], lambda: plane.create("new", (64 << 20,), "u1"), lambda: plane.buffer(64 << 20)):
        with pytest.raises(shmplane.PlaneFull):
            act()
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    assert {name: len(plane[name]) for name in plane} == before
    plane.close()


# Tiny file systems

TINY = """
import sys
sys.path[:0] = {path!r}
from tests.plane import test_room
test_room.on_a_tiny_file_system({root!r}, {act!r}, {inodes!r})
"""


@pytest.mark.usefixtures("needs_root", "needs_mounts")
@pytest.mark.parametrize("options", ["nr_inodes", "size"])
def test_a_tiny_file_system_is_a_typed_error_for_every_call(tmp_path: Path, options: str) -> None:
    """In a mount namespace of its own, so that nobody else sees the mount, also when the test is killed."""
    if options == "size":
        mount = "size=1200k"
    else:
        mount = "size=64m,nr_inodes=11"
    source = TINY.format(path=sys.path, root=str(tmp_path), act=list(ACTS), inodes=options == "nr_inodes")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o {mount} tmpfs "$1" && exec "$2" -c "$3"', "sh",
         str(tmp_path), sys.executable, source],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def on_a_tiny_file_system(root: str, acts: list[str], inodes: bool) -> None:
    """For every call: fill the file system up to the last page or inode, call, look, give the room back."""
    options: dict[str, Any] = {"capacity": 64 << 20, "max_blocks": 64, "max_processes": 4}
    plane = shmplane.Plane("plane", root=root, **options)
    plane["large"], plane["small"] = LARGE, SMALL
    full = 0
    for act in acts:
        before = state_of(plane)
        for spare in range(0, 5 if inodes else 40, 1 if inodes else 3):
            plane.gc()
            plane.trim()
            ballast = _use_up(root, inodes=inodes, spare=spare)
            try:
                ACTS[act](plane)
                failed = False
            except shmplane.PlaneFull:
                failed = True
                full += 1
            gc.collect()
            plane.gc()
            found = {name: bytes(plane[name]) for name in plane}
            if failed:
                assert found == before, (act, spare)
            for path in ballast:
                os.unlink(path)
            check(plane, before, failed=failed)
            plane.resize(64 << 20)
            for name in set(plane) - set(before):
                del plane[name]
            for name, value in before.items():
                if name not in plane or bytes(plane[name]) != value:
                    plane[name] = value
    plane.destroy()
    opened = 0
    for spare in range(0, 8 if inodes else 300, 1 if inodes else 7):
        ballast = _use_up(root, inodes=inodes, spare=spare)
        try:
            with shmplane.Plane("plane", root=root, **options) as made:
                made.destroy()
            opened += 1
        except shmplane.PlaneFull:
            full += 1
        assert not os.listdir(f"{root}/shmplane-{os.geteuid()}") if os.path.exists(f"{root}/shmplane-0") else True
        for path in ballast:
            os.unlink(path)
    assert full > 10, full
    assert opened


def _use_up(root: str, *, inodes: bool, spare: int) -> list[str]:
    """Fill the file system, but for ``spare`` pages or inodes."""
    stats = os.statvfs(root)
    if not inodes:
        path = f"{root}/ballast"
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            pages = stats.f_bavail - spare
            if pages > 0:
                os.posix_fallocate(fd, 0, pages * stats.f_frsize)
        finally:
            os.close(fd)
        return [path]
    paths = []
    for index in range(max(0, stats.f_ffree - spare)):
        path = f"{root}/ballast{index}"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        paths.append(path)
    return paths


def test_arrays_of_any_size_are_refused_before_anything_is_touched(plane: shmplane.Plane) -> None:
    huge = np.broadcast_to(np.zeros((), "u1"), (1 << 50,))
    with pytest.raises(shmplane.PlaneFull):
        plane.create("huge", (1 << 50,), "u1")
    with pytest.raises(shmplane.PlaneFull):
        plane.put("huge", huge)
    plane.gc()
    assert not faults_of(plane)


def _backed(directory: Path) -> dict[int, bool]:
    """Which segments have memory behind their every page."""
    found = ((int(path.name[1:]), path.stat()) for path in directory.glob("s[0-9]*"))
    return {segment_id: status.st_blocks * 512 >= status.st_size for segment_id, status in found}


@pytest.mark.parametrize("fill", ["buffer", "builder", "put"])
def test_warm_memory_with_holes_gets_pages_before_it_is_written_through_a_mapping(
    plane_root: Path, fill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full file system a store to a page that is not there would be SIGBUS."""
    monkeypatch.setattr(segments, "_BACKED_AHEAD_NBYTES", 0)  # an edit has no more ready than its next page
    with shmplane.Plane("plane", root=str(plane_root), **OPTIONS) as plane:
        directory = directory_of(plane)
        plane["array"] = np.zeros(2 << 20, "u1")
        for pages in (1, 20):  # the second block of pages is made larger than what it is to hold
            with plane.edit("array") as draft:
                assert isinstance(draft, ArrayDraft)
                draft.array[: 4096 * pages] = pages
        del plane["array"], draft
        plane.gc()
        assert not all(_backed(directory).values())
        if fill == "buffer":
            with plane.buffer(100_000):
                assert all(_backed(directory).values())
        elif fill == "builder":
            with plane.create("new", (128_000,), "u1"):
                assert all(_backed(directory).values())
        else:
            plane["new"] = bytes(110_000)
            mapped = {segment_id for segment_id in _backed(directory) if is_mapped_to_be_filled(plane, segment_id)}
            assert mapped
            assert all(_backed(directory)[segment_id] for segment_id in mapped)
        plane.destroy()


def test_an_edit_needs_no_more_memory_than_the_pages_that_it_writes(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made ready for the next ones may be refused."""

    module: Any = segments
    allocate = module.allocate

    def refuse(fd: int, nbytes: int, *, offset: int = 0) -> None:
        if not offset:
            allocate(fd, nbytes)  # of a slab
            return
        asked.append(nbytes)
        raise OSError(errno.ENOSPC, "no room left")

    asked: list[int] = []
    monkeypatch.setattr(segments, "allocate", refuse)
    with shmplane.Plane("plane", root=str(plane_root), **OPTIONS) as plane:
        plane["array"] = np.zeros(2 << 20, "u1")
        for page in range(5):
            with plane.edit("array") as draft:
                assert isinstance(draft, ArrayDraft)
                draft.array[4096 * 3 * page] = 1
        assert np.flatnonzero(plane["array"]).tolist() == [4096 * 3 * page for page in range(5)]
        assert asked
        monkeypatch.undo()
        plane.destroy()


def test_tables_grow_into_the_memory_that_was_warm(plane_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shmplane.Plane("plane", root=str(plane_root), **OPTIONS) as plane:
        plane["large"] = LARGE
        del plane["large"]
        real = files.allocate

        def allocate(fd: int, nbytes: int, *, offset: int = 0) -> None:
            if recycled_nbytes(plane):
                raise OSError(errno.ENOSPC, "full")
            real(fd, nbytes, offset=offset)

        with monkeypatch.context() as patch:
            patch.setattr(store, "allocate", allocate)
            for index in range(100):  # more than were reserved at first
                plane[f"{index}"] = index
        plane.destroy()


@pytest.mark.parametrize("size", [2**63, 2**70])
def test_a_size_that_no_file_can_have_is_a_bad_argument(plane: shmplane.Plane, size: int) -> None:
    with pytest.raises(ValueError, match="at most"):
        plane.resize(size)
    with pytest.raises(ValueError, match="at most"):
        shmplane.Plane.temporary(capacity=size)
    with pytest.raises(ValueError, match="at most"):
        shmplane.Plane.temporary(recycle=size)
