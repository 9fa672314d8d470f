"""Putting what is not in memory yet: written while it is read, into a segment that grows with it.

The segment is a new one, and MAKING until it is published: nobody else has mapped it, so its size may change. What it is
to have is accounted for before it is written, and what it has too much in the end is given back: so the plane is full for
a stream when it is full for its bytes. Whatever ends it before it is published leaves a row that is CREATING, as with any
other block.

Of a file it is known about how large its table will be, so it may be written to a warm segment, which costs a third. That
cannot grow: ``Outgrown`` says that the table is larger, and whoever reads the file begins again without a guess. A new
segment is made a little larger then, so that it fits the next time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import PlaneFull
from ...manifest import KIND_CODES, SMALL_NBYTES, Contents, Transaction
from ...system import own, set_size
from ..memory.sinks import FileSink, MappedSink
from .claims import Creation, Lease, abandon_creation, claims_of
from .publish import Prepared, begin, describe_contents, publish, retry_after_reclaim
from .putting import put

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ...codecs import TableStream
    from ..process.attachment import Attachment
    from .target import Target

__all__ = ["Outgrown", "put_stream"]

_FIRST_NBYTES = 1 << 20
_SPARE = 16  #: a part of the size by which guesses may be wrong


class Outgrown(Exception):
    """A table turned out to be larger than the warm segment that was chosen for it."""


def put_stream(attachment: Attachment, stream: TableStream, target: Target) -> Lease:
    """Read a stream, write it and publish it; the lease on it.

    Raises:
        Outgrown: only of a stream whose share is known: it has to be read again, without that.
    """
    small = stream.all_within(SMALL_NBYTES)
    if small is not None:
        return put(attachment, small, target)
    file = _open(attachment, target, stream.expected_nbytes())
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


def _open(attachment: Attachment, target: Target, expected_nbytes: int | None) -> _GrowingFile | _WarmSegment:
    """Where to write about so many bytes; None: nobody knows how many."""
    spare = 0 if expected_nbytes is None else expected_nbytes // _SPARE
    creation = _begin_expected(attachment, target, (expected_nbytes or 0) + spare // 2) if spare else None
    if creation is None:
        creation = retry_after_reclaim(attachment, _begin, attachment, target)
    try:
        if creation.place.fresh:
            return _GrowingFile(attachment, creation, spare)
        return _WarmSegment(attachment, creation)
    except BaseException:
        abandon_creation(attachment, creation)
        raise


def _begin_expected(attachment: Attachment, target: Target, nbytes: int) -> Creation | None:
    """With a segment for a size that may be wrong: nothing has to go for it."""
    try:
        return begin(attachment, target, nbytes)
    except own(PlaneFull):
        return None


class _WarmSegment:
    """A segment that is filled again, up to its end: a ``Sink``."""

    def __init__(self, attachment: Attachment, creation: Creation) -> None:
        self.creation: Creation = creation
        self._memory, self._place = attachment.memory, creation.place
        warm = self._memory.to_fill(creation.place)
        self._fd = -1
        if warm is not None:
            self._sink: MappedSink | FileSink = MappedSink(warm.view)
        else:
            self._fd = self._memory.open_for_filling(creation.place)
            self._sink = FileSink(self._fd, self._memory.plane)

    def write(self, offset: int, data: Buffer) -> None:
        if offset + memoryview(data).nbytes > self._place.nbytes:
            raise Outgrown
        self._sink.write(offset, data)

    def finish(self, contents: Contents) -> None:
        """Write the frame behind the body."""
        if contents.nbytes > self._place.nbytes:
            raise Outgrown
        self._sink.write(contents.stored_nbytes, contents.tail())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class _GrowingFile:
    """The segment of a block whose size nobody knows yet: a ``Sink``.

    Attributes:
        nbytes: what is accounted for.
    """

    def __init__(self, attachment: Attachment, creation: Creation, spare: int) -> None:
        self._attachment = attachment
        self._spare = spare
        self.creation: Creation = creation
        self.nbytes: int = creation.place.nbytes
        self._fd = attachment.memory.create(creation.place)
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
        try:
            self._resize(contents.nbytes + self._spare)
        except own(PlaneFull):
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
