"""Small items, in and out of a queue's ring: most puts and gets of a queue that is busy, without the plane's lock.

Rule 1. Nobody is overtaken: while somebody stands in line, or when a block is the next item, ``queue_claims`` has the call.
Rule 2. Who puts an entry in looks then whether somebody stands in line, and wakes him; who gets into line looks then whether
there is an entry. So one of them sees the other; what the order of memory hides from both is seen 0.1 s later.
Rule 3. An entry that was taken by a call that fails is put back, where it was.
Rule 4. When there is nothing, a call looks for some µs more before it stands in line: what is put in a stream comes sooner
than a process is woken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ...codecs import CODECS, CopiedMemory, Encoded, EncodedBytes, present
from ...errors import PlaneFull
from ...manifest import AWAITED, DONE, KIND_CODES, KINDS, LARGEST_PAYLOAD_NBYTES, NOT_OURS, RING_NBYTES, NeedSlab
from ...system import Busy, Lost, ignoring, own
from ..blocks.build import begin_backed
from ..blocks.claims import Creation, abandon_creation
from ..blocks.publish import Prepared, StoredBytes, describe_contents, prepare_small, publish_in
from ..blocks.slabs import make_slab_in
from ..blocks.target import ANYWHERE
from .waiting import settle

if TYPE_CHECKING:
    from ...manifest import Entry, Transaction
    from ..process.attachment import Attachment
    from .lines import LocalLine
    from .ring_ends import RingEnds

__all__ = ["MISSING", "EntryClaim", "entry_as_block", "get_entry", "make_ring", "put_entry"]

MISSING = object()
_BYTES = KIND_CODES["bytes"]
#: seconds of looking on after each try, by whether the call waits at all
_SPINS = (0.0,), (60e-6, 0.0)
_DONE = (DONE, AWAITED)


class RingLine(Protocol):
    """A queue, as who uses its ring sees it."""

    maxsize: int
    _attachment: Attachment
    _takers: LocalLine
    _putters: LocalLine

    def _row(self, tx: Transaction) -> int:
        """The row of the queue."""

    def _wake_next(self, *, of_puts: bool) -> None:
        """Somebody waits for what was just done."""


# Putting


def put_entry(queue: RingLine, value: bytes | Encoded, *, waits: bool) -> bool:
    """Put a value into the ring, if it can be done in a moment; False: it was not.

    Args:
        value: encoded, or ``bytes``, which need no frame.
    """
    ends, attachment = queue._takers.ends, queue._attachment
    if ends is None or attachment.ended is not None or attachment.owed:
        return False
    kind, body, frame = (_BYTES, value, b"") if isinstance(value, bytes) else _parts_of(value)
    if len(body) + len(frame) > LARGEST_PAYLOAD_NBYTES or kind < 0:
        return False
    putters = queue._putters.row
    for seconds in _SPINS[waits]:
        try:
            done = attachment.lock.run_apart(ends.putting, ends.ring.put, kind, body, frame, queue.maxsize, putters)
        except own(Busy, Lost):
            break
        if done == AWAITED:
            queue._wake_next(of_puts=False)
        if done in _DONE:
            return True
        if done == NOT_OURS or not (seconds and ends.ring.changes_soon(seconds)):
            break
    return False


def _parts_of(encoded: Encoded) -> tuple[int, bytes, bytes]:
    """Kind, body and frame; a negative kind: it is written in pieces, as no entry is."""
    if encoded.whole is None or encoded.nbytes > LARGEST_PAYLOAD_NBYTES:
        return -1, b"", b""
    return KIND_CODES[encoded.kind], b"".join((encoded.whole,)), encoded.frame


# Taking


class EntryClaim:
    """An entry on its way to a caller; what ``owed`` gives back.

    Attributes:
        is_taken: it is in the ring no longer (see ``Taker``).
    """

    __slots__ = ("_attachment", "_queue_row", "ends", "entry", "is_taken")

    def __init__(self, attachment: Attachment, ends: RingEnds, queue_row: int) -> None:
        self._attachment, self.ends, self._queue_row = attachment, ends, queue_row
        self.entry: Entry | None = None
        self.is_taken = False

    def value(self) -> Any:
        """The value, on private memory; as for a block, arrays and bytes are read-only."""
        entry = self.entry
        assert entry is not None  # noqa: S101 - it was taken
        if entry.kind == _BYTES:
            return memoryview(entry.body)
        kind = KINDS[entry.kind]
        return present(kind, CODECS[kind].open(entry.frame, CopiedMemory(entry.body), ()))

    def undo(self, tx: Transaction) -> None:
        """It waits again, where it was. Again: does nothing."""
        entry, queue, ends = self.entry, self._queue_row, self.ends
        if entry is None or not self.is_taken or not ends.ring.is_current:
            return
        if self._attachment.lock.run_beneath(ends.getting, ends.ring.restore, entry, self) is True:
            tx.coordination.offer(queue)
            return
        # Others have taken what was behind it: as a block, then.
        row = _publish_in_any_case(tx, self._attachment, entry_as_block(entry))
        tx.items.add_returned(queue, row, entry.number, self)
        tx.release(row)


def get_entry(queue: RingLine, *, waits: bool) -> Any:
    """The next value, if it is in the ring and can be had in a moment; else ``MISSING``."""
    ends, attachment = queue._takers.ends, queue._attachment
    if ends is None or attachment.ended is not None or attachment.owed:
        return MISSING
    claim = EntryClaim(attachment, ends, queue._takers.row)
    try:
        putters = queue._putters.row if queue.maxsize else -1
        for seconds in _SPINS[waits]:
            done = attachment.lock.run_apart(ends.getting, ends.ring.take, claim, putters)
            if done == AWAITED:
                queue._wake_next(of_puts=True)
            if done in _DONE:
                return claim.value()
            if done == NOT_OURS or not (seconds and ends.ring.changes_soon(seconds)):
                break
    except own(Busy, Lost):
        return MISSING
    except BaseException:
        # Without a call before the append, which is C code: a second interrupt finds it done.
        attachment.owed.append(claim)
        settle(attachment)
        raise
    return MISSING


# From and to blocks


def entry_as_block(entry: Entry) -> Prepared:
    """A block of the same value, rendered."""
    if entry.kind == _BYTES:
        return prepare_small(EncodedBytes(entry.body, len(entry.body)))
    return prepare_small(StoredBytes(KINDS[entry.kind], entry.frame, entry.body))


def _publish_in_any_case(tx: Transaction, attachment: Attachment, prepared: Prepared) -> int:
    try:
        return publish_in(tx, attachment, -1, prepared)
    except own(NeedSlab) as need:
        make_slab_in(tx, attachment, need.nbytes)
        return publish_in(tx, attachment, -1, prepared)


# Making


def make_ring(queue: RingLine) -> None:
    """Give a queue a ring, unless another process was faster or there is no room, without which it works as well."""
    attachment = queue._attachment
    with ignoring(PlaneFull):
        creation = begin_backed(attachment, ANYWHERE, RING_NBYTES, True)
        try:
            attachment.change(_give_ring, queue, creation)
        finally:
            abandon_creation(attachment, creation)


def _give_ring(tx: Transaction, queue: RingLine, creation: Creation) -> None:
    attachment, queue_row = queue._attachment, queue._row(tx)
    if tx.items.wants_ring(queue_row):
        contents = describe_contents(_BYTES, RING_NBYTES, b"")
        row = publish_in(tx, attachment, -1, Prepared(contents, None, creation))
        tx.items.give_ring(queue_row, row)
        tx.release(row)
