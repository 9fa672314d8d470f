"""Putting what is not in memory yet: written while it is read, into a segment that grows with it.

The segment is a new one, and MAKING until it is published: nobody else has mapped it, so its size may change. What it is
to have is accounted for before it is written, and what it has too much in the end is given back: so the plane is full for
a stream when it is full for its bytes. Whatever ends it before it is published leaves a row that is CREATING, as with any
other block.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import PlaneFull
from ...manifest import KIND_CODES, SMALL_NBYTES
from ...system import own, set_size
from ..memory.sinks import FileSink
from .claims import abandon_creation, claims_of
from .publish import Prepared, begin, describe_contents, publish, put, retry_after_reclaim

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ...codecs import TableStream
    from ...manifest import Contents, Transaction
    from ..process.attachment import Attachment
    from .claims import Creation, Lease
    from .target import Target

__all__ = ["put_stream"]

_FIRST_NBYTES = 1 << 20


def put_stream(attachment: Attachment, stream: TableStream, target: Target) -> Lease:
    """Read a stream, write it and publish it; the lease on it."""
    small = stream.all_within(SMALL_NBYTES)
    if small is not None:
        return put(attachment, small, target)
    file = _GrowingFile(attachment, target)
    try:
        try:
            written = stream.stream_to(file)
            contents = describe_contents(KIND_CODES[stream.kind], written.nbytes, written.frame)
            file.finish(contents)
        finally:
            file.close()
        lease = publish(attachment, target, Prepared(contents, None, file.creation))
    except BaseException:
        abandon_creation(attachment, file.creation)
        raise
    lease.known_frame = contents.frame
    return lease


class _GrowingFile:
    """The segment of a block whose size nobody knows yet: a ``Sink``.

    Attributes:
        nbytes: what is accounted for.
    """

    def __init__(self, attachment: Attachment, target: Target) -> None:
        self._attachment = attachment
        self.creation: Creation = retry_after_reclaim(attachment, _begin, attachment, target)
        place = self.creation.place
        self.nbytes: int = place.nbytes
        try:
            self._fd = attachment.memory.create(place)
        except BaseException:
            abandon_creation(attachment, self.creation)
            raise
        self._sink = FileSink(self._fd, attachment.memory.plane)

    def write(self, offset: int, data: Buffer) -> None:
        end = offset + memoryview(data).nbytes
        if end > self.nbytes:
            self._grow(end)
        retry_after_reclaim(self._attachment, self._sink.write, offset, data)

    def _grow(self, needed: int) -> None:
        """By an eighth, so that there are few steps; when that is too much, to what is needed."""
        try:
            self._resize(max(needed, self.nbytes + self.nbytes // 8 + _FIRST_NBYTES))
        except own(PlaneFull):
            retry_after_reclaim(self._attachment, self._resize, needed)

    def _resize(self, nbytes: int) -> None:
        self.nbytes = self._attachment.change(_resize, self._attachment, self.creation, nbytes)

    def finish(self, contents: Contents) -> None:
        """Write the frame behind the body; from now on the file has the size that its row says."""
        self.write(contents.stored_nbytes, contents.tail())
        self._resize(contents.nbytes)
        with self._attachment.memory.translated("cutting a segment to its size"):
            set_size(self._fd, self.nbytes)

    def close(self) -> None:
        os.close(self._fd)


def _begin(attachment: Attachment, target: Target) -> Creation:
    return begin(attachment, target, _FIRST_NBYTES, fresh=True)


def _resize(tx: Transaction, attachment: Attachment, creation: Creation, nbytes: int) -> int:
    claims_of(attachment).check_own(tx, creation)
    return tx.space.resize_unfinished(creation.place.segment_row, nbytes)
