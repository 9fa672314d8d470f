"""Bytes: any buffer, stored as it is; what comes back is a read-only ``memoryview`` of bytes.

A buffer that is not C-contiguous is stored in C order, a piece at a time. The frame has the length, since a
block's memory may be longer than what was put.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import Window, is_loaded, own
from .borrow import borrow_bytes
from .envelope import corrupt, seal, unseal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .base import Memory, Sink

__all__ = [
    "EncodedBytes",
    "encode_buffer",
    "encode_bytes",
    "open_body",
    "open_bytes",
    "parse_length",
    "present_bytes",
    "read_bytes",
]


@lru_cache(maxsize=1024)
def _frame_of(tag: bytes, nbytes: int) -> bytes:
    """The same lengths come over and over, and a checksum is the larger part of describing a few bytes."""
    return seal(tag, nbytes.to_bytes(8, "little"))


class EncodedBytes:
    """One contiguous buffer, ready to be written."""

    __slots__ = ("frame", "kind", "nbytes", "whole")

    def __init__(self, whole: Any, nbytes: int, kind: str = "bytes", tag: bytes = b"B") -> None:
        self.whole = whole
        self.nbytes: int = nbytes
        self.kind: str = kind
        self.frame: bytes = _frame_of(tag, nbytes)

    def write_to(self, sink: Sink) -> None:
        if self.nbytes:
            sink.write(0, self.whole)


class EncodedStrided(EncodedBytes):
    """A buffer with gaps, which is written a piece at a time."""

    __slots__ = ("_array",)

    def __init__(self, array: npt.NDArray[Any]) -> None:
        super().__init__(None, array.nbytes)
        self._array = array

    def write_to(self, sink: Sink) -> None:
        if self.nbytes:
            from .array import write_rows

            write_rows(self._array, sink)


def encode_bytes(value: bytes) -> EncodedBytes:
    """Describe ``bytes``."""
    return EncodedBytes(value, len(value))


def encode_buffer(value: Any) -> EncodedBytes:
    """Describe what exports the buffer protocol, and every array that could be stored as an array."""
    ndarray: Any = getattr(sys.modules.get("numpy"), "ndarray", ())
    if isinstance(value, ndarray):
        return _encode_elements(value)
    try:
        view = memoryview(value)
    except own(TypeError, ValueError, BufferError) as error:
        raise UnsupportedValue(
            f"this {type(value).__name__} exports no buffer: {error}", type=type(value).__name__
        ) from error
    if not view.c_contiguous:
        return _encode_elements(_as_array(view))
    # memoryview refuses to cast what has a length of zero, and there is nothing to write.
    return EncodedBytes(view.cast("B") if view.nbytes else b"", view.nbytes)


def _encode_elements(array: npt.NDArray[Any]) -> EncodedBytes:
    """Arrays go past the buffer protocol, which has no format for ``datetime64`` and others."""
    from .array import encode_array

    encode_array(array)  # refuses what is not plain bytes
    if array.flags.c_contiguous:
        return EncodedBytes(array.reshape(-1).view("u1"), array.nbytes)
    return EncodedStrided(array)


def _as_array(view: memoryview) -> npt.NDArray[Any]:
    import numpy as np

    try:
        return np.asarray(view)
    except own(TypeError, ValueError) as error:
        raise UnsupportedValue(
            f"a buffer of format {view.format!r} with gaps cannot be stored: {error}; put bytes(value)",
            format=view.format,
        ) from error


def parse_length(frame: bytes, tag: bytes = b"B") -> int:
    """The length that a frame claims."""
    payload = unseal(tag, frame)
    if len(payload) != 8:
        corrupt("its frame has no length")
    return int.from_bytes(payload, "little")


def open_bytes(frame: bytes, memory: Memory, _: object = ()) -> npt.NDArray[np.uint8] | Window:
    """The root of a byte block's views. Cost: about 2 µs; before NumPy is loaded, which is not needed, some 30."""
    return _borrow(memory, _check_length(frame, memory, b"B"))


def read_bytes(frame: bytes, memory: Memory, tag: bytes) -> bytes:
    """A copy of what a frame describes. Needs no library."""
    return memory.copy(_check_length(frame, memory, tag))


def _check_length(frame: bytes, memory: Memory, tag: bytes) -> int:
    nbytes = parse_length(frame, tag)
    if nbytes > memory.nbytes:
        corrupt(f"its frame claims {nbytes:,} bytes of {memory.nbytes:,}")
    return nbytes


def _borrow(memory: Memory, nbytes: int) -> npt.NDArray[np.uint8] | Window:
    # Not loaded for this: it costs a second, and a fork has to wait for a thread that loads it.
    window = None if is_loaded("numpy") else memory.window(nbytes)
    return window if window is not None else borrow_bytes(memory, nbytes=nbytes)


def present_bytes(root: npt.NDArray[np.uint8] | Window) -> memoryview:
    """A new read-only ``memoryview`` of bytes, which keeps ``root`` alive."""
    return root.data


def open_body(memory: Memory) -> memoryview:
    """The body of a block of any kind, as it was written: a read-only ``memoryview`` that keeps the lease."""
    return _borrow(memory, memory.nbytes).data
