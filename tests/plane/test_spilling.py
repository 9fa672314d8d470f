"""Planes that are larger than memory: what nobody leases moves to a directory on disk, and is read there as before."""

from __future__ import annotations

import errno
import gc
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane.observe import check_planes, describe_block, reading
from shmplane.system import libc
from tests.support.audit import faults_of
from tests.support.inside import (
    attachment_of,
    header_of,
    is_spilled,
    memory_of,
    spill,
    spill_all,
    spill_of,
    tables_of,
)
from tests.support.processes import run_in_child

KIB, MIB = 1 << 10, 1 << 20
CAPACITY = 2 * MIB
COUNT = 20  #: blocks of 256 KiB, two and a half times the capacity


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"


@pytest.fixture
def plane(plane_root: Path, disk: Path) -> Iterator[shmplane.Plane]:
    with shmplane.Plane("spilling", root=plane_root, capacity=CAPACITY, spill=disk) as opened:
        yield opened
        opened.gc()
        assert faults_of(opened) == []
        opened.destroy()
    assert [path for path in disk.rglob("*") if path.is_file()] == []


def numbers(seed: int, nbytes: int = 256 * KIB) -> Any:
    return np.full(nbytes // 4, seed, "i4")


def fill(plane: shmplane.Plane, count: int = COUNT, first: int = 0) -> None:
    for number in range(first, count):
        plane[f"n/{number}"] = numbers(number)


def check(plane: shmplane.Plane, count: int = COUNT) -> None:
    for number in range(count):
        assert (plane[f"n/{number}"] == number).all()


def reuse_memory(plane: shmplane.Plane) -> None:
    """Whatever is warm or free in memory is written over."""
    held = []
    for number in range(64):
        try:
            held.append(plane.put(None, numbers(-number - 1, 128 * KIB), linger=0))
        except shmplane.PlaneFull:
            break
        if plane.stats().free_nbytes < 256 * KIB:
            break
    for _ in range(4):
        plane["reused"] = numbers(-1, 64 * KIB + 4 * KIB)
    del held
    plane.gc()


# What is remembered of a place


def test_a_view_that_is_taken_again_is_that_of_the_new_place(plane: shmplane.Plane) -> None:
    plane["a"] = numbers(7)
    assert (plane["a"] == 7).all()  # remembered, and let go
    plane.gc()
    spill_all(plane)
    assert is_spilled(plane, "a")
    reuse_memory(plane)
    assert (plane["a"] == 7).all()
    assert (plane["a"] == 7).all()


def test_an_edited_array_whose_source_has_moved_shows_the_same(plane: shmplane.Plane) -> None:
    plane["a"] = numbers(7)
    with plane.edit("a") as draft:
        draft.array[5] = 8
    shown = plane["a"].copy()
    del draft
    gc.collect()
    plane.gc()
    spill_all(plane)
    assert is_spilled(plane, "a")
    reuse_memory(plane)
    assert (plane["a"] == shown).all()
    with plane.edit("a") as draft:  # the image of the first edit is taken over, or not
        draft.array[70] = 9
    shown[70] = 9
    assert (plane["a"] == shown).all()


def test_a_source_that_has_moved_alone_is_shown_from_where_it_is(plane: shmplane.Plane) -> None:
    """The base lies on disk when it is edited, and its pages in memory; then they move as well."""
    plane["a"] = numbers(7)
    plane.gc()
    spill_all(plane)
    expected = numbers(7)
    for step in range(6):
        with plane.edit("a") as draft:
            draft.array[step * 2000] = step
        expected[step * 2000] = step
        assert (plane["a"] == expected).all()
        del draft
        gc.collect()
        plane.gc()
        if step % 2:
            spill_all(plane)
        reuse_memory(plane)
        assert (plane["a"] == expected).all()


def test_the_room_of_pages_that_were_spilled_is_not_used(plane: shmplane.Plane) -> None:
    plane["a"] = numbers(7)
    for step in range(3):
        with plane.edit("a") as draft:
            draft.array[step] = step
        del draft
        gc.collect()
        plane.gc()
        spill_all(plane)
        files = {path: path.read_bytes() for path in spill_of(plane).glob("s*")}  # type: ignore[union-attr]
        with plane.edit("a") as draft:
            draft.array[100 + step] = step
        assert all(path.read_bytes() == data for path, data in files.items() if path.exists())
    assert plane["a"][[0, 1, 2, 3, 100, 101, 102]].tolist() == [0, 1, 2, 7, 0, 1, 2]


def test_a_table_that_was_appended_to_is_read_and_appended_to_on_disk(plane: shmplane.Plane) -> None:
    for step in range(6):
        plane.append("t", pa.table({"x": np.arange(step * 20_000, (step + 1) * 20_000)})).close()
        plane.gc()
        spill_all(plane)
        reuse_memory(plane)
        assert plane["t"]["x"].to_pylist() == list(range((step + 1) * 20_000))


def test_small_blocks_move_with_their_slab(plane: shmplane.Plane) -> None:
    for number in range(300):
        plane[f"s/{number}"] = b"%d" % number * 200
    kept = plane["s/0"]
    del plane["s/7"]
    spill_all(plane)
    assert not is_spilled(plane, "s/0")  # its slab is in use
    del kept
    plane.gc()
    spill_all(plane)
    assert is_spilled(plane, "s/8")
    assert faults_of(plane) == []
    for number in range(300):
        if number != 7:
            assert bytes(plane[f"s/{number}"]) == b"%d" % number * 200
    for number in range(300):  # others take their place in memory, and what is on disk goes
        plane[f"s/{number}"] = b"%d" % -number * 200
    plane.gc()
    assert bytes(plane["s/8"]) == b"-8" * 200
    assert faults_of(plane) == []
    assert plane.stats().spilled_nbytes == 0


def _remember_and_look(root: str, pipe: Any) -> None:
    with shmplane.Plane("spilling", root=root) as plane:
        shown = [bool((plane["a"] == 7).all()), bytes(plane["s"]) == b"s" * 500]
        plane.gc()
        pipe.send("seen")
        pipe.recv()
        pipe.send([*shown, bool((plane["a"] == 7).all()), bytes(plane["s"]) == b"s" * 500])


def test_another_process_finds_what_it_remembers_in_its_new_place(plane: shmplane.Plane, plane_root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    plane["a"], plane["s"] = numbers(7), b"s" * 500
    here, there = context.Pipe()
    other = context.Process(target=_remember_and_look, args=(str(plane_root), there))
    other.start()
    assert here.recv() == "seen"
    spill_all(plane)
    assert is_spilled(plane, "a")
    reuse_memory(plane)
    here.send("look")
    assert here.recv() == [True, True, True, True]
    other.join(60)


# A plane that is full


def test_a_plane_holds_more_than_its_capacity(plane: shmplane.Plane) -> None:
    fill(plane)
    stats = plane.stats()
    assert stats.used_nbytes + stats.recycled_nbytes + stats.free_nbytes == CAPACITY
    assert stats.spilled_nbytes + stats.used_nbytes >= COUNT * 256 * KIB
    check(plane)
    assert faults_of(plane) == []
    assert plane.health().status == "pass"  # it is full by intention


def test_what_was_used_last_stays_in_memory(plane: shmplane.Plane) -> None:
    fill(plane, 6)
    plane["n/0"]
    plane.gc()
    fill(plane, 0)
    for number in range(6, 10):
        plane[f"n/{number}"] = numbers(number)
    assert not is_spilled(plane, "n/0")
    assert is_spilled(plane, "n/1")
    places = {info.name: info.place for info in plane.blocks()}
    assert (places["n/0"], places["n/1"]) == ("memory", "spill")


def test_what_is_leased_stays_and_the_new_block_goes_to_the_disk(plane: shmplane.Plane) -> None:
    fill(plane, 7)
    held = [plane[f"n/{number}"] for number in range(7)]
    plane["new"] = numbers(100)
    plane["small"] = b"s" * 100
    assert is_spilled(plane, "new")
    assert not any(is_spilled(plane, f"n/{number}") for number in range(7))
    assert (plane["new"] == 100).all()
    assert bytes(plane["small"]) == b"s" * 100
    with plane.create("built", (100_000,), "i4") as builder:
        builder.array[:] = 3
    assert is_spilled(plane, "built")
    assert (plane["built"] == 3).all()
    del held


def test_what_is_asked_for_in_memory_is_copied_back_or_refused(plane_root: Path, disk: Path) -> None:
    """Other programs find segments in /dev/shm alone, and a mutable array is memory that all write to."""
    with shmplane.Plane("back", root=plane_root, capacity=CAPACITY, spill=disk) as plane:
        fill(plane, 7)
        held = [plane[f"n/{number}"] for number in range(7)]
        with pytest.raises(shmplane.PlaneFull):
            plane.mutable("m", (MIB // 4,), "f8")
        del held
        plane.gc()
        mutable = plane.mutable("m", (MIB // 8,), "f8")  # others make way
        mutable[:] = 4
        assert not is_spilled(plane, "m")
        check(plane, 7)
        del mutable
        plane.destroy()


def test_a_stream_goes_to_the_disk_when_everything_is_leased(plane: shmplane.Plane) -> None:
    fill(plane, 7)
    held = [plane[f"n/{number}"] for number in range(7)]
    batches = [pa.record_batch({"x": np.arange(number * 60_000, (number + 1) * 60_000)}) for number in range(5)]
    plane["t"] = pa.RecordBatchReader.from_batches(batches[0].schema, iter(batches))
    assert is_spilled(plane, "t")
    assert plane["t"]["x"].to_numpy().tolist() == list(range(300_000))
    del held


def test_a_block_larger_than_the_capacity_goes_to_the_disk_and_moves_nothing(plane: shmplane.Plane) -> None:
    fill(plane, 4)
    plane["large"] = numbers(9, 3 * MIB)
    assert is_spilled(plane, "large")
    assert header_of(plane).moves[0] == 0
    assert (plane["large"] == 9).all()
    with plane.edit("large") as draft:
        draft.array[10] = 1
    assert plane["large"][9:12].tolist() == [9, 1, 9]


def test_what_may_be_evicted_goes_before_anything_moves(plane: shmplane.Plane) -> None:
    for number in range(4):
        plane.put(f"cached/{number}", numbers(number), evictable=True).close()
    fill(plane, 7)
    assert header_of(plane).moves[0] == 0
    assert plane.stats().spilled_nbytes == 0
    fill(plane, 12)
    check(plane, 12)
    assert plane.names("cached/") == []


def test_what_is_mutable_or_exported_does_not_move(plane: shmplane.Plane) -> None:
    mutable = plane.mutable("m", (MIB // 8,), "f8")
    mutable[:] = 5
    del mutable
    plane.gc()
    fill(plane)
    assert not is_spilled(plane, "m")
    assert (plane["m"] == 5).all()
    check(plane)


def test_resize_moves_what_does_not_fit_any_more(plane: shmplane.Plane) -> None:
    fill(plane, 7)
    plane.resize(MIB)
    assert plane.stats().used_nbytes <= MIB
    check(plane, 7)


def test_a_get_does_not_bring_a_block_back_and_a_delete_removes_its_file(plane: shmplane.Plane) -> None:
    fill(plane)
    directory = spill_of(plane)
    assert directory is not None
    before = plane.stats().spilled_nbytes
    check(plane)
    plane.gc()
    assert plane.stats().spilled_nbytes == before
    held = plane["n/0"]
    plane.clear()
    plane.gc()
    assert (held == 0).all()
    assert [path.name for path in directory.glob("s*")] != []
    del held
    gc.collect()
    plane.gc()
    plane.gc()
    assert list(directory.glob("s*")) == []
    assert plane.stats().spilled_nbytes == 0


def test_a_view_of_a_spilled_block_outlives_the_plane(plane_root: Path, disk: Path) -> None:
    with shmplane.Plane("ending", root=plane_root, capacity=CAPACITY, spill=disk) as plane:
        fill(plane)
        assert is_spilled(plane, "n/0")
        view = plane["n/0"]
        plane.destroy()
    assert [path for path in disk.rglob("*") if path.is_file()] == []
    assert (view == 0).all()


# Options


def test_every_process_that_opens_the_plane_finds_where_it_spills_to(plane: shmplane.Plane, plane_root: Path) -> None:
    fill(plane)
    assert run_in_child(_fill_and_check, str(plane_root), deadline=100) == [True, True]


def _fill_and_check(root: str) -> list[bool]:
    with shmplane.Plane("spilling", root=root) as plane:
        check(plane)
        for number in range(COUNT):
            plane[f"more/{number}"] = numbers(number + 100)
        right = all((plane[f"more/{number}"] == number + 100).all() for number in range(COUNT))
        check(plane)
        return [plane.stats().spilled_nbytes > 0, right]


def test_another_spill_directory_than_the_planes_is_a_mismatch(
    plane: shmplane.Plane, plane_root: Path, disk: Path
) -> None:
    with pytest.raises(shmplane.PlaneMismatch, match="other") as caught:
        shmplane.Plane("spilling", root=plane_root, spill=disk.parent / "other")
    assert caught.value.facts["found"] == str(disk)
    shmplane.Plane("spilling", root=plane_root, spill=str(disk)).close()
    with shmplane.Plane("plain", root=plane_root) as plain:
        with pytest.raises(shmplane.PlaneMismatch, match="no spill directory"):
            shmplane.Plane("plain", root=plane_root, spill=disk)
        plain.destroy()


@pytest.mark.parametrize(
    ("wrong", "error"), [(b"x", TypeError), ("", ValueError), ("a\0b", ValueError), (7, TypeError)]
)
def test_what_is_no_path_is_refused(plane_root: Path, wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        shmplane.Plane("wrong", root=plane_root, spill=wrong)
    assert not any((plane_root / f"shmplane-{os.geteuid()}").glob("*"))


def test_a_file_is_no_spill_directory(plane_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="no directory"):
        shmplane.Plane("wrong", root=plane_root, spill=tmp_path / "file")


def test_a_file_system_that_cannot_reserve_room_is_refused_by_name(
    plane_root: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = libc.fallocate

    def refuse(fd: int, *args: Any, **options: Any) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(str(disk)):
            raise OSError(errno.EOPNOTSUPP, "not supported")
        real(fd, *args, **options)

    monkeypatch.setattr(libc, "fallocate", refuse)
    with pytest.raises(shmplane.UnsupportedPlatform, match="fallocate") as caught:
        shmplane.Plane("wrong", root=plane_root, spill=disk)
    assert caught.value.facts["file_system"] in str(caught.value)
    assert list((plane_root / f"shmplane-{os.geteuid()}").iterdir()) == []


# Bad luck


def test_a_disk_that_fills_in_the_middle_of_a_spill_leaves_all_that_was_there(
    plane: shmplane.Plane, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(plane, 7)
    real, left = libc.fallocate, [2]

    def fill_up(fd: int, *args: Any, **options: Any) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(str(disk)) and args[0] == 0:
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
        real(fd, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(libc, "fallocate", fill_up)
        with pytest.raises(shmplane.PlaneFull, match="spill directory") as caught:
            fill(plane, COUNT, first=7)
        assert caught.value.facts["spill"] == str(disk)
    assert 0 < plane.stats().spilled_nbytes <= 3 * 256 * KIB
    check(plane, len(plane.names("n/")))
    plane.gc()
    assert faults_of(plane) == []
    fill(plane)
    check(plane)


def test_a_spill_directory_that_vanished_is_said_and_made_again_for_what_comes(
    plane: shmplane.Plane, disk: Path
) -> None:
    fill(plane)
    assert is_spilled(plane, "n/0")
    memory_of(plane).drop()
    gone = spill_of(plane)
    assert gone is not None
    shutil.rmtree(gone)
    with pytest.raises(shmplane.PlaneCorrupt, match="somebody removed the file"):
        plane["n/0"]
    for name in plane.names():
        if is_spilled(plane, name):
            del plane[name]
    plane.gc()
    fill(plane)
    check(plane)
    plane.clear()
    plane.gc()
    shutil.rmtree(disk)
    fill(plane, 7)
    with pytest.raises(shmplane.PlaneFull, match="is gone"):
        fill(plane)
    check(plane, 7)
    disk.mkdir()
    fill(plane)
    check(plane)


def test_a_spill_directory_that_others_can_enter_is_not_used(plane: shmplane.Plane, disk: Path) -> None:
    fill(plane, 7)
    (disk / f"shmplane-{os.geteuid()}").mkdir(mode=0o777)
    (disk / f"shmplane-{os.geteuid()}").chmod(0o777)
    with pytest.raises(shmplane.PlaneSecurityError, match="lets others in"):
        fill(plane)
    plane.gc()
    assert faults_of(plane) == []
    check(plane, 7)


def test_a_spilled_file_that_was_cut_is_told_before_it_is_mapped(plane: shmplane.Plane) -> None:
    fill(plane)
    directory = spill_of(plane)
    assert directory is not None
    memory_of(plane).drop()
    spilled = [name for name in plane.names() if is_spilled(plane, name)]
    for path in directory.glob("s*"):
        os.truncate(path, 4096)
    for name in spilled:
        with pytest.raises(shmplane.PlaneCorrupt, match="somebody cut it"):
            plane[name]
        del plane[name]


def test_a_word_that_says_spilled_in_a_plane_without_a_directory_is_corruption(plane_root: Path) -> None:
    with shmplane.Plane("plain", root=plane_root, capacity=CAPACITY) as plane:
        plane["a"] = numbers(1)
        tx = tables_of(plane)
        row = tx.current(b"a")[1]
        tx.segments.place[tx.blocks.segment[row] - 1] = 1
        with pytest.raises(shmplane.PlaneCorrupt, match="has no spill directory"):
            plane["a"]
        plane.destroy()


# What is told


def test_who_looks_at_a_plane_sees_what_was_spilled(plane: shmplane.Plane, plane_root: Path, disk: Path) -> None:
    plane["edited"] = numbers(7)
    with plane.edit("edited") as draft:
        draft.array[0] = 1
    del draft
    gc.collect()
    plane.gc()
    spill_all(plane)
    layout = plane.layout()
    assert layout.spilled_nbytes == plane.stats().spilled_nbytes > 256 * KIB
    assert "spilled to disk" in layout.text()
    assert "edited version 1" in layout.text()
    assert "on disk" in layout.html()
    shown = next(block for block in layout.blocks if block.version == 2)
    assert {share.amount for share in shown.shares} == {1, 63}  # read from the files
    assert "spill" in layout.to_arrow()["place"].to_pylist()
    with reading("spilling", str(plane_root)) as outside:
        snapshot, block, described = describe_block(outside, "edited")
        assert (described.shape, block.place) == ((64 * KIB,), "spill")
        assert snapshot.summary.spilled_nbytes == layout.spilled_nbytes
    checks = {check.name: check for check in check_planes(str(plane_root))}
    assert str(disk) in checks["spill spilling"].found
    assert checks["spill spilling"].status in {"pass", "warn"}  # the disk of whoever runs this
    away = disk.rename(disk.with_name("away"))
    assert {check.name: check for check in check_planes(str(plane_root))}["spill spilling"].status == "fail"
    away.rename(disk)


# What is left behind


def _spill_and_be_killed(root: str, disk: str) -> None:
    from tests.support.tracing import kill_this_process

    plane = shmplane.Plane.temporary(root=root, capacity=CAPACITY, spill=disk)
    fill(plane)
    kill_this_process()


def test_what_a_killed_temporary_plane_spilled_goes_with_it(plane_root: Path, disk: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_spill_and_be_killed, args=(str(plane_root), str(disk)))
    child.start()
    child.join(60)
    assert list(disk.rglob("s[0-9]*"))
    with shmplane.Plane("next", root=plane_root) as plane:
        plane.gc()
        plane.destroy()
    assert not list(disk.rglob("s[0-9]*"))


def _leave(like: Path, name: str, **changed: Any) -> Path:
    """A directory as a plane that is gone has left it."""
    left: Path = like.parent / name
    left.mkdir(mode=0o700)
    path = left / "owner"
    said = {**json.loads((like / "owner").read_bytes()), **changed}
    path.write_text(json.dumps(said))
    path.chmod(0o600)
    (left / "s1").write_bytes(b"")
    return left


def test_gc_removes_what_another_boot_left_and_never_what_another_container_has(plane: shmplane.Plane) -> None:
    fill(plane)
    ours = spill_of(plane)
    assert ours is not None
    other_boot = _leave(ours, "left.1", boot="another", plane="left", instance=1)
    other_root = _leave(ours, "left.2", device=0, plane="left", instance=2)
    gone = _leave(ours, "left.3", plane="left", instance=3)
    anew = _leave(ours, "left.4", instance=4)
    written_over = _leave(ours, "left.5", instance=5)
    (written_over / "owner").write_bytes(b"{")
    plane.gc()
    assert [path.exists() for path in (other_boot, other_root, gone, anew, written_over)] == [
        False,
        True,
        False,
        False,
        True,
    ]
    check(plane)
    shutil.rmtree(other_root)
    shutil.rmtree(written_over)


def test_a_second_thread_waits_for_the_one_that_moves(plane: shmplane.Plane) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def put(first: int) -> None:
        for number in range(first, COUNT * 2, 4):
            plane[f"n/{number}"] = numbers(number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(put, range(4)))
    check(plane, COUNT * 2)
    assert header_of(plane).spiller[0] == 0


def test_a_run_that_nobody_stands_for_ends(plane: shmplane.Plane) -> None:
    """As after an exception between the word and its object."""
    spill_all(plane)
    tables_of(plane).header.spiller[0] = attachment_of(plane).slot + 1
    attachment_of(plane).suspect = True
    fill(plane)
    check(plane)
    plane.gc()
    assert spill(plane)
