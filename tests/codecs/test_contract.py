"""What every codec keeps, whatever it stores."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import codecs
from shmplane.errors import PlaneCorrupt
from tests.codecs.harness import LeasedMemory, body_of, round_trip, store

VALUES: dict[str, tuple[Any, str | None]] = {
    "array": (np.arange(12.0).reshape(3, 4), None),
    "fortran array": (np.asfortranarray(np.arange(12).reshape(3, 4)), None),
    "strided array": (np.arange(600)[::3], None),
    "structured array": (np.zeros(5, [("a", "i1"), ("b", "f8", (2,))]), None),
    "0-d array": (np.array(3.5), None),
    "empty array": (np.empty((0, 3)), None),
    "table": (pa.table({"a": [1, 2, 3], "s": ["x", None, "zzz"]}), None),
    "empty table": (pa.table({"a": pa.array([], pa.int64())}), None),
    "column": (pa.chunked_array([[1, 2], [3]]), None),
    "bytes": (b"some bytes", None),
    "empty bytes": (b"", None),
    "strided bytes": (memoryview(bytes(range(100)))[::3], None),
    "json": ({"a": [1, 2.5, None, "ü"]}, None),
    "pickle": ({"a": {1, 2}, "b": np.arange(5), "c": np.empty(0)}, "pickle"),
    "tree": (
        {"a": np.arange(12.0), "s": "text", "l": [1, (np.float32(2), b"some bytes")], "e": np.empty((0, 3))},
        None,
    ),
    "tree with tables": ([pa.table({"a": [1, 2, 3]}), (np.arange(600)[::3], np.asfortranarray(np.ones((3, 4))))], None),
    "tree of no leaves": ({"a": [1, (2, {})]}, "tree"),
}
STORED = pytest.mark.parametrize(("value", "codec"), VALUES.values(), ids=VALUES.keys())


@STORED
def test_the_body_is_written_once_in_ascending_order(value: Any, codec: str | None) -> None:
    encoded = codecs.encode(value, codec)
    assert body_of(encoded) == body_of(encoded)


@STORED
def test_the_frame_is_bytes_that_can_be_described_without_the_body(value: Any, codec: str | None) -> None:
    encoded = codecs.encode(value, codec)
    assert type(encoded.frame) is bytes
    assert codecs.describe(encoded.kind, encoded.frame).kind == encoded.kind
    assert encoded.kind in codecs.KINDS


@STORED
def test_a_root_can_be_referred_to_weakly(value: Any, codec: str | None) -> None:
    encoded, memory = store(value, codec)
    root = codecs.CODECS[encoded.kind].open(encoded.frame, memory)
    assert weakref.ref(root)() is root


@STORED
def test_a_view_keeps_its_lease_alive_and_the_last_one_lets_it_go(value: Any, codec: str | None) -> None:
    encoded, memory = store(value, codec)
    lease = weakref.ref(memory.lease)
    kind, frame = encoded.kind, encoded.frame
    del encoded
    root = codecs.CODECS[kind].open(frame, memory)
    view = codecs.present(kind, root)
    del memory, root
    gc.collect()
    # A document is copied, and a table without rows has nothing in the memory.
    if kind != "json" and not (kind == "table" and not len(view)) and not (kind == "tree" and codec == "tree"):
        assert lease() is not None
    del view
    gc.collect()
    assert lease() is None


@STORED
def test_a_body_cut_short_is_corrupt(value: Any, codec: str | None) -> None:
    encoded = codecs.encode(value, codec)
    body = body_of(encoded)
    if not body:
        pytest.skip("nothing to cut")
    with pytest.raises(PlaneCorrupt):
        codecs.CODECS[encoded.kind].open(encoded.frame, LeasedMemory(body[:-1]))


@STORED
def test_the_body_of_every_kind_can_be_read_as_it_was_written(value: Any, codec: str | None) -> None:
    _, memory = store(value, codec)
    body = codecs.open_body(memory)
    assert body.readonly
    assert body == memory.lease.mapping[: memory.nbytes]


@STORED
def test_a_frame_of_another_kind_is_corrupt(value: Any, codec: str | None) -> None:
    encoded, memory = store(value, codec)
    for kind in {*codecs.KINDS, "unheard of"} - {encoded.kind}:
        with pytest.raises(PlaneCorrupt):
            codecs.CODECS[kind].open(encoded.frame, memory)


@STORED
def test_memory_longer_than_the_body_is_no_matter(value: Any, codec: str | None) -> None:
    encoded = codecs.encode(value, codec)
    memory = LeasedMemory(body_of(encoded) + bytes(100))
    codecs.present(encoded.kind, codecs.CODECS[encoded.kind].open(encoded.frame, memory))


def _array() -> Any:
    return round_trip(np.arange(4.0))


def _column() -> Any:
    return round_trip(pa.table({"a": [1.0, 2.0]})).column(0).chunk(0).to_numpy()


READERS: dict[str, Callable[[], Any]] = {
    "array": _array,
    "slice": lambda: _array()[1:],
    "reinterpreted": lambda: _array().view("i8"),
    "reshaped": lambda: _array().reshape(2, 2).T,
    "structured": lambda: round_trip(np.zeros(3, [("a", "i4"), ("b", "f8")]))["b"],
    "datetime": lambda: round_trip(np.arange(3).astype("M8[s]")),
    "from bytes": lambda: np.frombuffer(round_trip(b"12345678"), "f8"),
    "from memoryview": lambda: np.asarray(memoryview(_array())),
    "arrow column": _column,
    "pickled array": lambda: round_trip(np.arange(3), "pickle"),
    "leaf": lambda: round_trip({"a": [np.arange(3), np.ones(1000)]})["a"][0],
    "leaf without bytes": lambda: round_trip([np.empty(0), b"x"])[0],
    "bytes of a leaf": lambda: np.asarray(round_trip((b"12345678", np.ones(3)))[0]),
    "column of a leaf": lambda: round_trip([pa.table({"a": [1.0]})])[0].column(0).chunk(0).to_numpy(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_no_array_of_a_view_can_be_made_writable(read: Callable[[], np.ndarray[Any, Any]]) -> None:
    array: Any = read()
    while isinstance(array, np.ndarray):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.flags.writeable = True
        array = array.base
    _assert_leads_to_nothing_writable(array)


def _assert_leads_to_nothing_writable(owner: Any) -> None:
    for name in dir(owner):
        reached = getattr(owner, name)
        assert not hasattr(reached, "mapping"), f"{name} leads to the lease"
    if hasattr(type(owner), "__array_interface__"):
        assert not np.asarray(owner).flags.writeable
    else:
        buffers = owner.buffers() if isinstance(owner, pa.Array) else [owner]
        assert all(memoryview(buffer).readonly for buffer in buffers if buffer is not None)


def test_a_memoryview_of_bytes_leads_to_nothing_writable() -> None:
    view = round_trip(b"abc")
    assert view.readonly
    assert not view.obj.flags.writeable
    with pytest.raises(TypeError):
        view[0] = 1
