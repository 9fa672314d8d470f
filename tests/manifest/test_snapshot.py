"""What is looked at is a private copy: it stays as it was, and is read while nobody waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import shmplane
from shmplane.manifest import Manifest, TableCopier, read_snapshot, snapshot
from shmplane.plane import inventory
from tests.support.inside import manifest_of, mutex_is_taken


@pytest.fixture
def plane(plane_root: Path):
    with shmplane.Plane.temporary(root=plane_root, max_blocks=256, max_processes=4) as plane:
        yield plane


def test_a_copy_stays_as_the_tables_were(plane: shmplane.Plane) -> None:
    plane["first"] = b"1" * 100
    copied = TableCopier(manifest_of(plane), with_blocks=True).copy()
    plane["first"] = b"2" * 50
    plane["second"] = b"3"
    found = read_snapshot(plane.name, plane.root, copied)
    assert [(block.name, block.version, block.nbytes) for block in found.blocks.values()] == [("first", 1, 100)]
    assert found.summary.names == found.summary.blocks == 1


def test_tables_that_grew_before_the_lock_was_had_are_copied_whole(plane: shmplane.Plane) -> None:
    copier = TableCopier(manifest_of(plane), with_blocks=True)
    for number in range(200):
        plane[f"{number}"] = b"x"
    found = read_snapshot(plane.name, plane.root, copier.copy())
    assert {block.name for block in found.blocks.values()} == {f"{number}" for number in range(200)}


def test_an_empty_manifest_is_copied_and_read(manifest: Manifest) -> None:
    found = read_snapshot("p", "/", TableCopier(manifest, with_blocks=True).copy())
    assert (found.blocks, found.segments, found.summary.semaphores) == ({}, {}, ())
    assert [process.slot for process in found.summary.processes] == [0]


def test_rows_of_blocks_are_copied_for_those_who_want_them_or_when_somebody_has_ended(plane: shmplane.Plane) -> None:
    plane["first"] = 1
    copier = TableCopier(manifest_of(plane), with_blocks=False)
    assert copier.copy().blocks.rows == copier.copy().names.rows == 0
    assert copier.copy(lambda _: False).blocks.rows > 0


def test_what_was_copied_is_read_without_the_lock(plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane["first"] = 1
    taken: list[bool] = []

    def noting(real: Any) -> Any:
        def read(*args: Any) -> Any:
            taken.append(mutex_is_taken(plane))
            return real(*args)

        return read

    with monkeypatch.context() as patch:
        for name in ("read_snapshot", "read_summary"):
            read = noting(getattr(snapshot, name))
            patch.setattr(snapshot, name, read)
            patch.setattr(inventory, name, read)
        plane.blocks()
        with plane.lock("held"):  # or the totals of so small a plane would be read where they are
            plane.stats()
    assert taken == [False, False, False]


def test_totals_of_a_small_plane_are_the_same_without_a_copy(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane["small"] = 1
    plane["large"] = bytes(200_000)
    views = [plane["large"], plane.attach("small"), plane.put(None, b"anonymous")]
    plane["gone"] = bytes(300_000)
    del plane["gone"]
    quick = plane.stats()
    monkeypatch.setattr(inventory, "_FEW_BLOCKS", 0)
    assert plane.stats() == quick
    assert quick.leases == len(views)


def test_impossible_words_are_an_error_that_says_so() -> None:
    with pytest.raises(shmplane.PlaneCorrupt, match=r"impossible values.*rm p --plane"):
        snapshot.checked("p", int, "seven")
