"""From a message to its value. It never raises: an exception where the standard library unpickles would break the pool.

Buffers lie in one private copy-on-write mapping of the block, which keeps the block's lease until the last of them is garbage:
nothing is copied but the pages that are written, and writing reaches nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..codecs import open_body
from ..plane import attach_handle, image_of, lease_at
from .message import Failure, Message, Place, Slice, Span
from .packing import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..plane import Lease, PrivateBody

__all__ = ["lease_of", "read"]


def read(
    message: Message,
    take: Callable[[Place], Lease],
    take_slice: Callable[[Slice], Lease],
    images: list[PrivateBody] | None = None,
) -> Any:
    """The value of a message, or a ``Failure``.

    Args:
        take: leases the block that was made for the message.
        take_slice: leases the block of a slice.
        images: is given those that buffers lie in.
    """
    try:
        return _read(message, take, take_slice, [] if images is None else images)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the task's, and not the pool's
        return Failure(error)


def _read(
    message: Message,
    take: Callable[[Place], Lease],
    take_slice: Callable[[Slice], Lease],
    images: list[PrivateBody],
) -> Any:
    import numpy as np

    stream, place, sources, _ = message
    own: Any = None
    if place is not None:
        lease = take(place)
        if not sources and isinstance(stream, Span):
            # What is in the pickle is copied out of it, so the block's own pages will do.
            lease.open()
            return unpack(_part(open_body(lease), stream), ())
        images.append(image_of(lease))
        own = np.frombuffer(images[-1].view, np.uint8)
    others: dict[Place, Any] = {}
    buffers = []
    for source in sources:
        if isinstance(source, Span):
            buffers.append(_part(own, source))
        elif isinstance(source, Slice):
            whole = others.get(source.place)
            if whole is None:
                images.append(image_of(take_slice(source)))
                whole = others[source.place] = np.frombuffer(images[-1].view, np.uint8)
            buffers.append(_part(whole, Span(source.offset, source.nbytes)))
        else:
            buffers.append(source)
    return unpack(_part(own, stream).data if isinstance(stream, Span) else stream, buffers)


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
