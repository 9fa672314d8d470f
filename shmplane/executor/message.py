"""What goes through the pipe: a small pickle, or where its bytes are; and a block as the executor lays it out.

The body of a block is ``[token][pickle][buffer][buffer]...``, each at a multiple of 64; the frame has their lengths, as that
of any pickle. The token says which executor a block belongs to, so that those which nobody will read can be found.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ..codecs import corrupt, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..codecs import Sink

__all__ = ["EncodedParts", "Failure", "Message", "Place", "Slice", "parts_of"]

_ALIGNMENT = 64
TOKEN_NBYTES = 8


class Place(NamedTuple):
    """A block, by what nobody else ever has."""

    row: int
    generation: int


class Slice(NamedTuple):
    """A piece of a block that somebody leases, or that is kept."""

    root: str
    plane: str
    instance: int
    place: Place
    offset: int  #: B into the body
    nbytes: int
    is_kept: bool  #: for the reader's process


class Message(NamedTuple):
    """A value on its way.

    Attributes:
        stream: the pickle; None: it is the part after the token of the block.
        place: of the block that was made for this value, if any.
        sources: for each buffer that the pickle wants: which part of the block it is, a slice of another block, or the
            bytes themselves, when there was no room for a block.
        piped: B that were to be in a block.
    """

    stream: bytes | None
    place: Place | None = None
    sources: tuple[int | Slice | bytearray, ...] = ()
    piped: int = 0


class Failure:
    """What was read when a value could not be: it is raised, or becomes the exception, where the value was wanted."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class EncodedParts:
    """The parts of a block, ready to be written; each is a sequence of pieces."""

    __slots__ = ("_parts", "frame", "nbytes")
    kind = "pickle"
    whole = None

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        lengths = [sum(len(piece) for piece in part) for part in parts]
        self._parts = list(zip(_starts(lengths), parts, strict=True))
        self.frame: bytes = seal(b"P", struct.pack(f"<{len(lengths)}Q", *lengths))
        self.nbytes: int = _end(lengths)

    def write_to(self, sink: Sink) -> None:
        end = 0
        for start, part in self._parts:
            for piece in part:
                if not len(piece):
                    continue
                if start > end:
                    sink.write(end, bytes(start - end))
                sink.write(start, piece)
                start = end = start + len(piece)


def parts_of(frame: bytes, nbytes: int) -> list[tuple[int, int]]:
    """Where in a body of ``nbytes`` each part begins and ends; ``PlaneCorrupt`` when it cannot."""
    payload = unseal(b"P", frame)
    lengths = struct.unpack(f"<{len(payload) // 8}Q", payload[: len(payload) // 8 * 8])
    if len(lengths) < 2 or lengths[0] != TOKEN_NBYTES or _end(lengths) > nbytes:
        corrupt(f"its frame claims parts of {list(lengths[:4])} bytes in {nbytes:,}")
    return [(start, start + length) for start, length in zip(_starts(lengths), lengths, strict=True)]


def _starts(lengths: Sequence[int]) -> Iterator[int]:
    start = 0
    for length in lengths:
        yield start
        start += -(-length // _ALIGNMENT) * _ALIGNMENT


def _end(lengths: Sequence[int]) -> int:
    """Where the last part ends; parts without bytes at the end do not count."""
    return max(start + length if length else 0 for start, length in zip(_starts(lengths), lengths, strict=True))
