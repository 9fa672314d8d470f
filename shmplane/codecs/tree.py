"""Trees: dicts, lists and tuples within each other, whose leaves are arrays, tables, buffers and JSON values.

A tree's body is ``[index][leaf][leaf]...``. The index says all: the containers as JSON, with a mark in place of each leaf
that has bytes of its own, then a few words for each of those (which dtype, where, which shape), then the frames of the
leaves that are no arrays. The frame says how large the parts of the index are, and has its checksum.

::

    text    [dtypes, container]      dict: an object, list: [0, ...], tuple: [1, ...], a leaf: [], in order
    words   of an array: code, offset, lengths...     of another kind: code, offset, nbytes, nbytes of its frame
    frames  one behind the other

Rule 1. Leaves stand in the order in which the containers are filled: each container's own leaves, then those of the first
        container in it. Offsets count from the end of the index, which is a multiple of 64; a leaf of 64 bytes or more begins
        at such a multiple, a smaller one at one of 16.
Rule 2. A leaf's type is what its own kind would store; only ``dict``, ``list`` and their subclasses lose their type, as in
        JSON. A tuple with names would lose them, so it is refused.
Rule 3. What the index claims is compared with the memory before NumPy sees an address (``tree_reading``).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from ..errors import UnsupportedValue
from ..system import own
from .array import EncodedArray, encode_array, is_fortran, parse_shape
from .base import Encoded, Sink, room_in
from .document import MAX_DEPTH, dump, is_leaf, too_deep
from .dtypes import is_storable, pack_dtype
from .envelope import HEADER_NBYTES, corrupt, seal, unseal
from .where import HERE, Path, text_of_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


__all__ = ["TreeFrame", "encode_tree", "parse_tree"]

ALIGNMENT = 64
SMALL_ALIGNMENT = 16  #: of leaves of less than 64 bytes
GATHERED_NBYTES = 8192  #: pieces up to this size are written together
FLUSHED_NBYTES = 256 * 1024  #: about so many bytes at a time

LIST, TUPLE = 0, 1
MARK: list[Any] = []  #: stands for a leaf
#: of leaves that are described by their own frame
FRAMED = {"array": 2, "table": 3, "bytes": 4}

_HEAD = struct.Struct("<QIIIII")  #: body, leaves, text, words, frames, checksum of the index
PLAIN_LEAVES = frozenset((str, int, float, bool, type(None)))
_ZEROS = bytes(ALIGNMENT)


class TreeFrame(NamedTuple):
    """What a tree's frame says; sizes in bytes."""

    nbytes: int  #: of the whole body
    leaves: int  #: that have bytes of their own
    text_nbytes: int
    words_nbytes: int
    frames_nbytes: int
    crc: int  #: of the index

    @property
    def index_nbytes(self) -> int:
        return self.text_nbytes + self.words_nbytes + self.frames_nbytes

    @property
    def leaves_at(self) -> int:
        """Where the offsets of leaves count from."""
        return _round_up(self.index_nbytes, ALIGNMENT)


class EncodedTree:
    """A tree that is ready to be written."""

    __slots__ = ("_index", "_leaves", "frame", "nbytes")
    kind = "tree"
    whole = None

    def __init__(self, text: bytes, leaves: _Leaves) -> None:
        words = struct.pack(f"<{len(leaves.words)}Q", *leaves.words)
        frames = b"".join(leaves.frames)
        index = b"".join((text, words, frames))
        self._index: bytes = index.ljust(_round_up(len(index), ALIGNMENT), b"\0")
        self._leaves = leaves
        self.nbytes: int = len(self._index) + leaves.end
        count, crc = len(leaves.found), crc32(index)
        self.frame: bytes = seal(b"N", _HEAD.pack(self.nbytes, count, len(text), len(words), len(frames), crc))

    def write_to(self, sink: Sink) -> None:
        gathered = _Gathered(sink)
        gathered.write(0, memoryview(self._index))
        _write_leaves(len(self._index), self._leaves, gathered)
        gathered.flush()


def encode_tree(value: Any, encode: Callable[[Any], Encoded]) -> EncodedTree:
    """Describe a tree, or raise ``UnsupportedValue`` saying what cannot be stored, and where it is.

    Args:
        value: a dict, list or tuple. A leaf may be described already, as readers of files do (``Encoded``).
        encode: describes a leaf that is neither of JSON nor an array.

    Cost: about 2 µs for each array.
    """
    leaves = _Leaves(encode)
    skeleton = _skeleton(value, leaves)
    return EncodedTree(_padded(dump([leaves.dtypes, skeleton], value)), leaves)


def _padded(text: bytes) -> bytes:
    return text + b" " * (-len(text) % 8)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


