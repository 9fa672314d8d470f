"""From a message to its value. It never raises: an exception where the standard library unpickles would break the pool.

Buffers lie in one private copy-on-write mapping of the block, which keeps the block's lease until the last of them is garbage:
nothing is copied but the pages that are written, and writing reaches nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..codecs import open_body
from ..plane import attach_handle, private_body
from .message import Failure, Message, Place, Slice, parts_of
from .packing import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..plane import Lease

__all__ = ["lease_of", "pieces_of", "read"]


def read(
    message: bytes | Message, take: Callable[[Place], Lease], take_slice: Callable[[Slice], Lease] | None = None
) -> Any:
    """The value of a message or of a pickle, or a ``Failure``.

    Args:
        take: leases the block that was made for the message.
        take_slice: leases the block of a slice.
    """
    try:
        if isinstance(message, bytes):
            return unpack(message, ())
        return _read(message, take, take_slice or lease_of)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the task's, and not the pool's
        return Failure(error)


def _read(message: Message, take: Callable[[Place], Lease], take_slice: Callable[[Slice], Lease]) -> Any:
    stream, place, sources, _ = message
    lease = None if place is None else take(place)
    if lease is not None and stream is None and not sources:
        # What is in the pickle is copied out of it, so the block's own pages will do.
        return unpack(pieces_of(lease)[1], ())
    own = [] if lease is None else _writable(lease)
    others: dict[Place, Any] = {}
    buffers = []
    for source in sources:
        if isinstance(source, Slice):
            whole = others.get(source.place)
            if whole is None:
                whole = others[source.place] = _bytes_of(take_slice(source))
            buffers.append(whole[source.offset : source.offset + source.nbytes])
        else:
            buffers.append(own[source] if isinstance(source, int) else source)
    return unpack(own[1].data if stream is None else stream, buffers)


def pieces_of(lease: Lease) -> list[memoryview]:
    """The parts of a block, read-only."""
    lease.open()
    body = open_body(lease)
    return [body[start:end] for start, end in parts_of(lease.frame(), body.nbytes)]


def _writable(lease: Lease) -> list[Any]:
    """The parts of a block in one private mapping, as arrays of bytes."""
    body = _bytes_of(lease)
    return [body[start:end] for start, end in parts_of(lease.frame(), len(body))]


def _bytes_of(lease: Lease) -> Any:
    import numpy as np

    lease.open()
    return np.frombuffer(private_body(lease), np.uint8)


def lease_of(source: Slice) -> Lease:
    """The block of a slice, or ``StaleHandle``."""
    block = attach_handle(source.root, source.plane, source.instance, *source.place, None, trust_pickle=False)
    return block._open()
