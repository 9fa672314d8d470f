"""What goes through the pipe: a small pickle, or where its bytes are; and a block as the executor lays it out.

The body of a block is ``[token][part][part]...``: the pickle, when it is large, and the buffers. The message says where each
is. The token says which executor a block belongs to, so that those which nobody will read can be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..codecs import Sink, seal, unseal
from ..system import PAGE_NBYTES

if TYPE_CHECKING:
    from ..plane import Presence
    from .packing import Packed

__all__ = [
    "EncodedParts", "Failure", "LaidOut", "Message", "Origin", "Place", "Slice", "Span", "in_pipe", "lay_out", "token_in",
]  # fmt: skip

TOKEN_NBYTES = 8
_FRAME = seal(b"P", b"")
_ALIGNMENT = 64
#: a part of so many bytes begins a page: which pages were written then says which part was
_PAGED_NBYTES = 64 * 1024


class Origin(NamedTuple):
    """The process that a worker works for, and how it wants its results: what a worker is told when it starts."""

    root: str
    plane: str
    instance: int
    presence: Presence
    token: bytes
    threshold: int
    pickler: str
    pid: int


class Place(NamedTuple):
    """A block, by what nobody else ever has."""

    row: int
    generation: int


class Span(NamedTuple):
    """A part of the block that was made for the message."""

    start: int  #: B into the body
    nbytes: int


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
        stream: the pickle, or where it is.
        place: of the block that was made for this value, if any.
        sources: for each buffer that the pickle wants: which part of the block it is, a slice of another block, or the
            bytes themselves, when there was no room for a block.
        piped: B that were to be in a block.
    """

    stream: bytes | Span
    place: Place | None = None
    sources: tuple[Span | Slice | bytearray, ...] = ()
    piped: int = 0


class Failure:
    """What was read when a value could not be: it is raised, or becomes the exception, where the value was wanted."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class EncodedParts:
    """The parts of a block, ready to be written; each is a sequence of pieces of bytes."""

    __slots__ = ("_parts", "_token", "nbytes", "spans")
    kind = "pickle"
    whole = None
    frame: bytes = _FRAME

    def __init__(self, token: bytes, parts: Sequence[Sequence[Any]]) -> None:
        self._token, self._parts = token, parts
        self.spans: list[Span] = []
        end = TOKEN_NBYTES
        for part in parts:
            nbytes = sum(len(piece) for piece in part)
            alignment = _ALIGNMENT if nbytes < _PAGED_NBYTES else PAGE_NBYTES
            start = -(-end // alignment) * alignment
            self.spans.append(Span(start, nbytes))
            if nbytes:
                end = start + nbytes
        self.nbytes: int = end

    def write_to(self, sink: Sink) -> None:
        sink.write(0, self._token)
        end = TOKEN_NBYTES
        for part, (start, nbytes) in zip(self._parts, self.spans, strict=True):
            if not nbytes:
                continue
            if start > end:
                sink.write(end, bytes(start - end))
            for piece in part:
                if len(piece):
                    sink.write(start, piece)
                    start += len(piece)
            end = start


class LaidOut(NamedTuple):
    """A value, ready to be sent."""

    encoded: EncodedParts | None  #: None: it needs no block
    stream: bytes | Span
    sources: tuple[Span | Slice, ...]


def lay_out(packed: Packed, elsewhere: Sequence[Slice | None], token: bytes, threshold: int) -> LaidOut:
    """What of a value goes into a block, and where.

    Args:
        elsewhere: for each buffer where it is already; None: it is to be copied.
        threshold: from how many bytes on the pickle goes there, too.
    """
    is_large = packed.nbytes >= threshold
    parts: list[list[Any]] = [packed.stream] if is_large else []
    parts += [[left.raw] for left, found in zip(packed.buffers, elsewhere, strict=True) if found is None]
    encoded = EncodedParts(token, parts) if parts else None
    spans = iter(encoded.spans if encoded is not None else ())
    stream = next(spans) if is_large else b"".join(packed.stream)
    return LaidOut(encoded, stream, tuple(next(spans) if found is None else found for found in elsewhere))


def in_pipe(packed: Packed, elsewhere: Sequence[Slice | None]) -> Message:
    """A value for which there is no room: its bytes are in the message, but for what is elsewhere."""
    sources = tuple(found or bytearray(left.raw) for left, found in zip(packed.buffers, elsewhere, strict=True))
    piped = packed.nbytes + sum(len(source) for source in sources if isinstance(source, bytearray))
    return Message(b"".join(packed.stream), None, sources, piped)


def token_in(frame: bytes, body: memoryview) -> bytes:
    """The token of a block; ``PlaneCorrupt`` when it is none of an executor's."""
    unseal(b"P", frame)
    return bytes(body[:TOKEN_NBYTES])
