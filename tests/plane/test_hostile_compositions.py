"""What a composed block claims is checked before anything is mapped or read: PlaneCorrupt or the right bytes."""

from __future__ import annotations

import gc
import random
import struct
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane.codecs import Part, open_table
from shmplane.codecs.envelope import seal
from shmplane.errors import PlaneCorrupt
from shmplane.system import PAGE_NBYTES
from tests.codecs.harness import LeasedMemory, store
from tests.codecs.test_hostile_frames import mutate
from tests.plane.versions import edit
from tests.support.inside import forget_mappings, look, memory_of, row_of, tables_of

PAGES = 64


@pytest.fixture
def edited(plane: shmplane.Plane) -> Any:
    """A plane with an array of three sources, and the place of its extents in the slab."""
    plane["x"] = np.zeros(PAGES * PAGE_NBYTES, "u1")
    for page in (3, 20):
        with edit(plane, "x") as draft:
            draft.array[page * PAGE_NBYTES] = page
    del draft
    gc.collect()
    plane.gc()
    return plane


def forge(plane: shmplane.Plane, extents: bytes) -> None:
    """Write over the table of extents; its length as well."""
    _, row = look(plane, lambda tx: tx.current(b"x"))
    facts = look(plane, lambda tx: tx.facts(row))
    mapping = memory_of(plane).writable(facts.segment_id, facts.segment_nbytes)
    frame = bytes(mapping.view[facts.frame_offset : facts.frame_offset + facts.frame_nbytes])
    forget_mappings(plane)
    mapping.view[facts.offset : facts.offset + len(extents)] = extents
    at = facts.offset + (len(extents) + 7 & ~7)
    mapping.view[at : at + len(frame)] = frame
    tables_of(plane).blocks.stored_nbytes[row] = len(extents)
    assert crc32(frame) == facts.frame_crc


def read(plane: shmplane.Plane) -> Any:
    found = plane["x"].copy()
    gc.collect()
    plane.gc()
    return found


def extent(source: int, first: int, pages: int) -> bytes:
    return struct.pack("<III", source, first, pages)


WHOLE = extent(0, 0, PAGES)


@pytest.mark.parametrize(
    "extents",
    [
        b"",
        WHOLE[:-1],
        extent(0, 0, PAGES - 1),
        extent(0, 0, PAGES + 1),
        extent(0, 1, PAGES),
        extent(0, 2**32 - 1, PAGES),
        extent(0, 0, 2**32 - 1),
        extent(0, 0, 0) + WHOLE,
        WHOLE + extent(0, 0, 1),
        extent(9, 0, PAGES),
        extent(2**32 - 1, 0, PAGES),
        extent(1, 0, PAGES),
        extent(1, 2, 1) + extent(0, 1, PAGES - 1),  # pages that no commit has taken yet
    ],
)
def test_a_forged_table_of_extents_is_corrupt(edited: shmplane.Plane, extents: bytes) -> None:
    forge(edited, extents)
    with pytest.raises(PlaneCorrupt):
        read(edited)
    with pytest.raises(PlaneCorrupt):
        edited.edit("x")


def test_random_changes_of_a_table_of_extents_are_corrupt_or_show_pages_that_were_written(
    edited: shmplane.Plane,
) -> None:
    random_ = random.Random(4)
    right = extent(0, 0, 3) + extent(1, 0, 1) + extent(0, 4, 16) + extent(1, 1, 1) + extent(0, 21, PAGES - 21)
    forge(edited, right)
    assert read(edited)[[3 * PAGE_NBYTES, 20 * PAGE_NBYTES]].tolist() == [3, 20]
    corrupt = 0
    for _ in range(400):
        forge(edited, mutate(random_, right)[: len(right) + 24])
        try:
            assert set(np.unique(read(edited)).tolist()) <= {0, 3, 20}
        except PlaneCorrupt:
            corrupt += 1
    assert corrupt > 100


@pytest.mark.parametrize("what", ["itself", "a composed block", "a free row", "a row that is not there", "too many"])
def test_a_forged_reference_is_corrupt(edited: shmplane.Plane, what: str) -> None:
    tx = tables_of(edited)
    keeper = edited.attach("x")
    older = row_of(keeper)
    with edit(edited, "x") as draft:
        draft.array[0] = 1
    draft = None
    _, row = look(edited, lambda tx: tx.current(b"x"))
    before = [column[row] for column in tx.blocks.reference], tx.blocks.references[row]
    value = {"itself": row + 1, "a composed block": older + 1, "a free row": 60, "a row that is not there": 2**40}.get(
        what, 0
    )
    if what == "too many":
        tx.blocks.references[row] = 2**50
    else:
        tx.blocks.reference[0][row] = value
    with pytest.raises(PlaneCorrupt):
        read(edited)
    for column, word in zip(tx.blocks.reference, before[0], strict=True):
        column[row] = word
    tx.blocks.references[row] = before[1]


# Frames of composed tables


@pytest.mark.parametrize("count", [600, pytest.param(150_000, marks=pytest.mark.sweep)])
def test_a_forged_frame_of_a_composed_table_is_corrupt_or_reads_within_its_parts(
    plane: shmplane.Plane, count: int
) -> None:
    encoded, first = store(pa.table({"a": [1, 2], "s": ["x", "y"]}), None)
    more, second = store(pa.table({"a": [3], "s": ["z"]}), None)
    from shmplane.codecs import Composition, Piece, pack_composition
    from shmplane.codecs.table import parse_table

    columns = tuple((Piece(0, position), Piece(1, position)) for position in (0, 1))
    right = pack_composition(Composition("arrow", 3, columns, parse_table(encoded.frame).schema))
    parts = [Part(encoded.frame, first), Part(more.frame, second)]
    assert open_table(right, first, parts=parts).to_pydict() == {"a": [1, 2, 3], "s": ["x", "y", "z"]}
    random_ = random.Random(6)
    corrupt = 0
    for _ in range(count):
        try:
            table = open_table(seal(b"C", mutate(random_, right[6:])), LeasedMemory(b""), parts=parts)
            table.validate(full=True)
            table.to_pylist()
        except PlaneCorrupt:
            corrupt += 1
    assert corrupt > count // 4
