"""Publishing blocks that refer to others: parts and the block that shows them go live in one transaction.

Everything is prepared first. What is small is rendered, to be copied into a cell by the transaction itself; what is
large is written to a segment whose row is CREATING. So the transaction either publishes all of it under the name, or
nothing; and whatever ends a process in between leaves rows that nobody stands for, which recovery frees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...manifest import SMALL_NBYTES
from ..memory.segments import MappedSink
from .writing import Publication, begin, fill_segment, make_slab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...codecs import Encoded, Sink
    from ...manifest import Contents, Transaction
    from ..process.attachment import Attachment
    from ..process.leases import Creation, Lease

__all__ = ["Prepared", "StoredBytes", "Target", "give_up", "prepare", "publish_prepared", "publish_rows"]


class StoredBytes:
    """Bytes that are a body already, with the frame that says how to read it."""

    __slots__ = ("_data", "frame", "kind", "nbytes")
    frame: bytes
    kind: str

    def __init__(self, kind: str, frame: bytes, data: Any) -> None:
        self.kind, self.frame, self._data = kind, frame, data
        self.nbytes: int = len(data)

    def write_to(self, sink: Sink) -> None:
        if self.nbytes:
            sink.write(0, self._data)


class Prepared(NamedTuple):
    """A block that lacks only its publication."""

    contents: Contents
    payload: bytearray | None  #: rendered, for a cell
    creation: Creation | None  #: written, in a segment of its own


class Target(NamedTuple):
    """The name to publish under, and the row of the block that it has to point to still; -1: it has to be absent."""

    name: bytes
    row: int


def prepare(attachment: Attachment, contents: Contents, body: Encoded) -> Prepared:
    """Render or write a block; ``give_up`` what is not published."""
    if contents.nbytes <= SMALL_NBYTES:
        payload = bytearray(contents.nbytes)
        body.write_to(MappedSink(memoryview(payload)))
        payload[contents.nbytes - len(contents.frame) :] = contents.frame
        return Prepared(contents, payload, None)
    creation = begin(attachment, Publication(None), contents.nbytes)
    try:
        fill_segment(attachment, creation, body, contents)
    except BaseException:
        attachment.give_up(creation)
        raise
    return Prepared(contents, None, creation)


def give_up(attachment: Attachment, *prepared: Prepared | None) -> None:
    """Take back what was prepared and not published."""
    for one in prepared:
        if one is not None and one.creation is not None:
            attachment.give_up(one.creation)


def publish_prepared(
    attachment: Attachment,
    target: Target,
    block: Prepared,
    *,
    parts: Sequence[Prepared] = (),
    references: Sequence[int] = (),
) -> Lease:
    """Publish ``block``, which refers to ``references`` and then ``parts``; ``Conflict`` when the name moved on.

    The caller leases what keeps the rows of ``references``.
    """
    while True:
        done = attachment.run(_publish, attachment, target, block, parts, references)
        if not isinstance(done, int):
            return done  # type: ignore[no-any-return]
        make_slab(attachment, done)


def _publish(
    attachment: Attachment, target: Target, block: Prepared, parts: Sequence[Prepared], references: Sequence[int]
) -> Lease | int:
    tx = attachment.tx
    name_row = tx.check_unmoved(target.name, target.row)
    return publish_rows(attachment, name_row, block, parts=parts, references=references, like=target.row)


def publish_rows(
    attachment: Attachment,
    name_row: int,
    block: Prepared,
    *,
    parts: Sequence[Prepared],
    references: Sequence[int],
    like: int = -1,
) -> Lease | int:
    """Under the lock: everything goes live, or a slab for so many bytes is missing and nothing was changed.

    Args:
        like: the row of the version before, which says whether this one is evictable too.
    """
    tx = attachment.tx
    rows: list[int] = []
    try:
        for prepared in (*parts, block):
            row = _take_row(attachment, prepared)
            if row < 0:
                _return_rows(tx, rows)
                return len(prepared.payload or b"")
            rows.append(row)
    except BaseException:
        _return_rows(tx, rows)
        raise
    *part_rows, row = rows
    for part_row, part in zip(part_rows, parts, strict=True):
        tx.fill(part_row, part.contents)
        tx.publish_part(part_row)
    tx.fill(row, block.contents, evictable=like >= 0 and bool(tx.blocks.evictable[like]))
    publish = tx.publish_small if block.creation is None else tx.publish
    publish(row, name_row, lease=True, references=[*references, *part_rows])
    for prepared in (*parts, block):
        if prepared.creation is not None:
            attachment.creations.pop(prepared.creation.key)
    return attachment.new_lease(tx.facts(row))


def _take_row(attachment: Attachment, prepared: Prepared) -> int:
    """The row of a block: its creation's, or one whose cell now has its bytes; -1: its class needs a slab."""
    if prepared.creation is not None:
        attachment.check_own(prepared.creation)
        return prepared.creation.row
    tx, payload = attachment.tx, prepared.payload
    assert payload is not None  # noqa: S101 - says what the call's arguments make sure of
    row = tx.begin_small(len(payload))
    if row >= 0:
        try:
            segment, offset = tx.blocks.segment[row] - 1, tx.blocks.offset[row]
            mapping = attachment.memory.writable(tx.segments.id[segment], tx.segments.nbytes[segment])
            mapping.view[offset : offset + len(payload)] = payload
        except BaseException:
            tx.return_small(row)
            raise
    return row


def _return_rows(tx: Transaction, rows: list[int]) -> None:
    for row in rows:
        if tx.blocks.cell[row] and not tx.blocks.state[row]:
            tx.return_small(row)
