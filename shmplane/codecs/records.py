"""Records: many small values as one block, each decoded alone.

A body is ``[value][value]...[index]``. The index has two words for each value: where it begins, and its kind, the bytes of
its frame and of its body, packed. A JSON value is its text; any other is its body, at a multiple of 64, and its frame behind
that. The frame of the block says how many there are and where the index begins.

Rule 1. What a word of the index claims is compared with the memory, in subtraction form, whenever a value is read.
Rule 2. A value that was read is its reader's own; arrays and buffers show the shared memory, read-only, and keep it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import index as to_index
from typing import TYPE_CHECKING, Any, ClassVar, overload

from ..errors import UnsupportedValue
from ..system import ignoring, late, own
from . import array, document, raw
from .base import CAN_STORE, BytesSink, Encoded, Memory, Sink
from .borrow import PieceOfBody, borrow_bytes
from .choose import encode_by_rank
from .envelope import corrupt, seal, unseal

if TYPE_CHECKING:
    from . import tree_reading
else:
    tree_reading = late("shmplane.codecs.tree_reading")

__all__ = [
    "Records",
    "count_of",
    "encode_records",
    "grown_records",
    "open_records",
    "present_records",
    "records_as_python",
    "trees_of_records",
]

_ALIGNMENT = 64
_CHUNK_NBYTES = 1 << 20  #: about so many bytes of small values are held in one piece
_BATCH = 256  #: values that are looked at together
#: as documents have it; ``json.dumps`` would make an encoder for each
_text_of = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
_HEAD = struct.Struct("<QQ")  #: values, and where the index begins
_ENTRY = struct.Struct("<QQ")
_JSON = 1
_KINDS = {"json": _JSON, "bytes": 2, "array": 3, "tree": 4}
_NAMES = {code: kind for kind, code in _KINDS.items()}
_FRAME_AT, _NBYTES_AT = 8, 32
_LARGEST_FRAME, _LARGEST = (1 << _NBYTES_AT - _FRAME_AT) - 1, (1 << 32) - 1


class Records:
    """Many small values to be put as one block: ``plane["samples"] = shmplane.Records(samples)``.

    What ``plane["samples"]`` gives then is a read-only sequence; item i is decoded alone when it is asked for, in whatever
    process, and nothing is copied into workers.

    Args:
        values: JSON values, buffers, arrays, or dicts, lists and tuples of these. They are taken one after the other, and
            only their encoded bytes are held.

    Raises:
        UnsupportedValue: a value that is none of these; the message says which.

    Cost: about that of ``json.dumps`` of all JSON values, and their bytes of memory until it is put and garbage.
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._pieces: list[bytes | bytearray] = []
        self._small = bytearray()
        self._end = 0
        self._entries: list[bytes] = []
        remaining = iter(values)
        while batch := list(islice(remaining, _BATCH)):
            self._add_batch(batch)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{len(self):,} records, {self._end:,} B>"

    def __shmplane_encode__(self) -> EncodedRecords:
        return EncodedRecords(self)

    def _add_batch(self, batch: list[Any]) -> None:
        try:
            are_json = document.is_document(batch, document.is_text_or_number)
        except own(UnsupportedValue):
            are_json = False  # one by one, so that it says which
        add = self._add_document if are_json else self._add_value
        try:
            for value in batch:
                add(value)
        except own(UnsupportedValue) as error:
            raise UnsupportedValue(f"record {len(self):,}: {error}", **error.facts, record=len(self)) from error

    def _add_document(self, value: Any) -> None:
        try:
            text = _text_of(value).encode()
        except own(ValueError, RecursionError):
            text = document.dump(value, value)  # which says what is wrong with it
        self._add_text(text)

    def _add_text(self, text: bytes) -> None:
        self._entries.append(_ENTRY.pack(self._end, _JSON | _checked(len(text)) << _NBYTES_AT))
        self._append(text)

    def _add_value(self, value: Any) -> None:
        encoded = encode_by_rank(value)
        code = _KINDS.get(encoded.kind)
        if code is None:
            raise UnsupportedValue(f"a value of kind {encoded.kind!r} cannot be a record. {CAN_STORE}")
        if code == _JSON:
            self._add_text(bytes(encoded.whole or b""))
        else:
            self._add_encoded(code, encoded)

    def _add_encoded(self, code: int, encoded: Encoded) -> None:
        nbytes, frame = _checked(encoded.nbytes), encoded.frame
        if len(frame) > _LARGEST_FRAME:
            raise UnsupportedValue("its description is larger than that of a record can be; put it by itself")
        self._append(bytes(-self._end % _ALIGNMENT))
        self._entries.append(_ENTRY.pack(self._end, code | len(frame) << _FRAME_AT | nbytes << _NBYTES_AT))
        body = BytesSink(nbytes)
        encoded.write_to(body)
        self._append(body.data)
        self._append(frame)

    def _append(self, data: bytes | bytearray) -> None:
        self._end += len(data)
        self._small += data
        if len(self._small) >= _CHUNK_NBYTES:
            self._pieces.append(self._small)
            self._small = bytearray()


