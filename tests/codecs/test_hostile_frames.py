"""Frames that were damaged, or forged with a right checksum: PlaneCorrupt or an answer, never a crash."""

from __future__ import annotations

import contextlib
import random
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

from shmplane import codecs
from shmplane.codecs.envelope import seal
from shmplane.codecs.tree import parse_tree
from shmplane.errors import PlaneCorrupt, UnsupportedValue
from tests.codecs.harness import LeasedMemory, store

VALUES: dict[str, tuple[Any, str | None]] = {
    "array": (np.arange(12.0).reshape(3, 4), None),
    "datetime": (np.arange(5).astype("M8[25s]"), None),
    "structured": (np.zeros(3, [("a", "i1"), ("b", [("c", "S3", (2,))])]), None),
    "table": (pa.table({"a": [1, 2], "s": ["x", "y"], "d": pa.array(["x", "y"]).dictionary_encode()}), None),
    "bytes": (b"some bytes", None),
    "json": ([1, {"a": 2}], None),
    "pickle": ([1, np.arange(9)], "pickle"),
    "tree": (
        {"a": np.arange(12.0), "t": (1, [np.asfortranarray(np.ones((2, 3))), b"bytes"]), "s": np.zeros(2, "S0")},
        None,
    ),
    "records": (codecs.Records([{"a": 1}, b"bytes", np.arange(5.0), {"x": np.ones(3)}, "text"]), None),
}
STORED = pytest.mark.parametrize(("value", "codec"), VALUES.values(), ids=VALUES.keys())


def mutate(random_: random.Random, data: bytes) -> bytes:
    """One to three small changes: a flipped bit, a new byte, a large number, a cut, a repeat."""
    changed = bytearray(data)
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(changed)) if changed else 0
        match random_.randrange(6):
            case 0 if changed:
                changed[at] ^= 1 << random_.randrange(8)
            case 1 if changed:
                changed[at] = random_.randrange(256)
            case 2:
                changed[at : at + 8] = random_.choice([2**63, 2**64 - 1, 2**31, 0, 2**62 + 1]).to_bytes(8, "little")
            case 3:
                del changed[at : at + random_.randint(1, 8)]
            case 4:
                changed[at:at] = changed[at : at + random_.randint(1, 8)]
            case _:
                changed[at:at] = random_.randbytes(2)
    return bytes(changed)


def read_leaves(item: Any, memory: LeasedMemory) -> None:
    """Read all bytes of a tree, and see that they lie in its memory."""
    if isinstance(item, (dict, list, tuple)):
        for child in item.values() if isinstance(item, dict) else item:
            read_leaves(child, memory)
    elif isinstance(item, (np.ndarray, memoryview)):
        array = np.asarray(item)
        assert not array.dtype.hasobject
        start = array.__array_interface__["data"][0] - memory.address
        assert 0 <= start <= memory.nbytes - array.nbytes or not array.nbytes
        array.tobytes()


def use(kind: str, frame: bytes, memory: LeasedMemory) -> None:
    """Read all that can be read through ``frame``."""
    said = codecs.describe(kind, frame)
    str((said.dtype, said.shape, said.schema))
    root = codecs.CODECS[kind].open(frame, memory)
    if kind == "pickle":
        assert sum(part.nbytes for part in root.parts) <= memory.nbytes
        [part.tobytes() for part in root.parts]
        return
    value = codecs.present(kind, root)
    if kind == "tree":
        read_leaves(value, memory)
    if kind == "records":
        assert len(value) <= memory.nbytes // 16
        for row in range(len(value)):
            with contextlib.suppress(PlaneCorrupt):
                read_leaves(value[row], memory)
    if isinstance(value, np.ndarray):
        assert not value.dtype.hasobject
        assert value.nbytes <= memory.nbytes
        value.tobytes()
    if isinstance(value, pa.Table):
        codecs.check_table(value)
        value.to_pylist()