# The containers


def _skeleton(value: Any, leaves: _Leaves) -> Any:
    """The containers as JSON has them, one after the other; each leaf that JSON lacks goes to ``leaves``."""
    holder: list[Any] = [None]
    unfilled: list[tuple[Any, Any, Any, Path, int]] = [(holder, 0, value, HERE, 0)]
    plain, add = leaves.plain, leaves.add
    while unfilled:
        parent, place, item, path, depth = unfilled.pop()
        if depth > MAX_DEPTH:
            raise too_deep()
        new, children, first = _begun(item, path)
        parent[place] = new
        inner: list[Any] = []
        for place, child in children:
            kind = type(child)
            if kind in PLAIN_LEAVES:
                new[place] = child
            elif kind in plain:
                add(child, path, place)
            elif isinstance(child, (dict, list, tuple)):
                inner.append((new, place, child, (path, place - first if first else place), depth + 1))
            elif is_leaf(child):
                new[place] = child
            else:
                add(child, path, place)
        unfilled.extend(reversed(inner))
    return holder[0]


def _begun(item: Any, path: Path) -> tuple[Any, Any, int]:
    """A container with marks alone, what belongs in it, and which place its first item has."""
    if isinstance(item, dict):
        for key in item:
            if not isinstance(key, str):
                raise UnsupportedValue(
                    f"{text_of_path(path)}: keys are str; found {key!r} of type {type(key).__name__}", key=repr(key)
                )
        return dict.fromkeys(item, MARK), item.items(), 0
    if isinstance(item, tuple) and type(item) is not tuple:
        raise UnsupportedValue(
            f"{text_of_path(path)}: a {type(item).__name__} would come back as a plain tuple; put tuple(...) or a dict "
            f"of its fields (_asdict() of a named tuple)",
            type=type(item).__name__,
        )
    return [TUPLE if isinstance(item, tuple) else LIST, *[MARK] * len(item)], enumerate(item, 1), 1


# The leaves


class _Leaves:
    """The leaves that have bytes of their own, in order.

    Two lists and no pairs: thousands of new tuples would make Python look for garbage among all objects there are.
    """

    def __init__(self, encode: Callable[[Any], Encoded]) -> None:
        self.words: list[int] = []
        self.frames: list[bytes] = []
        self.dtypes: list[str] = []
        self.offsets: list[int] = []
        self.found: list[Any] = []  #: arrays, or what is described
        self.end = 0
        self._encode = encode
        self._numbers: dict[Any, int] = {}  #: of dtypes, by what they were met as
        self._elements_of: Callable[[Any], tuple[npt.NDArray[Any], str | None]] | None = None
        self._ndarray: Any = getattr(sys.modules.get("numpy"), "ndarray", None)
        self._tensor: Any = getattr(sys.modules.get("torch"), "Tensor", None)
        #: types that are no containers for sure
        self.plain = frozenset((self._ndarray, self._tensor)) - {None}

    def add(self, leaf: Any, path: Path, place: Any) -> None:
        """Note a leaf; ``UnsupportedValue`` that says where it is. Cost: about 1 µs for an array."""
        kind = type(leaf)
        try:
            if kind is self._ndarray:
                array, dtype = leaf, leaf.dtype
            elif kind is self._tensor:
                array, dtype = self._elements(leaf)
            else:
                self._add_encoded(self._described(leaf))
                return
            number = self._numbers.get(dtype)
            if number is None:
                if not isinstance(dtype, str) and not (is_storable(dtype) and dtype.itemsize):
                    self._add_encoded(encode_array(array))  # which refuses it, or knows what to do
                    return
                number = self._number_of(dtype, dtype if isinstance(dtype, str) else pack_dtype(dtype).decode())
            shape = array.shape
            order = 0 if array.flags.c_contiguous else is_fortran(array)
            self.words += (order | len(shape) << 8 | number << 16, self._place(array, array.nbytes), *shape)
        except own(UnsupportedValue) as error:
            where = _where(path, place)
            raise UnsupportedValue(f"{where}: {error}", **error.facts, where=where) from error.__cause__

    def _elements(self, tensor: Any) -> tuple[npt.NDArray[Any], np.dtype[Any] | str]:
        if self._elements_of is None:
            from .torch_ import elements_of

            self._elements_of = elements_of
        array, name = self._elements_of(tensor)
        return array, array.dtype if name is None else name

    def _described(self, leaf: Any) -> Encoded:
        if hasattr(leaf, "write_to") and hasattr(leaf, "whole") and hasattr(leaf, "frame"):
            return leaf  # type: ignore[no-any-return]
        # A block says what its value is; the array or table that it can be taken for may be another one.
        return self._encode(leaf.__shmplane_value__() if hasattr(type(leaf), "__shmplane_value__") else leaf)

    def _add_encoded(self, encoded: Encoded) -> None:
        kind, frame, nbytes = encoded.kind, encoded.frame, encoded.nbytes
        if kind not in FRAMED:
            raise UnsupportedValue(f"a block of kind {kind!r} cannot be a leaf; put its value()", kind=kind)
        if kind == "array" and nbytes:
            shape, packed = parse_shape(frame)
            number = self._numbers.get(packed)
            if number is None:
                number = self._number_of(packed, packed.decode())
            order = frame[HEADER_NBYTES] == ord("F")
            leaf = encoded.array if isinstance(encoded, EncodedArray) else encoded
            self.words += (order | len(shape) << 8 | number << 16, self._place(leaf, nbytes), *shape)
            return
        self.words += (FRAMED[kind], self._place(encoded, nbytes), nbytes, len(frame))
        self.frames.append(frame)

    def _number_of(self, key: Any, text: str) -> int:
        number = self._numbers[key] = len(self.dtypes)
        self.dtypes.append(text)
        return number

    def _place(self, leaf: Any, nbytes: int) -> int:
        """The offset of the next leaf."""
        offset = 0
        if nbytes:
            multiple = ALIGNMENT if nbytes >= ALIGNMENT else SMALL_ALIGNMENT
            offset = self.end + multiple - 1 & -multiple
            self.end = offset + nbytes
        self.offsets.append(offset)
        self.found.append(leaf)
        return offset