def _checked(nbytes: int) -> int:
    if nbytes > _LARGEST:
        raise UnsupportedValue(f"a record has at most {_LARGEST:,} B, this one has {nbytes:,}; put it by itself")
    return nbytes


class EncodedRecords:
    """Records that are ready to be written: values that are there already, new ones behind them, and the index."""

    kind = "records"
    whole = None

    def __init__(self, records: Records, before: memoryview | None = None, entries: bytes = b"") -> None:
        self._before = memoryview(b"") if before is None else before
        self._pieces = [*records._pieces, records._small]
        start = len(self._before)
        self._gap = bytes(-start % _ALIGNMENT)
        start += len(self._gap)
        moved = records._entries
        if start:
            moved = [_ENTRY.pack(at + start, word) for at, word in map(_ENTRY.unpack, records._entries)]
        self._tail = bytes(-(start + records._end) % 8)
        index_at = start + records._end + len(self._tail)
        self._index = b"".join((entries, *moved))
        self.nbytes: int = index_at + len(self._index)
        self.frame: bytes = seal(b"R", _HEAD.pack(len(self._index) // _ENTRY.size, index_at))

    def write_to(self, sink: Sink) -> None:
        at = 0
        for piece in (self._before, self._gap, *self._pieces, self._tail, self._index):
            if len(piece):
                sink.write(at, piece)
                at += len(piece)


def encode_records(value: Any) -> EncodedRecords | None:
    """Describe records, also those that were read; None for anything else."""
    return value.__shmplane_encode__() if isinstance(value, (Records, RecordsView)) else None


def grown_records(frame: bytes, body: memoryview, values: Iterable[Any]) -> EncodedRecords:
    """The records of a body and more behind them, as one. Cost: a copy of all when it is written."""
    count, index_at = _parse(frame, len(body))
    more = values if isinstance(values, Records) else Records(values)
    return EncodedRecords(more, body[:index_at], bytes(body[index_at : index_at + count * _ENTRY.size]))


# Reading


def _said(frame: bytes) -> tuple[int, int]:
    payload = unseal(b"R", frame)
    if len(payload) != _HEAD.size:
        corrupt("its frame has no layout of records")
    count, index_at = _HEAD.unpack(payload)
    return count, index_at


def _parse(frame: bytes, nbytes: int) -> tuple[int, int]:
    count, index_at = _said(frame)
    if index_at % 8 or index_at > nbytes or count > (nbytes - index_at) // _ENTRY.size:
        corrupt(f"its frame claims {count:,} records behind {index_at:,} bytes of {nbytes:,}")
    return count, index_at


def count_of(frame: bytes) -> int:
    """How many records a frame claims."""
    return _said(frame)[0]


class RecordsRoot:
    """The records of a block, checked as a whole: the root of its views."""

    __slots__ = ("__weakref__", "count", "index_at", "memory")

    def __init__(self, frame: bytes, memory: Memory) -> None:
        self.memory: Memory = memory
        self.count: int
        self.index_at: int
        self.count, self.index_at = _parse(frame, memory.nbytes)


def open_records(frame: bytes, memory: Memory, _: object = ()) -> RecordsRoot:
    """The root of the views of records; the index is looked at when a record is asked for."""
    return RecordsRoot(frame, memory)


def present_records(root: RecordsRoot) -> RecordsView:
    """A sequence of one reader's own. Cost: some µs."""
    return RecordsView(root, range(root.count))


def records_as_python(root: RecordsRoot) -> list[Any]:
    """All of them, decoded."""
    return list(present_records(root))


def trees_of_records(root: RecordsRoot) -> Iterator[Any]:
    """The roots of the trees among the records. Every other record is read on the way."""
    view = present_records(root)
    for row in range(root.count):
        if view._words[2 * row + 1] & 0xFF == _KINDS["tree"]:
            yield tree_reading.open_tree(*view._framed(row))
        else:
            with ignoring(ModuleNotFoundError, UnsupportedValue):  # of a dtype that needs a library
                view[row]


class RecordsView(Sequence[Any]):
    """Records that are read one by one: a read-only sequence; a slice of it is one too. It pickles as a handle.

    Cost: an item costs its own decoding.
    """

    __slots__ = ("_bytes", "_root", "_rows", "_words")

    def __init__(self, root: RecordsRoot, rows: range) -> None:
        self._root, self._rows = root, rows
        #: they keep the root, which keeps the lease
        self._bytes = memoryview(borrow_bytes(PieceOfBody(root, 0, root.memory.nbytes)))  # type: ignore[arg-type]
        end = root.index_at + root.count * _ENTRY.size
        self._words = self._bytes[root.index_at : end].cast("Q")

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> RecordsView: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return RecordsView(self._root, self._rows[index])
        try:
            row = self._rows[to_index(index)]
        except own(IndexError):
            raise IndexError(f"there are {len(self):,} records, and none of index {index}") from None
        return self._read(row)

    def __iter__(self) -> Iterator[Any]:
        return map(self._read, self._rows)

    def _read(self, row: int) -> Any:
        start, word = self._words[2 * row], self._words[2 * row + 1]
        nbytes, code, room = word >> _NBYTES_AT, word & 0xFF, self._root.index_at
        if start > room - nbytes or room < nbytes:
            corrupt(f"its index claims a record of {nbytes:,} bytes at {start:,}")
        if code == _JSON:
            return document.decode(self._bytes[start : start + nbytes].tobytes(), "a record of it is no JSON")
        return self._open(_NAMES.get(code, "none"), row)

    def _open(self, kind: str, row: int) -> Any:
        frame, memory = self._framed(row)
        if kind == "array":
            return array.present_array(array.open_array(frame, memory))
        if kind == "bytes":
            return raw.present_bytes(raw.open_bytes(frame, memory))
        if kind != "tree":
            corrupt(f"its index claims a record of kind {kind}")
        return tree_reading.present_tree(tree_reading.open_tree(frame, memory))

    def _framed(self, row: int) -> tuple[bytes, PieceOfBody]:
        """Frame and body of a record that is no JSON value."""
        start, word = self._words[2 * row], self._words[2 * row + 1]
        nbytes, frame_nbytes, room = word >> _NBYTES_AT, word >> _FRAME_AT & _LARGEST_FRAME, self._root.index_at
        end = start + nbytes
        if end > room or frame_nbytes > room - end or start % _ALIGNMENT:
            corrupt(
                f"its index claims a record of {nbytes:,} bytes at {start:,}, and {frame_nbytes:,} that describe it"
            )
        frame = self._bytes[end : end + frame_nbytes].tobytes()
        return frame, PieceOfBody(self._root, start, nbytes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (RecordsView, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __shmplane_encode__(self) -> EncodedRecords:
        return EncodedRecords(Records(self))

    def __reduce__(self) -> tuple[Any, ...]:
        handle = getattr(self._root.memory.lease, "handle", None)
        if handle is None:  # of no plane: shown from a file of a cache
            return list, (list(self),)
        return _reopen, (handle(), self._rows)

    def __repr__(self) -> str:
        return f"<{len(self):,} records>"


def _reopen(handle: Any, rows: range) -> RecordsView:
    whole: RecordsView = handle.value()
    return RecordsView(whole._root, rows)
