"""``Builder``, ``Buffer`` and mutable arrays: writing straight into shared memory.

The first two write through a shared mapping of a segment whose row is CREATING. Before the row leaves that state, whichever
way, the range is laid over: with a private image of the same memory when it is published, with nothing otherwise. So an array
that the user kept goes on working and never again reaches shared memory. A private image shows later writes to pages it
has not copied, so it holds the lease of its block until its last view is garbage.

The pages themselves go back before that to a mapping of the segment that the library keeps, and from there to the next
buffer: one that is needed again and again is faulted in once.

A mutable array is one piece of memory that all processes read and write at once, with a name, leases and accounting. It has
no versions and no snapshots: whoever shares one guards it with a lock of the plane, or stores single words. A ``put`` under
its name replaces the name's block like any other; arrays taken before stay with the old memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from ...codecs import Description, Encoded, describe, encode
from ...errors import ClosedError, Conflict, PlaneFull, PlaneMismatch
from ...manifest import KIND_CODES, KINDS, SMALL_NBYTES, Contents, Transaction
from ...names import check_block_name, check_count
from ...system import Mapping, Pages, class_nbytes, ignoring, own, reserve
from ..memory.open_memory import OpenMemory
from ..memory.sinks import FileSink
from .block import Block
from .claims import Creation, Lease, abandon_creation, claims_of
from .missing import no_such_block
from .publish import Prepared, begin, contents_of, describe_contents, publish, retry_after_reclaim
from .putting import put
from .target import Target

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..process.attachment import Attachment

__all__ = ["Buffer", "Builder", "begin_backed", "make_buffer", "make_builder", "open_mutable"]

#: room for the frame behind a buffer whose dtype is not known yet
_FRAME_ROOM_NBYTES = 1024
_ZEROS = bytes(256 * 1024)


def begin_backed(attachment: Attachment, target: Target, nbytes: int, in_memory: bool = False) -> Creation:
    """A CREATING row with a segment every page of which has memory, so that stores to it cannot be SIGBUS.

    Args:
        in_memory: and not in the spill directory, whatever is full.
    """
    creation = begin(attachment, target, nbytes, in_memory=in_memory)
    try:
        if creation.place.fresh:
            attachment.memory.create_backed(creation.place)
        else:
            attachment.memory.back(creation.place)
    except BaseException:
        abandon_creation(attachment, creation)
        raise
    return creation


def model_of(shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """An array in C order that has this shape and dtype, and no elements of its own.

    Raises:
        ValueError, TypeError: there is no such array.
    """
    import numpy as np

    element: npt.NDArray[Any] = np.empty((), np.dtype(dtype))
    try:
        return np.broadcast_to(element, shape)
    except own(ValueError, TypeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        message = f"there can be no array of shape {shape!r} and dtype {element.dtype}: {error}"
        raise kind(message) from error


class _Writing:
    """A segment that this process is writing, from reservation to publication."""

    def __init__(self, attachment: Attachment, target: Target, nbytes: int, pages: Pages | None) -> None:
        self.attachment = attachment
        self.pid = attachment.lock.pid
        self._is_shared = False  #: whether the range surely shows the segment, so that its pages can be kept
        self.creation: Creation | None = retry_after_reclaim(attachment, begin_backed, attachment, target, nbytes)
        place = self.creation.place
        try:
            if place.fresh:
                # The file is whole: what is discarded stays warm, as for buffers that come and go.
                attachment.change(_finish_segment, place.segment_row)
            self.pages = pages if pages is not None else reserve(place.nbytes, writable=True)
            self.mapping = Mapping(min(len(self.pages), place.nbytes), writable=True, pages=self.pages)
            self.memory = OpenMemory(place, self.pages, self.mapping.nbytes, keeps=self.creation)
        except BaseException:
            abandon_creation(attachment, self.creation)
            raise
        try:
            # Known before there is anything to see: a fork by another thread makes what it finds here private. And kept
            # by the pages: while an array of them can be written, the row stays ours, also when the builder is garbage.
            self.pages.kept = self.memory
            attachment.open_memory.add(self.memory)
            attachment.memory.lay_over(self.mapping, place)
            self._is_shared = True
            self._check_process()  # a child that was forked before it was laid has just laid it
        except BaseException:
            self._abandon(self.creation)
            raise

    def publish(self, contents: Contents, target: Target) -> Lease:
        creation = self._take()
        attachment, memory = self.attachment, self.attachment.memory
        try:
            memory.write_tail(creation.place, contents)
            if not creation.place.fresh:
                # It is being used over and over: the next time its pages are there.
                self._keep_pages()
            self._is_shared = False
            self.memory.make_private(memory.path(creation.place.segment_id, creation.place.is_spilled))
            # Not before it is private: a child of a fork in between would write into what becomes the block.
            attachment.open_memory.discard(self.memory)
            lease = publish(attachment, target, Prepared(contents, None, creation))
        except BaseException:
            self._abandon(creation)
            raise
        self.pages.kept = lease
        return lease

    def discard(self) -> None:
        if self.creation is None:
            return
        creation, self.creation = self.creation, None
        if self.attachment.lock.pid == self.pid:
            if self.attachment.ended is None:
                self._abandon(creation)
            else:
                self._hide()

    def _take(self) -> Creation:
        creation, self.creation = self.creation, None
        if creation is None:
            raise ClosedError("it was published or discarded already; make another one")
        self._check_process()
        return creation

    def _check_process(self) -> None:
        if self.attachment.lock.pid != self.pid:
            raise ClosedError("it belongs to the process that this one was forked from; make another one here")

    def _abandon(self, creation: Creation) -> None:
        """It will be no block. First nothing shared is left to write to, then the memory is given back."""
        self._hide()
        abandon_creation(self.attachment, creation)

    def _keep_pages(self) -> None:
        is_memory = not self.memory.place.is_spilled
        if is_memory and self._is_shared and self.attachment.lock.pid == self.pid:
            self._is_shared = False
            self.attachment.memory.keep_pages(self.mapping, self.memory.place)

    def _hide(self) -> None:
        self._keep_pages()
        self.mapping.lay_nothing()
        self.attachment.open_memory.discard(self.memory)
        self.pages.kept = None


def _finish_segment(tx: Transaction, segment_row: int) -> None:
    tx.space.finish(segment_row)


class Builder:
    """An array that is written straight into shared memory and published when its ``with`` block ends cleanly.

    An exception inside, or ``discard()``, leaves nothing behind. ``array`` may be kept: afterwards it can still be read and
    written, but writes no longer reach shared memory.
    """

    def __init__(self, attachment: Attachment, name: str, encoded: Encoded, array: Any, writing: Any) -> None:
        self._attachment, self._name = attachment, name
        self._encoded, self._array, self._writing = encoded, array, writing
        self._done = False
        self._block: Block | None = None

    @property
    def array(self) -> npt.NDArray[Any]:
        """Writable; its contents are undefined until they are written."""
        if self._done:
            raise ClosedError(
                f"the builder of {self._name!r} is finished; attach the block to read it", name=self._name
            )
        return self._array  # type: ignore[no-any-return]

    @property
    def block(self) -> Block:
        """The published block, after a clean end."""
        if self._block is None:
            raise ClosedError(f"{self._name!r} is not published yet", name=self._name)
        return self._block

    def publish(self) -> Block:
        """Publish now; the same as leaving the ``with`` block."""
        array = self.array
        target = Target(self._name.encode())
        self._done = True
        if self._writing is None:
            lease = put(self._attachment, encode(array), target)
        else:
            lease = self._writing.publish(contents_of(self._encoded), target)
        self._block = Block(lease)
        return self._block

    def discard(self) -> None:
        """Give the memory back without publishing. Idempotent."""
        self._done = True
        if self._writing is not None:
            self._writing.discard()

    def __enter__(self) -> Self:
        _ = self.array
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is not None:
            self.discard()
        elif not self._done:
            self.publish()


def make_builder(attachment: Attachment, name: str, shape: Any, dtype: Any) -> Builder:
    """A builder for an array in C order; small ones are built privately, since they share their segment."""
    import numpy as np

    encoded = encode(model_of(shape, dtype))
    contents = contents_of(encoded)
    if contents.nbytes <= SMALL_NBYTES:
        return Builder(attachment, name, encode(np.empty((), dtype)), np.zeros(shape, dtype), None)
    writing = _Writing(attachment, Target(name.encode()), contents.nbytes, None)
    array: Any = np.ndarray(shape, dtype, buffer=writing.mapping.view)
    return Builder(attachment, name, encoded, array, writing)


class Buffer(Pages):
    """A writable scratch buffer in warm shared memory; ``len(b)`` is its size in bytes, its contents are undefined.

    Exports the C buffer protocol: ``np.frombuffer(b, "f4")``. ``close()`` or leaving the ``with`` block gives the memory
    back; arrays over it that were kept stay valid but are no longer shared memory.
    """

    _writing: _Writing

    def publish(self, name: str, *, dtype: Any = None, shape: Any = None) -> Block:
        """Make the contents a block without a copy: an array of ``dtype`` and ``shape``, or bytes without them."""
        from ...names import check_block_name

        encoded_name = check_block_name(name)
        contents = _contents_of_buffer(self, dtype, shape)
        if contents.nbytes > self._writing.memory.place.nbytes:
            raise ValueError(f"the description of dtype {dtype} is too large; put a copy instead")
        return Block(self._writing.publish(contents, Target(encoded_name)))

    def close(self) -> None:
        """Give the memory back. Idempotent."""
        self._writing.discard()

    def __enter__(self) -> Self:
        if self._writing.creation is None:
            raise ClosedError("the buffer was published or closed; make another one")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Buffer of {len(self):,} B>"


def _contents_of_buffer(buffer: Buffer, dtype: Any, shape: Any) -> Contents:
    import numpy as np

    if dtype is None and shape is None:
        frame = encode(memoryview(buffer)).frame
        return describe_contents(KIND_CODES["bytes"], len(buffer), frame)
    wanted = np.dtype("u1" if dtype is None else dtype)
    if shape is None:
        if not wanted.itemsize or len(buffer) % wanted.itemsize:
            raise ValueError(f"{len(buffer):,} B are no whole number of {wanted} elements; give a shape")
        shape = (len(buffer) // wanted.itemsize,)
    encoded = encode(model_of(shape, wanted))
    if encoded.nbytes > len(buffer):
        raise ValueError(f"{wanted} of shape {shape} needs {encoded.nbytes:,} B; the buffer has {len(buffer):,}")
    return contents_of(encoded)


def make_buffer(attachment: Attachment, nbytes: int) -> Buffer:
    """A buffer of exactly ``nbytes`` bytes."""
    nbytes = check_count(nbytes, "nbytes is an int")
    if nbytes <= 0:
        raise ValueError(f"a buffer has at least 1 byte, not {nbytes}")
    buffer = reserve(nbytes, writable=True, kind=Buffer)
    try:
        # By size class, so that the next one of about this size finds it warm.
        buffer._writing = _Writing(attachment, Target(None), class_nbytes(nbytes) + _FRAME_ROOM_NBYTES, buffer)
    except own(PlaneFull):
        buffer._writing = _Writing(attachment, Target(None), nbytes + _FRAME_ROOM_NBYTES, buffer)
    return buffer


def open_mutable(attachment: Attachment, name: str, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """The writable array of that name."""
    encoded = check_block_name(name)
    while True:
        lease = attachment.look(_lease, attachment, encoded)
        if lease is not None:
            return _check_and_map(attachment, lease, name, shape, dtype)
        if shape is None:
            raise no_such_block(attachment, encoded, hint="give shape= and dtype= to create it")
        # Somebody else may be faster: then theirs is attached.
        with ignoring(Conflict):
            return _create(attachment, encoded, shape, dtype)


def _lease(tx: Transaction, attachment: Attachment, name: bytes) -> Lease | None:
    row = tx.current(name)[1]
    return claims_of(attachment).lease(tx, attachment, row) if row >= 0 else None


def _check_and_map(attachment: Attachment, lease: Lease, name: str, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    import numpy as np

    if KINDS[lease.facts.kind] != "mutable":
        raise PlaneMismatch(
            f"block {name!r} is of kind {KINDS[lease.facts.kind]}, not mutable; use another name", name=name
        )
    found = describe("array", lease.frame())
    wanted_shape = found.shape if shape is None else np.empty(shape, np.dtype([])).shape
    wanted_dtype = found.dtype if dtype is None else np.dtype(dtype)
    if (wanted_shape, wanted_dtype) != (found.shape, found.dtype):
        raise PlaneMismatch(
            f"mutable {name!r} has shape {found.shape} and dtype {found.dtype}, asked for {wanted_shape} and "
            f"{wanted_dtype}. Leave both out to attach it as it is.",
            name=name,
        )
    pages, array = _map(attachment, lease.facts.segment_id, lease.facts.segment_nbytes, found)
    # The array keeps the pages, and they keep the lease.
    pages.kept = lease
    return array


def _map(attachment: Attachment, segment_id: int, nbytes: int, said: Description) -> tuple[Pages, npt.NDArray[Any]]:
    import numpy as np

    pages = reserve(nbytes, writable=True)
    mapping = Mapping(nbytes, writable=True, pages=pages)
    attachment.memory.lay_segment(mapping, segment_id)
    array: npt.NDArray[Any] = np.ndarray(said.shape or (), said.dtype, buffer=mapping.view)
    return pages, array


def _create(attachment: Attachment, name: bytes, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """Make it, zero-filled; it is mapped before it is published, so that a failure leaves nothing."""
    encoded = encode(model_of(shape, "f8" if dtype is None else dtype))
    contents = contents_of(encoded)._replace(kind=KIND_CODES["mutable"])
    target = Target(name, expected_version=0)
    creation = retry_after_reclaim(attachment, begin_backed, attachment, target, contents.nbytes, True)
    place = creation.place
    try:
        _fill(attachment, place.segment_id, contents, fresh=place.fresh)
        pages, array = _map(attachment, place.segment_id, place.nbytes, describe("array", contents.frame))
        pages.kept = publish(attachment, target, Prepared(contents, None, creation))
    except BaseException:
        abandon_creation(attachment, creation)
        raise
    return array


def _fill(attachment: Attachment, segment_id: int, contents: Contents, *, fresh: bool) -> None:
    fd = attachment.memory.open_writable(segment_id)
    sink = FileSink(fd, attachment.name)
    try:
        if not fresh:
            for start in range(0, contents.body_nbytes, len(_ZEROS)):
                sink.write(start, memoryview(_ZEROS)[: contents.body_nbytes - start])
        sink.write(contents.body_nbytes, contents.tail())
    finally:
        os.close(fd)
