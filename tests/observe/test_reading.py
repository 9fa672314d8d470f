"""Looking at a plane changes nothing in it, and works whatever state its processes are in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmplane
from shmplane import observe
from shmplane.manifest import TableCopier
from tests.observe import killed
from tests.support.inside import header_offset, manifest_of
from tests.support.requires import require_core, require_lock
from tests.support.stuck import lock_taken


def contents_of(directory: Path) -> dict[str, str]:
    """But for the lock word, which says how often it was taken by a new process."""
    found = {path.name: bytearray(path.read_bytes()) for path in directory.iterdir()}
    at = header_offset("lock_word")
    found["manifest"][at : at + 8] = bytes(8)
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def test_a_snapshot_says_what_the_plane_says(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane:
        plane["array"] = np.arange(30_000.0)
        plane["json"] = {"a": 1}
        view = plane["array"]
        snapshot, said = observe.snapshot_of("p"), plane.stats()
        summary = snapshot.summary
        assert {block.name: (block.kind, block.nbytes) for block in snapshot.blocks.values()} == {
            info.name: (info.kind, info.nbytes) for info in plane.blocks()
        }
        assert (summary.capacity, summary.used_nbytes, summary.free_nbytes) == (
            said.capacity,
            said.used_nbytes,
            said.free_nbytes,
        )
        assert (summary.blocks, summary.leases, len(summary.processes)) == (2, said.leases, 1)
        assert [len(block.holders) for block in snapshot.blocks.values() if block.name == "array"] == [1]
        del view
        plane.destroy()


def test_reading_stores_no_word_and_leaves_no_file(stale: str, plane_root: Path) -> None:
    directory = Path(observe.directory_of(str(plane_root)), stale)
    before = contents_of(directory)
    observe.summary_of(stale)
    observe.reclaimable(observe.snapshot_of(stale))
    list(observe.check_planes(str(plane_root)))
    with observe.reading(stale) as plane:
        observe.describe_block(plane, "kept")
    assert contents_of(directory) == before


def test_reading_a_root_without_planes_makes_nothing(plane_root: Path) -> None:
    assert observe.plane_names(str(plane_root)) == []
    assert observe.leftovers(str(plane_root)) == []
    with pytest.raises(shmplane.PlaneNotFound), observe.reading("nothing"):
        pass
    assert os.listdir(plane_root) == []


def test_a_killed_process_is_seen_with_all_it_holds(stale: str) -> None:
    snapshot = observe.snapshot_of(stale)
    (process,) = snapshot.summary.dead
    assert len(process.leases) == 2
    assert [block.state for block in snapshot.blocks.values() if block.owner == process.slot] == ["creating"]


def test_a_living_process_is_not_taken_for_dead(plane_root: Path) -> None:
    with killed.living_holder("p", plane_root):
        snapshot = observe.snapshot_of("p")
        assert snapshot.summary.dead == ()
        assert not observe.reclaimable(snapshot)
    killed.remove("p", plane_root)


@pytest.mark.parametrize("lock", ["word", "ofd"])
def test_a_plane_whose_lock_is_held_for_ever_is_still_readable(plane_root: Path, lock: Any) -> None:
    require_lock(lock)
    with shmplane.Plane("p", lock=lock) as plane:
        plane["x"] = 1
        with lock_taken(plane):
            summary = observe.summary_of("p")
            assert summary.approximate
            assert summary.names == 1
        assert not observe.summary_of("p").approximate
        plane.destroy()


@pytest.mark.parametrize("is_written", [False, True])
def test_a_plane_whose_lock_cannot_be_taken_here_is_read_without_it(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    require_core()
    with shmplane.Plane("p", lock="word") as plane:
        plane["x"] = 1
        monkeypatch.setenv("SHMPLANE_PURE", "1")
        before = bytes(manifest_of(plane).words)
        with monkeypatch.context() as patch:
            if is_written:  # each time that it is read
                patch.setattr(observe.open, "LOCK_PATIENCE_S", 0.05)
                copy = TableCopier.copy
                patch.setattr(TableCopier, "copy", lambda *args: (plane.put("x", 2), copy(*args))[1])
            summary = observe.summary_of("p")
        assert (summary.names, summary.approximate) == (1, is_written)
        assert (bytes(manifest_of(plane).words) == before) is not is_written
        plane.destroy()


def test_a_destroyed_plane_is_not_there(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane, observe.reading("p") as reading:
        plane.destroy()
        with pytest.raises(shmplane.PlaneNotFound):
            reading.summary()


def test_a_block_is_described_without_a_lease(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane:
        plane["m"] = np.zeros((300, 200), "f4")
        with observe.reading("p") as reading:
            snapshot, block, said = observe.describe_block(reading, "m")
            assert (str(said.dtype), said.shape, block.version) == ("float32", (300, 200), 1)
            assert snapshot.summary.leases == 0
            with pytest.raises(shmplane.BlockNotFound):
                observe.describe_block(reading, "other")
        plane.destroy()


def test_a_damaged_description_is_an_error_and_no_answer(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane:
        plane["m"] = np.zeros(100_000)
        with observe.reading("p") as reading:
            block = reading.snapshot().named("m")
            assert block is not None
            (segment,) = reading.snapshot().segments.values()
            with open(reading.segment_path(segment.id), "r+b") as file:
                file.seek(block.nbytes)
                file.write(b"\xff" * 8)
            with pytest.raises(shmplane.PlaneCorrupt, match="checksum"):
                observe.describe_block(reading, "m")
        plane.destroy()


@pytest.mark.parametrize("nbytes", [0, 100, 5000])
def test_a_manifest_that_was_cut_is_an_error(plane_root: Path, nbytes: int) -> None:
    plane = shmplane.Plane("p")
    manifest = Path(observe.directory_of(str(plane_root)), "p", "manifest")
    copy = manifest.parent.parent / "cut"
    copy.mkdir(mode=0o700)
    for name in ("tokens", "lock", "manifest"):
        (copy / name).touch(mode=0o600)
    (copy / "manifest").write_bytes(manifest.read_bytes()[:nbytes])
    plane.destroy()
    with pytest.raises(shmplane.PlaneCorrupt), observe.reading("cut"):
        pass
    (check,) = observe.check_planes(str(plane_root))
    assert (check.name, check.status) == ("plane cut", "fail")
    for path in copy.iterdir():
        path.unlink()
    copy.rmdir()