def _where(path: Path, place: Any) -> str:
    """The path of what stands at a place of the skeleton, in which lists begin with their tag."""
    return text_of_path((path, place if isinstance(place, str) else place - 1))


# Writing


class _Gathered:
    """A sink that sees few and large writes, ascending, with gaps as zeros."""

    __slots__ = ("_end", "_sink", "_small", "_start")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._small = bytearray()
        self._start = self._end = 0

    def write(self, offset: int, data: memoryview) -> None:
        if offset > self._end:
            self._small += _ZEROS[: offset - self._end]
        self._end = end = offset + data.nbytes
        if end - offset > GATHERED_NBYTES:
            self.flush()
            self._sink.write(offset, data)
            self._start = end
            return
        self._small += data
        if end - self._start > FLUSHED_NBYTES:
            self.flush()

    def room(self, offset: int, nbytes: int) -> memoryview | None:
        """What the sink offers in place of a write of so many bytes; of small pieces nothing."""
        if nbytes <= GATHERED_NBYTES:
            return None
        found = room_in(self._sink, offset, nbytes)
        if found is not None:
            self._small += _ZEROS[: offset - self._end]
            self.flush()
            self._start = self._end = offset + nbytes
        return found

    def flush(self) -> None:
        # First taken out: a write that Ctrl-C ends may keep a view of it.
        small, self._small = self._small, bytearray()
        if small:
            self._sink.write(self._start, small)
            self._start += len(small)


class _Behind:
    """The part of a sink from an offset on."""

    def __init__(self, gathered: _Gathered, offset: int) -> None:
        self._gathered, self._offset = gathered, offset

    def write(self, offset: int, data: Any) -> None:
        self._gathered.write(self._offset + offset, memoryview(data))

    def room(self, offset: int, nbytes: int) -> memoryview | None:
        return self._gathered.room(self._offset + offset, nbytes)


def _write_leaves(start: int, leaves: _Leaves, gathered: _Gathered) -> None:
    numpy = sys.modules.get("numpy")
    ndarray: Any = getattr(numpy, "ndarray", None)
    word: Any = getattr(numpy, "uint8", None)
    for offset, leaf in zip(leaves.offsets, leaves.found, strict=True):
        nbytes = leaf.nbytes
        if not nbytes:
            continue
        if type(leaf) is ndarray and leaf.flags.c_contiguous:
            gathered.write(start + offset, ndarray((nbytes,), word, leaf).data)
        elif isinstance(leaf, ndarray):
            encode_array(leaf).write_to(_Behind(gathered, start + offset))
        else:
            leaf.write_to(_Behind(gathered, start + offset))


# The frame


def parse_tree(frame: bytes) -> TreeFrame:
    """What a tree's frame says, or ``PlaneCorrupt``."""
    payload = unseal(b"N", frame)
    if len(payload) != _HEAD.size:
        corrupt("its frame has no tree's layout")
    said = TreeFrame(*_HEAD.unpack(payload))
    if said.leaves_at > said.nbytes or said.words_nbytes % 8 or said.text_nbytes % 8:
        corrupt("its frame has no tree's layout")
    return said
