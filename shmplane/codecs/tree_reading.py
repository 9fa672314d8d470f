"""Reading trees: what the index claims is checked once, when a block is opened; then every reader gets views of his own.

All arrays of a tree show one array of its bytes, which keeps the root, and that keeps the lease. The root itself keeps
none of the views: so the last one that is garbage ends the lease.

Rule 1. The index is copied out before it is looked at, so that nobody changes it in between.
Rule 2. Offsets and sizes are compared with the memory as Python ints, in subtraction form.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from zlib import crc32

from ..errors import UnsupportedValue
from ..system import own
from . import array, convert, origin, raw
from .borrow import PieceOfBody, borrow_bytes
from .codec import NoForm
from .dtypes import FOREIGN_NBYTES, itemsize_of, unpack_dtype, words_dtype
from .envelope import corrupt
from .read_only import FixedDict, FixedList, ReadOnlyDict, ReadOnlyList
from .tree import FRAMED, LIST, PLAIN_LEAVES, SMALL_ALIGNMENT, TUPLE, TreeFrame, parse_tree
from .where import find

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .base import Memory

__all__ = ["open_tree", "present_tree", "tables_of_tree", "tree_as_python", "tree_of_tensors", "tree_over"]

_NONE: Any = object()
_KIND_OF_CODE = {code: kind for kind, code in FRAMED.items()}


#: an array, as the index describes it: which of the tree's dtypes, shape, offset in the body, strides
ArrayLeaf = tuple[int, tuple[int, ...], int, tuple[int, ...] | None]


class FramedLeaf(NamedTuple):
    """A leaf of another kind, with its own frame."""

    kind: str
    offset: int
    nbytes: int
    frame: bytes


class TreeRoot:
    """A tree over shared memory, checked: the root of its views."""

    __slots__ = ("__weakref__", "dtypes", "leaves", "memory", "skeleton")

    def __init__(
        self, memory: Memory, dtypes: list[bytes], skeleton: Any, leaves: list[ArrayLeaf | FramedLeaf]
    ) -> None:
        self.memory: Memory = memory
        self.dtypes: list[bytes] = dtypes
        self.skeleton: Any = skeleton
        self.leaves: list[ArrayLeaf | FramedLeaf] = leaves


# Opening


def open_tree(frame: bytes, memory: Memory) -> TreeRoot:
    """The root of a tree's views. Cost: about 1 µs for each array."""
    said = parse_tree(frame)
    if said.nbytes > memory.nbytes:
        corrupt(f"its frame claims {said.nbytes:,} bytes of {memory.nbytes:,}")
    index = memory.copy(said.index_nbytes)
    if crc32(index) != said.crc:
        corrupt("the checksum of its index is wrong")
    dtypes, skeleton = _parse_text(index[: said.text_nbytes])
    leaves = _parse_leaves(said, index, [itemsize_of(dtype) for dtype in dtypes])
    if len(leaves) != said.leaves:
        corrupt(f"its frame claims {said.leaves:,} leaves, its index has {len(leaves):,}")
    return TreeRoot(memory, dtypes, skeleton, leaves)


def _parse_text(text: bytes) -> tuple[list[bytes], Any]:
    try:
        dtypes, skeleton = json.loads(text)
        return [dtype.encode() for dtype in dtypes], skeleton
    except own(ValueError, TypeError, AttributeError, RecursionError) as error:
        corrupt("its index is no tree's", error)


def _parse_leaves(said: TreeFrame, index: bytes, itemsizes: list[int]) -> list[ArrayLeaf | FramedLeaf]:
    end = said.text_nbytes + said.words_nbytes
    words = struct.unpack(f"<{said.words_nbytes // 8}Q", index[said.text_nbytes : end])
    leaves: list[ArrayLeaf | FramedLeaf] = []
    at, start, room = 0, said.leaves_at, said.nbytes - said.leaves_at
    try:
        while at < len(words):
            code, offset = words[at], words[at + 1]
            if code & 0xFF > 1:
                nbytes, frame_nbytes = words[at + 2], words[at + 3]
                at, end = at + 4, end + frame_nbytes
                if end > len(index):
                    corrupt("its index has other frames than its words say")
                leaves.append(FramedLeaf(_KIND_OF_CODE[code], start + offset, nbytes, index[end - frame_nbytes : end]))
            else:
                number = code >> 16
                at, ends = at + 2, at + 2 + (code >> 8 & 0xFF)
                shape, at = words[at:ends], ends
                nbytes = prod(shape) * itemsizes[number]
                leaves.append((number, shape, start + offset, _fortran(shape, itemsizes[number]) if code & 1 else None))
            if offset > room - nbytes:
                corrupt(f"its index claims a leaf of {nbytes:,} bytes at {offset:,}")
            if offset % SMALL_ALIGNMENT:
                corrupt(f"its index claims a leaf at {offset:,}")
    except own(IndexError, KeyError) as error:
        corrupt("its index has no tree's words", error)
    if at != len(words) or end != len(index):
        corrupt("its index has other words or frames than its leaves need")
    return leaves