@STORED
def test_a_damaged_frame_is_corrupt(value: Any, codec: str | None) -> None:
    encoded, memory = store(value, codec)
    for position in range(len(encoded.frame)):
        for bit in range(8):
            frame = bytearray(encoded.frame)
            frame[position] ^= 1 << bit
            with pytest.raises(PlaneCorrupt):
                codecs.CODECS[encoded.kind].open(bytes(frame), memory)


@STORED
@pytest.mark.parametrize("count", [400, pytest.param(150_000, marks=pytest.mark.sweep)])
def test_a_forged_frame_is_corrupt_or_reads_within_its_memory(value: Any, codec: str | None, count: int) -> None:
    encoded, memory = store(value, codec)
    random_ = random.Random(20_260_101)
    tag, payload = encoded.frame[1:2], encoded.frame[6:]
    for _ in range(count):
        frame = seal(tag, mutate(random_, payload))
        try:
            use(encoded.kind, frame, memory)
        except PlaneCorrupt:
            continue


@pytest.mark.parametrize(
    "dtype",
    [b"|O", b"O", b"<f8,O", b"object", b'{"of":"|O","shape":[2]}',
     b'{"fields":[["a","|O",0]],"nbytes":8,"aligned":false}',
     b'{"fields":[["a","<f8",-8]],"nbytes":8,"aligned":false}',
     b'{"fields":[["a","<f8",4]],"nbytes":8,"aligned":false}',
     b"[" * 5000, b'{"of":' * 5000, b"<f99", b"|S99999999999", b"<M8[0s]", b"T", b"\xff", b"", b"{}"],
)  # fmt: skip
def test_a_frame_that_names_no_plain_dtype_is_corrupt(dtype: bytes) -> None:
    frame = seal(b"A", b"C\1" + len(dtype).to_bytes(2, "little") + (1).to_bytes(8, "little") + dtype)
    with pytest.raises(PlaneCorrupt):
        codecs.CODECS["array"].open(frame, LeasedMemory(bytes(64)))


@pytest.mark.parametrize(
    "shape", [(9,), (2**63,), (2**32, 2**32), (2**64 - 1, 2**64 - 1), (0, 2**63), (0, 2**62, 2**62)]
)
def test_a_shape_that_is_larger_than_the_memory_is_corrupt(shape: tuple[int, ...]) -> None:
    sides = b"".join(side.to_bytes(8, "little") for side in shape)
    frame = seal(b"A", b"C" + bytes([len(shape)]) + b"\3\0" + sides + b"<f8")
    with pytest.raises(PlaneCorrupt):
        codecs.CODECS["array"].open(frame, LeasedMemory(bytes(64)))


@pytest.mark.parametrize("count", [400, pytest.param(150_000, marks=pytest.mark.sweep)])
def test_a_forged_index_of_a_tree_is_corrupt_or_reads_within_its_memory(count: int) -> None:
    """Its checksum is in the frame, so a mutation of either alone is found by it; here both fit."""
    encoded, memory = store(VALUES["tree"][0])
    said = parse_tree(encoded.frame)
    body, random_ = memory.copy(memory.nbytes), random.Random(20_260_102)
    text, words = said.text_nbytes, said.text_nbytes + said.words_nbytes
    for _ in range(count):
        parts = [body[:text], body[text:words], body[words : said.index_nbytes]]
        chosen = random_.choice([0, 1, 1, 2])
        parts[chosen] = mutate(random_, parts[chosen])
        parts[0] += b" " * (-len(parts[0]) % 8)
        parts[1] = parts[1][: len(parts[1]) // 8 * 8]
        index = b"".join(parts)
        forged = index.ljust(-(-len(index) // 64) * 64, b"\0") + body[said.leaves_at :]
        sizes = [said.leaves, *map(len, parts), crc32(index)]
        payload = len(forged).to_bytes(8, "little") + b"".join(size.to_bytes(4, "little") for size in sizes)
        try:
            use("tree", seal(b"N", payload), LeasedMemory(forged))
        except (PlaneCorrupt, UnsupportedValue):
            continue
