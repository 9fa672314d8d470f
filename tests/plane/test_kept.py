"""Blocks that are kept for a process: they wait for it without a name or a lease, and go when it takes them or ends."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shmplane
from shmplane import PlaneFull, StaleHandle
from shmplane.codecs import encode
from shmplane.plane.blocks.kept import drop_kept, put_kept, take_kept
from tests.support.audit import faults_of
from tests.support.forked import run_forked
from tests.support.inside import attachment_of, header_of, kept_rows, slot_of, suspect_everything
from tests.support.processes import Child

VALUES = [b"small" * 100, b"L" * 100_000]


def _put(plane: shmplane.Plane, value: bytes, slot: int) -> tuple[int, int]:
    """In a process that ends at once; row and generation."""
    run_forked(lambda: put_kept(attachment_of(plane), encode(value), slot))
    plane.gc()
    return kept_rows(plane, slot)[-1]


@pytest.mark.parametrize("value", VALUES, ids=["small", "large"])
def test_a_kept_block_outlives_its_maker_until_it_is_taken(plane: shmplane.Plane, value: bytes) -> None:
    row, generation = _put(plane, value, slot_of(plane))
    suspect_everything(plane)
    plane.gc()
    lease = take_kept(attachment_of(plane), row, generation)
    assert bytes(lease.root()) == value
    assert not kept_rows(plane, slot_of(plane))
    del lease
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == 0
    assert not faults_of(plane)


def test_a_kept_block_that_is_not_wanted_goes(plane: shmplane.Plane) -> None:
    row, generation = _put(plane, VALUES[1], slot_of(plane))
    for _ in range(2):
        drop_kept(attachment_of(plane), row, generation)
    assert plane.stats().blocks == 0
    with pytest.raises(StaleHandle):
        take_kept(attachment_of(plane), row, generation)
    assert not faults_of(plane)


def _wait(name: str, root: str) -> Iterator[int]:
    with shmplane.Plane(name, root=root) as plane:
        yield slot_of(plane)
        yield 0


@pytest.mark.parametrize("how", ["killed", "closed"])
@pytest.mark.parametrize("built_again", [False, True])
def test_what_was_kept_for_a_process_goes_when_it_has_ended(plane_root: Path, how: str, built_again: bool) -> None:
    with shmplane.Plane("plane", root=plane_root) as plane:
        with Child(_wait, plane.name, plane.root) as child:
            slot = child.next()
            lease: Any = put_kept(attachment_of(plane), encode(VALUES[1]), slot)
            del lease
            gc.collect()
            plane.gc()
            assert plane.stats().blocks == 1
            if how == "killed":
                child.kill()
            else:
                child.result()
        if built_again:
            suspect_everything(plane)
        plane.gc()
        assert plane.stats().blocks == 0
        assert header_of(plane).kept[0] == 0
        assert not faults_of(plane)
        plane.destroy()


def test_what_is_kept_for_a_slot_that_nobody_has_goes_with_the_lease(plane: shmplane.Plane) -> None:
    lease: Any = put_kept(attachment_of(plane), encode(VALUES[0]), slot_of(plane) + 1)
    assert bytes(lease.root()) == VALUES[0]
    del lease
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == 0


def test_what_is_kept_is_not_evicted(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=plane_root, capacity="256KiB", recycle=0) as plane:
        _put(plane, VALUES[1], slot_of(plane))
        with pytest.raises(PlaneFull):
            plane["new"] = bytes(200_000)
        assert len(kept_rows(plane, slot_of(plane))) == 1
        assert not faults_of(plane)
        plane.destroy()