def _fortran(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = []
    for length in shape:
        strides.append(itemsize)
        itemsize = min(itemsize * max(length, 1), array.MAX_NBYTES)
    return tuple(strides)


# Showing


def present_tree(root: TreeRoot) -> Any:
    """Read-only containers of views, made anew for each reader. Cost: about 1 µs for each array."""
    dtypes = [unpack_dtype(dtype) for dtype in root.dtypes]
    leaves = (
        _present(root, leaf) if type(leaf) is FramedLeaf else leaf for leaf in _arrays(root, _bytes_of(root), dtypes)
    )
    return _assemble(root.skeleton, leaves, ReadOnlyDict, ReadOnlyList)


def tree_over(root: TreeRoot, buffer: memoryview) -> Any:
    """The containers of a draft, whose arrays show ``buffer``, a copy of the body; writable when the buffer is."""
    import numpy as np

    dtypes = [unpack_dtype(dtype) for dtype in root.dtypes]
    leaves = _arrays(root, np.frombuffer(buffer, np.uint8), dtypes)

    def shown(leaf: Any) -> Any:
        if isinstance(leaf, FramedLeaf) and leaf.kind == "array":
            return array.array_over(leaf.frame, buffer[leaf.offset :])
        return _present(root, leaf)

    return _assemble(root.skeleton, map(shown, leaves), FixedDict, FixedList)


def tree_of_tensors(root: TreeRoot, buffer: memoryview) -> Any:
    """Plain containers of tensors over a writable copy of the body; leaves of JSON as they are.

    Raises:
        NoForm: torch has no tensor for a leaf; the message says which.
    """
    import numpy as np

    from .torch_ import tensor_of, tensor_of_words

    names = [_name_of(dtype) for dtype in root.dtypes]
    dtypes = [
        unpack_dtype(dtype) if name is None else words_dtype(name)
        for dtype, name in zip(root.dtypes, names, strict=True)
    ]
    base = np.frombuffer(buffer, np.uint8)
    leaves = _arrays(root, base, dtypes)
    for number, (said, leaf) in enumerate(zip(root.leaves, leaves, strict=True)):
        try:
            if not isinstance(said, FramedLeaf):
                name = names[said[0]]
                leaves[number] = tensor_of(leaf) if name is None else tensor_of_words(leaf, name)
            elif said.kind == "bytes":
                leaves[number] = tensor_of(base[said.offset : said.offset + said.nbytes])
            elif said.kind == "array":
                leaves[number] = tensor_of(array.array_over(said.frame, buffer[said.offset :]))
            else:
                leaves[number] = convert.TABLE_FORMS["torch"](_open_framed(root, said))
        except own(NoForm) as error:
            raise NoForm(f"{_where(root, number)}: {error}") from error.__cause__
    return _assemble(root.skeleton, iter(leaves), dict, list)


def tree_as_python(root: TreeRoot) -> Any:
    """Plain containers, and of each leaf its ``python`` form."""
    dtypes = [unpack_dtype(dtype) for dtype in root.dtypes]

    def converted(leaf: Any) -> Any:
        if not isinstance(leaf, FramedLeaf):
            return leaf.tolist()
        forms = {"array": convert.ARRAY_FORMS, "table": convert.TABLE_FORMS, "bytes": convert.BYTES_FORMS}[leaf.kind]
        return forms["python"](_open_framed(root, leaf))

    return _assemble(root.skeleton, map(converted, _arrays(root, _bytes_of(root), dtypes)), dict, list)


def tables_of_tree(root: TreeRoot) -> list[Any]:
    """The roots of the tables among the leaves."""
    leaves = [leaf for leaf in root.leaves if isinstance(leaf, FramedLeaf) and leaf.kind == "table"]
    return [_open_framed(root, leaf) for leaf in leaves]


def _name_of(dtype: bytes) -> str | None:
    name = dtype.decode("ascii", "replace")
    return name if name in FOREIGN_NBYTES else None


def _bytes_of(root: TreeRoot) -> npt.NDArray[np.uint8]:
    """The body; it keeps the root, and all arrays that are made of it keep it."""
    return borrow_bytes(PieceOfBody(root, 0, root.memory.nbytes))


def _arrays(root: TreeRoot, base: npt.NDArray[np.uint8], dtypes: list[np.dtype[Any]]) -> list[Any]:
    """Of each array a view of ``base``; other leaves as they are."""
    import numpy as np

    ndarray: Any = np.ndarray
    try:
        # Safety: what the index says was compared with the memory, and NumPy compares it with ``base`` again.
        return [
            leaf if isinstance(leaf, FramedLeaf) else ndarray(leaf[1], dtypes[leaf[0]], base, leaf[2], leaf[3])
            for leaf in root.leaves
        ]
    except own(ValueError, TypeError) as error:
        _refuse_dimensions(root, error)


def _refuse_dimensions(root: TreeRoot, error: Exception) -> NoReturn:
    most = max(len(leaf[1]) for leaf in root.leaves if not isinstance(leaf, FramedLeaf))
    if 32 < most <= array.MAX_NDIM:
        raise UnsupportedValue(f"an array of {most} dimensions needs NumPy 2: pip install 'numpy>=2'") from error
    corrupt("its index claims an array that cannot be", error)


def _present(root: TreeRoot, leaf: Any) -> Any:
    if type(leaf) is not FramedLeaf:
        return leaf
    opened = _open_framed(root, leaf)
    if leaf.kind == "table":
        return origin.present_table(opened)
    return array.present_array(opened) if leaf.kind == "array" else raw.present_bytes(opened)


def _open_framed(root: TreeRoot, leaf: FramedLeaf) -> Any:
    memory = PieceOfBody(root, leaf.offset, leaf.nbytes)
    if leaf.kind == "table":
        return origin.open_table_root(leaf.frame, memory)
    return array.open_array(leaf.frame, memory) if leaf.kind == "array" else raw.open_bytes(leaf.frame, memory)


def _where(root: TreeRoot, number: int) -> str:
    """The path of a leaf."""
    numbered = _assemble(root.skeleton, map(_Numbered, range(len(root.leaves))), dict, list)
    return find(numbered, lambda leaf: isinstance(leaf, _Numbered) and leaf.number == number)


class _Numbered:
    """Stands for a leaf when its place is looked for."""

    def __init__(self, number: int) -> None:
        self.number: int = number


def _assemble(skeleton: Any, leaves: Iterator[Any], make_dict: type[dict[str, Any]], make_list: type[list[Any]]) -> Any:
    """The containers with their leaves, one after the other: how deep they are nested is no matter."""
    holder: list[Any] = [None]
    begun: list[tuple[Any, Any]] = []
    unfilled: list[tuple[Any, Any]] = []
    tuples: list[tuple[Any, Any, list[Any]]] = []

    def shown(item: Any, parent: Any, place: Any) -> Any:
        if type(item) is list and not item:
            return next(leaves)
        new: Any
        if type(item) is dict:
            new = make_dict()
        elif type(item) is list and type(item[0]) is int and item[0] in (LIST, TUPLE):
            new = make_list() if item[0] == LIST else []
            if item[0] == TUPLE:
                tuples.append((parent, place, new))
        else:
            corrupt("its index has no tree's containers")
        begun.append((new, item))
        return new

    try:
        holder[0] = shown(skeleton, holder, 0)
        while begun or unfilled:
            unfilled.extend(reversed(begun))
            begun.clear()
            new, item = unfilled.pop()
            if type(item) is dict:
                filled = {
                    key: child if type(child) in PLAIN_LEAVES else shown(child, new, key) for key, child in item.items()
                }
                dict.update(new, filled)
            else:
                children = enumerate(item[1:])
                list.extend(
                    new,
                    [child if type(child) in PLAIN_LEAVES else shown(child, new, place) for place, child in children],
                )
        if next(leaves, _NONE) is not _NONE:
            corrupt("its index has more leaves than marks")
    except own(StopIteration) as error:
        corrupt("its index has more marks than leaves", error)
    # Those within others were begun later, and are whole first.
    for parent, place, items in reversed(tuples):
        put: Any = dict.__setitem__ if isinstance(parent, dict) else list.__setitem__
        put(parent, place, tuple(items))
    return holder[0]
