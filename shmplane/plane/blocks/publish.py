"""Publishing: from an encoded value to a live block, the one way there is.

First it is prepared, outside the lock: what is small is rendered, to be copied into a cell by the transaction itself; what
is large is written to a segment whose row is CREATING. Then one transaction publishes it under its name, with the parts
that it shows, or changes nothing. What is not published is abandoned; whatever ends a process in between leaves rows that
nobody stands for, which recovery frees.

A fresh segment is filled by ``pwrite`` (its pages are then neither zeroed nor faulted in first), a warm one through a mapping
that this process keeps of it, at the speed of a copy into warm memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, TypeVarTuple, cast
from zlib import crc32

from ...manifest import KIND_CODES, SMALL_NBYTES, Contents, NeedSlab, Place, Transaction, expire_some
from ...system import own
from ..memory.sinks import FileSink, MappedSink
from .claims import Creation, Lease, abandon_creation, claims_of
from .large import publish_by_core, reserve_by_core
from .overflow import is_overflowing, overflowing
from .room import retry_after_reclaim
from .slabs import make_slab
from .target import ANYWHERE, Target

if TYPE_CHECKING:
    from ...codecs import Encoded, Sink
    from ..process.attachment import Attachment

__all__ = [
    "Prepared",
    "StoredBytes",
    "abandon",
    "begin",
    "contents_of",
    "describe_contents",
    "prepare",
    "prepare_small",
    "publish",
    "publish_in",
    "publish_one",
    "put_unleased",
    "retry_after_reclaim",
    "store",
    "with_slabs",
    "write_segment",
]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")
_GAPS = [bytes(nbytes) for nbytes in range(8)]  #: between body and frame
_WORTH_DRAINING = 8


class Prepared(NamedTuple):
    """A block that lacks only its publication."""

    contents: Contents
    payload: bytes | bytearray | None  #: rendered, for a cell
    creation: Creation | None  #: written, in a segment of its own


class StoredBytes:
    """Bytes that are a body already, with the frame that says how to read it."""

    __slots__ = ("frame", "kind", "nbytes", "whole")
    frame: bytes
    kind: str

    def __init__(self, kind: str, frame: bytes, data: Any) -> None:
        self.kind, self.frame, self.whole = kind, frame, data
        self.nbytes: int = len(data)

    def write_to(self, sink: Sink) -> None:
        if self.nbytes:
            sink.write(0, self.whole)


def describe_contents(kind: int, body_nbytes: int, frame: bytes, *, stored_nbytes: int | None = None) -> Contents:
    """What a block holds; ``stored_nbytes`` when not the body stands before the frame but what says who has it."""
    stored = body_nbytes if stored_nbytes is None else stored_nbytes
    return Contents(kind, body_nbytes, frame, crc32(frame), stored, (stored + 7 & ~7) + len(frame))


def contents_of(encoded: Encoded) -> Contents:
    """What a block of this value holds."""
    nbytes, frame = encoded.nbytes, encoded.frame
    return Contents(KIND_CODES[encoded.kind], nbytes, frame, crc32(frame), nbytes, (nbytes + 7 & ~7) + len(frame))


# From a value to a block


def put_unleased(attachment: Attachment, encoded: Encoded, target: Target) -> None:
    """The same without a lease: nothing in this process keeps the block."""
    retry_after_reclaim(attachment, _store_once, attachment, target, contents_of(encoded), encoded, False)


def store(
    attachment: Attachment,
    target: Target,
    contents: Contents,
    body: Encoded,
    *,
    parts: Sequence[Encoded] = (),
    references: Sequence[int] = (),
    own_segment: bool = False,
) -> Lease:
    """Prepare and publish a block that refers to ``references`` and then ``parts``: all of it, or nothing.

    Args:
        own_segment: although it is small enough to share one.
    """
    lease = retry_after_reclaim(
        attachment, _store_once, attachment, target, contents, body, True, parts, references, own_segment
    )
    return cast("Lease", lease)


def _store_once(  # noqa: PLR0917 - of ``put`` and ``store``, passed on
    attachment: Attachment,
    target: Target,
    contents: Contents,
    body: Encoded,
    wants_lease: bool,
    parts: Sequence[Encoded] = (),
    references: Sequence[int] = (),
    own_segment: bool = False,
) -> Lease | None:
    prepared: list[Prepared] = []
    try:
        for part in parts:
            prepared.append(prepare(attachment, contents_of(part), part))  # noqa: PERF401 - what is there is abandoned
        block = prepare(attachment, contents, body, target, own_segment=own_segment)
        prepared.append(block)
        return publish_one(attachment, target, block, prepared[:-1], references, wants_lease)
    except BaseException:
        abandon(attachment, *prepared)
        raise


# Preparing, outside the lock


def prepare(
    attachment: Attachment, contents: Contents, body: Encoded, target: Target = ANYWHERE, *, own_segment: bool = False
) -> Prepared:
    """Render or write a block; ``abandon`` it unless it is published. Conditions of ``target`` that can fail early do."""
    if contents.nbytes <= SMALL_NBYTES and not own_segment and not (overflowing and _overflows(attachment, target)):
        return Prepared(contents, _render(contents, body), None)
    creation = begin(attachment, target, contents.nbytes, in_memory=own_segment)
    try:
        write_segment(attachment, creation.place, body, contents)
    except BaseException:
        abandon_creation(attachment, creation)
        raise
    return Prepared(contents, None, creation)


def prepare_small(body: Encoded) -> Prepared:
    """The same for what lies in memory and is small, also under the lock: nothing has to be abandoned."""
    contents = contents_of(body)
    return Prepared(contents, _render(contents, body), None)


def _render(contents: Contents, body: Encoded) -> bytes | bytearray:
    """Body, gap and frame, as they will lie in the cell."""
    if body.whole is not None:
        return b"".join((body.whole, _GAPS[-contents.stored_nbytes & 7], contents.frame))
    payload = bytearray(contents.nbytes)
    body.write_to(MappedSink(memoryview(payload)))
    payload[contents.nbytes - len(contents.frame) :] = contents.frame
    return payload


def begin(
    attachment: Attachment, target: Target, nbytes: int, *, fresh: bool = False, in_memory: bool = False
) -> Creation:
    """A CREATING row with a segment for ``nbytes``.

    Args:
        fresh: a new one, whose size may change.
        in_memory: and not in the spill directory, whatever is full.
    """
    creation = None if fresh else reserve_by_core(attachment, target, nbytes)
    if creation is not None:
        return creation
    is_spilled = bool(overflowing) and not in_memory and _overflows(attachment, target)
    return attachment.change(_begin, attachment, target, nbytes, fresh, is_spilled)


def _overflows(attachment: Attachment, target: Target) -> bool:
    """Whether the block is to go to the spill directory. What is evictable does not."""
    return not target.group and is_overflowing(attachment)


def _begin(  # noqa: PLR0917 - an operation, called by position
    tx: Transaction, attachment: Attachment, target: Target, nbytes: int, fresh: bool, is_spilled: bool
) -> Creation:
    if target.name is not None:
        tx.check_version(target.name, target.expected_version)
        tx.name_row(target.name)
    if target.group:
        tx.eviction.check_room(target.group - 1, nbytes)
    return claims_of(attachment).new_creation(*tx.begin_large(nbytes, fresh=fresh, spilled=is_spilled))


def write_segment(attachment: Attachment, place: Place, body: Encoded, contents: Contents) -> None:
    """Write a body and the frame behind it."""
    memory = attachment.memory
    warm = None if place.fresh else memory.to_fill(place)
    if warm is not None:
        core = attachment.core  # once: another thread may end the attachment
        if core is not None:
            core.know(place.segment_row, place.segment_id, warm.address, warm.nbytes, warm)
        body.write_to(MappedSink(warm.view))
        tail = contents.tail()
        warm.view[contents.stored_nbytes : contents.stored_nbytes + len(tail)] = tail
        return
    fd = memory.create(place) if place.fresh else memory.open_for_filling(place)
    try:
        sink = FileSink(fd, memory.plane)
        body.write_to(sink)
        sink.write(contents.stored_nbytes, contents.tail())
    finally:
        os.close(fd)


def abandon(attachment: Attachment, *prepared: Prepared) -> None:
    """What was prepared will not be published."""
    for one in prepared:
        if one.creation is not None:
            abandon_creation(attachment, one.creation)


# Publishing, in one transaction


def publish(
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
    return cast("Lease", publish_one(attachment, target, block, parts, references, True))


def publish_one(  # noqa: PLR0917 - of ``publish``, and puts
    attachment: Attachment,
    target: Target,
    block: Prepared,
    parts: Sequence[Prepared],
    references: Sequence[int],
    wants_lease: bool,
) -> Lease | None:
    if block.creation is not None and not parts and not references:
        done = publish_by_core(attachment, target, block.contents, block.creation, wants_lease=wants_lease)
        if done is not None:
            return done if isinstance(done, Lease) else None
    return with_slabs(attachment, _publish, attachment, target, block, parts, references, wants_lease)


def with_slabs(attachment: Attachment, operation: Callable[[Transaction, *Ts], R], *args: *Ts) -> R:
    """A transaction that takes cells: again when a class had no slab with a free one."""
    while True:
        try:
            return attachment.add(operation, *args)
        except own(NeedSlab) as need:
            # Among what is garbage there may be a cell. Of a little each cell would be asked for in this way, every time.
            if len(attachment.garbage) < _WORTH_DRAINING or not attachment.drain():
                make_slab(attachment, need.nbytes)


def _publish(  # noqa: PLR0917 - an operation, called by position: this is in every put
    tx: Transaction,
    attachment: Attachment,
    target: Target,
    block: Prepared,
    parts: Sequence[Prepared] = (),
    references: Sequence[int] = (),
    wants_lease: bool = True,
) -> Lease | None:
    name, expected_version, base, linger_ns, ttl_ns, kept_for, group, cost = target
    if block.creation is None and attachment.garbage and not tx.space.has_cell_for(block.contents.nbytes):
        attachment.free_garbage(tx)  # among it there may be a cell, and a slab is made for many
    until = 0 if ttl_ns is None else time.monotonic_ns() + ttl_ns
    if name is None:
        name_row = -1
    elif base >= 0:
        name_row = tx.check_unmoved(name, base)
        group, until = tx.blocks.group[base], tx.blocks.until[base]
    else:
        if expected_version is not None:
            tx.check_version(name, expected_version)
        name_row = tx.name_row(name)
    row = publish_in(tx, attachment, name_row, block, parts, references, wants_lease, group, linger_ns, until, cost)
    if kept_for >= 0:
        tx.keep_for(row, kept_for)
    return claims_of(attachment).new_lease(attachment, tx.facts(row)) if wants_lease else None


def publish_in(  # noqa: PLR0917 - as above
    tx: Transaction,
    attachment: Attachment,
    name_row: int,
    block: Prepared,
    parts: Sequence[Prepared] = (),
    references: Sequence[int] = (),
    wants_lease: bool = True,
    group: int = 0,
    linger_ns: int = 0,
    until: int = 0,
    cost: int = 0,
) -> int:
    """Within a transaction: everything goes live; ``NeedSlab`` before anything has changed. Returns the block's row."""
    if group:
        nbytes = block.creation.place.nbytes if block.creation is not None else block.contents.nbytes
        tx.eviction.check_room(group - 1, nbytes)
    if parts:
        *part_rows, row = _rows_of(tx, attachment, [*parts, block])
        for part_row, part in zip(part_rows, parts, strict=True):
            tx.fill(part_row, part.contents)
            tx.publish_part(part_row)
        references = [*references, *part_rows]
    else:
        row = _row_of(tx, attachment, block)
    tx.fill(row, block.contents, group, cost)
    if name_row < 0:
        tx.publish_anonymous(row, linger_ns)
    else:
        tx.publish(row, name_row, wants_lease, references, until)
    for part in parts:
        if part.creation is not None:
            claims_of(attachment).finish(tx, part.creation)
    if block.creation is not None:
        claims_of(attachment).finish(tx, block.creation)
    if tx.header.expiring[0] or tx.header.lingering[0]:
        expire_some(tx)  # last: what this very transaction goes by must not be removed in it
    return row


