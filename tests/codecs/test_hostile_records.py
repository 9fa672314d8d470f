"""Indexes of records that were damaged or forged: PlaneCorrupt or values within their memory, never a crash."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest

from shmplane import codecs
from shmplane.codecs.envelope import seal
from shmplane.errors import PlaneCorrupt
from tests.codecs.harness import LeasedMemory, body_of
from tests.codecs.test_hostile_frames import mutate, read_leaves

VALUES: list[Any] = [{"a": 1}, b"some bytes", np.arange(5.0), {"x": np.ones(3), "y": [1, b"z"]}, "text", None]
JSON, BYTES, ARRAY, TREE = 1, 2, 3, 4
NBYTES = 1 << 32  #: of the body, in the second word of an entry
FRAME = 1 << 8


def parts() -> tuple[bytearray, int]:
    """A body, and where its index begins."""
    encoded = codecs.encode(codecs.Records(VALUES))
    return body_of(encoded), encoded.nbytes - 16 * len(VALUES)


def opened(body: bytes | bytearray, count: int, index_at: int) -> tuple[Any, LeasedMemory]:
    memory = LeasedMemory(body)
    frame = seal(b"R", struct.pack("<QQ", count, index_at))
    return codecs.present("records", codecs.CODECS["records"].open(frame, memory)), memory


def entry(body: bytearray, index_at: int, row: int) -> tuple[int, int]:
    start, word = struct.unpack_from("<QQ", body, index_at + 16 * row)
    return start, word


@pytest.mark.parametrize(
    ("count", "shift"), [(7, 0), (2**60, 0), (2**64 - 1, 0), (6, 8), (6, -4), (0, 2**40), (6, 2**63), (1, 96), (1, 1)]
)
def test_a_frame_that_claims_more_than_there_is_is_corrupt(count: int, shift: int) -> None:
    body, index_at = parts()
    with pytest.raises(PlaneCorrupt):
        opened(body, count, index_at + shift & 2**64 - 1)


@pytest.mark.parametrize("cut", [1, 8, 15, 16, 40, 90])
def test_a_body_that_was_cut_is_corrupt(cut: int) -> None:
    body, index_at = parts()
    with pytest.raises(PlaneCorrupt):
        opened(body[:-cut], len(VALUES), index_at)


@pytest.mark.parametrize(
    "forged",
    [
        (2**64 - 1, JSON | 4 * NBYTES),
        (2**63, JSON | NBYTES),
        (0, JSON | (2**32 - 1) * NBYTES),
        (2**64 - 8, BYTES | 64 * NBYTES),
        (64, BYTES | 8 * NBYTES | (2**24 - 1) * FRAME),
        (64, BYTES | (2**32 - 1) * NBYTES | (2**24 - 1) * FRAME),
        (1, ARRAY | 40 * NBYTES | 30 * FRAME),
        (64, ARRAY | 8 * NBYTES),
        (0, TREE | 5 * NBYTES | 5 * FRAME),
        (0, 0),
        (0, 9 | 4 * NBYTES),
        (0, 255 | 4 * NBYTES),
        (3, JSON | 2 * NBYTES),
    ],
)
def test_an_entry_that_nobody_wrote_is_corrupt_and_the_others_can_be_read(forged: tuple[int, int]) -> None:
    body, index_at = parts()
    struct.pack_into("<QQ", body, index_at + 16, *forged)
    found, _ = opened(body, len(VALUES), index_at)
    with pytest.raises(PlaneCorrupt):
        found[1]
    assert found[0] == VALUES[0]
    assert found[4] == "text"


def test_an_entry_that_reaches_into_the_index_is_corrupt() -> None:
    body, index_at = parts()
    struct.pack_into("<QQ", body, index_at, index_at - 4, JSON | 8 * NBYTES)
    found, _ = opened(body, len(VALUES), index_at)
    with pytest.raises(PlaneCorrupt):
        found[0]


def test_entries_that_overlap_read_within_their_memory() -> None:
    body, index_at = parts()
    for row in range(1, len(VALUES)):
        struct.pack_into("<QQ", body, index_at + 16 * row, *entry(body, index_at, 2))
    found, memory = opened(body, len(VALUES), index_at)
    for value in found[1:]:
        read_leaves(value, memory)
        assert np.array_equal(value, np.arange(5.0))


@pytest.mark.parametrize("count", [400, pytest.param(150_000, marks=pytest.mark.sweep)])
def test_a_forged_index_is_corrupt_or_reads_within_its_memory(count: int) -> None:
    whole, index_at = parts()
    random_, read = random.Random(20_260_119), 0
    for _ in range(count):
        index = mutate(random_, bytes(whole[index_at:]))[: len(whole) - index_at].ljust(len(whole) - index_at, b"\0")
        found, memory = opened(whole[:index_at] + index, len(VALUES), index_at)
        for row in range(len(found)):
            try:
                read_leaves(found[row], memory)
                read += 1
            except PlaneCorrupt:
                continue
    assert read


@pytest.mark.parametrize("count", [300, pytest.param(100_000, marks=pytest.mark.sweep)])
def test_a_forged_body_is_corrupt_or_reads_within_its_memory(count: int) -> None:
    whole, index_at = parts()
    random_ = random.Random(20_260_120)
    for _ in range(count):
        body = mutate(random_, bytes(whole[:index_at]))[:index_at].ljust(index_at, b"\0")
        found, memory = opened(body + whole[index_at:], len(VALUES), index_at)
        for row in range(len(found)):
            try:
                read_leaves(found[row], memory)
            except PlaneCorrupt:
                continue
