"""Pickles: protocol 5, with the large buffers out of band, so that they are neither copied twice nor copied
to be read.

The body is ``[pickle][buffer][buffer]...``, each buffer at a multiple of 64; the frame lists their lengths.

Rule 1. Only ``codec="pickle"`` writes one, and ``open_pickle`` only looks at lengths: code can run in
        ``present_pickle`` alone, which the caller guards with the plane's ``trust_pickle``.
Rule 2. Buffers come back as read-only views of shared memory, so arrays in the object are read-only too.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import own
from .borrow import borrow_bytes
from .envelope import corrupt, seal, unseal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .base import Memory, Sink

__all__ = ["encode_pickle", "open_pickle", "present_pickle"]

ALIGNMENT = 64


class EncodedPickle:
    """A pickle and its buffers, ready to be written."""

    __slots__ = ("_parts", "frame", "nbytes")
    kind = "pickle"
    whole = None

    def __init__(self, parts: Sequence[Any]) -> None:
        lengths = [len(part) for part in parts]
        self._parts = parts
        self.frame: bytes = seal(b"P", struct.pack(f"<{len(parts)}Q", *lengths))
        self.nbytes: int = _end(lengths)

    def write_to(self, sink: Sink) -> None:
        end = 0
        for part, start in zip(self._parts, _starts([len(part) for part in self._parts]), strict=True):
            if not len(part):
                continue
            if start > end:
                sink.write(end, bytes(start - end))
            sink.write(start, part)
            end = start + len(part)


class Pickled:
    """A pickle that nobody has run: the root of a block's objects."""

    __slots__ = ("__weakref__", "parts")

    def __init__(self, parts: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.parts: Sequence[npt.NDArray[np.uint8]] = parts


def _starts(lengths: Sequence[int]) -> Iterator[int]:
    start = 0
    for length in lengths:
        yield start
        start += -(-length // ALIGNMENT) * ALIGNMENT


def _end(lengths: Sequence[int]) -> int:
    """Where the last part ends; parts without bytes at the end do not count."""
    return max(start + length if length else 0 for start, length in zip(_starts(lengths), lengths, strict=True))


def encode_pickle(value: Any) -> EncodedPickle:
    """Pickle ``value``; its out-of-band buffers are only referred to until ``write_to``."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return EncodedPickle([stream, *(_flat(buffer) for buffer in buffers)])
    except own(Exception) as error:
        raise UnsupportedValue(
            f"this {type(value).__name__} cannot be pickled: {error}", type=type(value).__name__
        ) from error


def _flat(buffer: pickle.PickleBuffer) -> Any:
    raw = buffer.raw()
    return raw if raw.nbytes else b""


def open_pickle(frame: bytes, memory: Memory, _: object = ()) -> Pickled:
    """Find the parts; nothing is unpickled."""
    payload = unseal(b"P", frame)
    if not payload or len(payload) % 8:
        corrupt("its frame lists no lengths")
    lengths = struct.unpack(f"<{len(payload) // 8}Q", payload)
    if _end(lengths) > memory.nbytes:
        corrupt(f"its frame claims {_end(lengths):,} bytes of {memory.nbytes:,}")
    starts = [start if length else 0 for start, length in zip(_starts(lengths), lengths, strict=True)]
    return Pickled([borrow_bytes(memory, start, length) for start, length in zip(starts, lengths, strict=True)])


def present_pickle(root: Pickled) -> Any:
    """Run the pickle. The caller has made sure that it is trusted.

    Raises:
        PlaneCorrupt: when it is no pickle; what the object's own code raises is passed on.
    """
    stream, *buffers = (memoryview(part) for part in root.parts)  # type: ignore[arg-type]
    try:
        return pickle.loads(stream, buffers=buffers)  # noqa: S301 - asked for and trusted
    except own(pickle.UnpicklingError, EOFError) as error:
        corrupt("its bytes are no pickle", error)