def _rows_of(tx: Transaction, attachment: Attachment, blocks: Sequence[Prepared]) -> list[int]:
    """The rows of several blocks, or none of them."""
    rows: list[int] = []
    try:
        for block in blocks:
            rows.append(_row_of(tx, attachment, block))  # noqa: PERF401 - those taken so far are returned
    except BaseException:
        for row in rows:
            tx.abandon_small(row)
        raise
    return rows


def _row_of(tx: Transaction, attachment: Attachment, prepared: Prepared) -> int:
    """The row of a block: its creation's, or one whose cell now has its bytes."""
    if prepared.creation is not None:
        claims_of(attachment).check_own(tx, prepared.creation)
        return prepared.creation.row
    nbytes, payload = prepared.contents.nbytes, prepared.payload
    assert payload is not None  # noqa: S101 - what is prepared is rendered or written
    row = tx.begin_small(nbytes)
    try:
        segment, offset = tx.blocks.segment[row] - 1, tx.blocks.offset[row]
        segment_id = tx.segments.id[segment]
        mapping = attachment.memory.writable(segment_id, tx.segments.nbytes[segment])
        mapping.view[offset : offset + nbytes] = payload
        core = attachment.core  # once: another thread may end the attachment
        if core is not None:
            core.know(segment, segment_id, mapping.address, mapping.nbytes, mapping)
    except BaseException:
        tx.abandon_small(row)
        raise
    return row
