"""From a message to its value. It never raises: an exception where the standard library unpickles would break the pool.

Buffers lie in private copy-on-write mappings of blocks, which keep the block's lease until the last of them is garbage:
nothing is copied but the pages that are written, and writing reaches nobody. Also not another buffer of the same message: those
that are, or overlap, the same piece of a block lie in mappings of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, Any, Protocol

from ..codecs import open_body
from ..plane import attach_handle, lease_at
from .message import Failure, Message, Place, Slice, Span
from .packing import unpack

if TYPE_CHECKING:
    from ..plane import Lease, PrivateBody

__all__ = ["images_of_spans", "lease_of", "read"]

#: of one message; a process has 65,530 mappings at most
_MOST_IMAGES = 256


class Side(Protocol):
    """The process that reads, as far as it comes to the blocks of a message."""

    def take(self, place: Place) -> Lease:
        """The block that was made for the message."""

    def take_slice(self, source: Slice) -> Lease:
        """The block of a slice; asked for once for each block."""

    def open_image(self, lease: Lease) -> PrivateBody:
        """A private image of a block's body, for buffers to lie in."""


def read(message: Message, side: Side) -> Any:
    """The value of a message, or a ``Failure``."""
    try:
        return _read(message, side)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the task's, and not the pool's
        return Failure(error)


def _read(message: Message, side: Side) -> Any:
    import numpy as np

    stream, place, sources, _ = message
    own: Any = None
    if place is not None:
        lease = side.take(place)
        if not sources and isinstance(stream, Span):
            # What is in the pickle is copied out of it, so the block's own pages will do.
            lease.open()
            return unpack(_part(open_body(lease), stream), ())
        own = np.frombuffer(side.open_image(lease).view, np.uint8)
    slices = [source for source in sources if isinstance(source, Slice)]
    shown = iter(_apart(slices, side, opened=own is not None))
    buffers = []
    for source in sources:
        if isinstance(source, Span):
            buffers.append(_part(own, source))
        else:
            buffers.append(next(shown) if isinstance(source, Slice) else source)
    return unpack(_part(own, stream).data if isinstance(stream, Span) else stream, buffers)


def _apart(slices: list[Slice], side: Side, *, opened: int) -> list[Any]:
    """The memory of each slice, in private images that it shares with none that overlaps it.

    Args:
        opened: how many images of the message there are already.
    """
    import numpy as np

    buffers: list[Any] = [None] * len(slices)
    of_block: dict[tuple[Any, ...], list[int]] = {}
    for number, one in enumerate(slices):
        of_block.setdefault((one.root, one.plane, one.instance, one.place), []).append(number)
    for numbers in of_block.values():
        lease = side.take_slice(slices[numbers[0]])
        spans = [Span(slices[number].offset, slices[number].nbytes) for number in numbers]
        chosen = images_of_spans(spans, max(1, _MOST_IMAGES - opened))
        needed = 1 + max(number for number in chosen if number is not None)
        bodies = [np.frombuffer(side.open_image(lease).view, np.uint8) for _ in range(needed)]
        opened += needed
        for number, span, image in zip(numbers, spans, chosen, strict=True):
            buffers[number] = _part(bodies[0], span).copy() if image is None else _part(bodies[image], span)
    return buffers


def images_of_spans(spans: Sequence[Span], most: int) -> list[int | None]:
    """In which image each span is to be, so that none overlaps another of the same image; as few images as will do.

    None: there would be more than ``most``, so it is copied.
    """
    chosen: list[int | None] = [None] * len(spans)
    ends: list[tuple[int, int]] = []  # a heap: where the last span of each image ends, and the image
    for number in sorted(range(len(spans)), key=spans.__getitem__):
        start, nbytes = spans[number]
        if ends and ends[0][0] <= start:
            image = heapreplace(ends, (start + nbytes, ends[0][1]))[1]
        elif len(ends) < most:
            image = len(ends)
            heappush(ends, (start + nbytes, image))
        else:
            continue
        chosen[number] = image
    return chosen


def _part(body: Any, span: Span) -> Any:
    found = body[span.start : span.start + span.nbytes]
    if len(found) != span.nbytes:
        raise ValueError(
            f"a part of {span.nbytes:,} B at {span.start:,} is not in {len(body):,} B: memory was written over"
        )
    return found


def lease_of(source: Slice, here: Any) -> Lease:
    """The block of a slice, or ``StaleHandle``; ``here``: the attachment in which it most likely is."""
    if (source.instance, source.plane, source.root) == (here.instance, here.name, here.root):
        return lease_at(here, *source.place)
    block = attach_handle(source.root, source.plane, source.instance, *source.place, None, trust_pickle=False)
    return block._open()
