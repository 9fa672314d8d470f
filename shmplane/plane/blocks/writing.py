"""Putting values: reserve under the lock, write outside it, publish under the lock.

A small block is rendered outside the lock and copied into its cell within the one transaction that publishes it. A larger
one gets a segment: a fresh file is filled by ``pwrite`` (its pages are then neither zeroed nor faulted in first), a warm
one through the mapping that this process still has of it, at the speed of a copy into warm memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from math import inf
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zlib import crc32

from ...errors import PlaneFull
from ...manifest import KIND_CODES, SMALL_NBYTES, Contents
from ...names import check_block_name
from ...system import own
from ..memory.segments import FileSink, MappedSink, translate
from ..process.reclaim import reap_dead
from ..process.upkeep import free_segment_rows

if TYPE_CHECKING:
    from ...codecs import Encoded
    from ..process.attachment import Attachment
    from ..process.leases import Creation, Lease

__all__ = [
    "Publication",
    "begin",
    "check_publication",
    "contents_of",
    "fill_segment",
    "make_slab",
    "publish",
    "put",
    "retry_after_reclaim",
]

_MOST_ROWS_AT_ONCE = 3  #: that one call takes: of pages or rows, of a table's description, of the block itself
_LONGEST_LINGER_S = 1e9  #: thirty years, which fit a word


class Publication(NamedTuple):
    """Under which name, on which condition, and what the caller wants back."""

    name: bytes | None
    expected_version: int | None = None
    linger_ns: int = 0
    lease: bool = True
    evictable: bool = False


def check_publication(name: str | None, *, expected_version: int | None, linger: float, evictable: bool) -> Publication:
    """What a caller of ``put`` asks for, or ``TypeError`` or ``ValueError``."""
    encoded_name = None if name is None else check_block_name(name)
    if not 0 <= linger < inf:
        raise ValueError(f"linger is a finite time of 0 or more seconds, not {linger}")
    if expected_version is not None:
        if name is None:
            raise ValueError("an anonymous block has no version to expect; give it a name, or no expected_version")
        expected_version = index(expected_version)
        if expected_version < 0:
            raise ValueError(f"versions count from 1, and 0 means absent; expected_version is {expected_version}")
    linger_ns = int(min(linger, _LONGEST_LINGER_S) * 1e9) if name is None else 0
    return Publication(encoded_name, expected_version, linger_ns, evictable=evictable)


def contents_of(encoded: Encoded) -> Contents:
    return Contents(KIND_CODES[encoded.kind], encoded.nbytes, encoded.frame, crc32(encoded.frame))


def put(attachment: Attachment, encoded: Encoded, publication: Publication) -> Lease | None:
    """Copy a value in and publish it; the lease on it, if one was wanted."""
    contents = contents_of(encoded)
    put_it = _put_small if contents.nbytes <= SMALL_NBYTES else _put_large
    lease = put_it(attachment, encoded, contents, publication)
    if lease is not None:
        lease.keep_frame(contents.frame)
    return lease


def retry_after_reclaim(attachment: Attachment, attempt: Callable[[], Any]) -> Any:
    """Once more when the plane is full, after what dead processes held has come back."""
    try:
        return attempt()
    except own(PlaneFull) as full:
        attachment.run(_reclaim, attachment, full)
        return attempt()


def _reclaim(attachment: Attachment, full: PlaneFull) -> None:
    space, needed = attachment.tx.space, full.facts.get("needed", 0)
    reap_dead(attachment)
    attachment.tx.expire()
    if "errno" in full.facts:
        # The file system is full although the capacity is not: what is warm helps more as free memory.
        space.cool(space.recycled_nbytes())
    if "max_segments" in full.facts:
        free_segment_rows(attachment)
    rows = _MOST_ROWS_AT_ONCE if "max_blocks" in full.facts else 0
    attachment.tx.evict(needed - space.free_nbytes() - space.recycled_nbytes(), rows)


# Small blocks


def _put_small(attachment: Attachment, encoded: Encoded, contents: Contents, publication: Publication) -> Lease | None:
    payload = bytearray(contents.nbytes)
    encoded.write_to(MappedSink(memoryview(payload)))
    payload[contents.nbytes - len(contents.frame) :] = contents.frame
    while True:
        try:
            done, lease = attachment.run(_put_in_cell, attachment, payload, contents, publication)
            if done:
                return cast("Lease | None", lease)
            make_slab(attachment, contents.nbytes)
        except own(PlaneFull) as full:
            attachment.run(_reclaim, attachment, full)
            break
    # Once more, after what dead processes held has come back; now it counts.
    while True:
        done, lease = attachment.run(_put_in_cell, attachment, payload, contents, publication)
        if done:
            return cast("Lease | None", lease)
        make_slab(attachment, contents.nbytes)


def _put_in_cell(
    attachment: Attachment, payload: bytearray, contents: Contents, publication: Publication
) -> tuple[bool, Lease | None]:
    """One transaction: a cell, its bytes, its row, its name. False when the class needs a slab first."""
    tx, (name, expected, linger_ns, wants_lease, evictable) = attachment.tx, publication
    name_row = -1
    if name is not None:
        tx.check_version(name, expected)
        name_row = tx.name_row(name)
    row = tx.begin_small(len(payload))
    if row < 0:
        return False, None
    segment, offset = tx.blocks.segment[row] - 1, tx.blocks.offset[row]
    try:
        mapping = attachment.memory.writable(tx.segments.id[segment], tx.segments.nbytes[segment])
    except BaseException:
        tx.return_small(row)
        raise
    mapping.view[offset : offset + len(payload)] = payload
    tx.fill(row, contents, evictable=evictable)
    if name is None:
        tx.publish_anonymous_small(row, linger_ns)
    else:
        tx.publish_small(row, name_row, lease=wants_lease)
    return True, attachment.new_lease(tx.facts(row)) if wants_lease else None


def make_slab(attachment: Attachment, nbytes: int) -> None:
    """One more slab for blocks of this size."""
    creation = attachment.run(_begin_slab, attachment, nbytes)
    try:
        attachment.memory.create_backed(creation.place)
    except BaseException:
        attachment.give_up(creation)
        raise
    attachment.run(_finish_slab, attachment, creation)


def _begin_slab(attachment: Attachment, nbytes: int) -> Creation:
    return attachment.new_creation(-1, attachment.tx.space.make_slab_for(nbytes))


def _finish_slab(attachment: Attachment, creation: Creation) -> None:
    attachment.check_own(creation)
    attachment.creations.pop(creation.key)
    attachment.tx.space.finish_slab(creation.place.segment_row)


# Larger blocks


def begin(attachment: Attachment, publication: Publication, nbytes: int) -> Creation:
    """A CREATING row with a segment for ``nbytes``; conditions that can fail early do."""

    def attempt() -> Any:
        return attachment.run(_begin_large, attachment, publication, nbytes)

    creation: Creation = retry_after_reclaim(attachment, attempt)
    return creation


def _begin_large(attachment: Attachment, publication: Publication, nbytes: int) -> Creation:
    tx = attachment.tx
    if publication.name is not None:
        tx.check_version(publication.name, publication.expected_version)
        tx.name_row(publication.name)
    row, place = tx.begin_large(nbytes)
    return attachment.new_creation(row, place)


def _put_large(attachment: Attachment, encoded: Encoded, contents: Contents, publication: Publication) -> Lease | None:
    def attempt() -> Lease | None:
        creation = begin(attachment, publication, contents.nbytes)
        try:
            fill_segment(attachment, creation, encoded, contents)
            return publish(attachment, creation, contents, publication)
        except BaseException:
            attachment.give_up(creation)
            raise

    lease: Lease | None = retry_after_reclaim(attachment, attempt)
    return lease


def fill_segment(attachment: Attachment, creation: Creation, encoded: Encoded, contents: Contents) -> None:
    """Write a body and the frame behind it."""
    place, memory = creation.place, attachment.memory
    warm = None if place.fresh else memory.warm(place.segment_id)
    # Another size can only come from tables that somebody wrote over.
    if warm is not None and warm.nbytes >= place.nbytes:
        encoded.write_to(MappedSink(warm.view))
        tail = contents.tail()
        start = contents.stored_nbytes
        warm.view[start : start + len(tail)] = tail
        return
    fd = memory.create(place) if place.fresh else memory.open_for_filling(place)
    try:
        sink = FileSink(fd)
        encoded.write_to(sink)
        sink.write(contents.stored_nbytes, contents.tail())
    except own(OSError) as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO):
            raise translate(error, f"writing {contents.nbytes:,} B") from error
        raise
    finally:
        os.close(fd)
    if not place.fresh:
        # It is being used over and over: from the next time on it is filled through a mapping.
        memory.keep_for_filling(place)


def publish(attachment: Attachment, creation: Creation, contents: Contents, publication: Publication) -> Lease | None:
    """A written creation becomes a live block."""
    lease: Lease | None = attachment.run(_publish, attachment, creation, contents, publication)
    return lease


def _publish(attachment: Attachment, creation: Creation, contents: Contents, publication: Publication) -> Lease | None:
    tx, (name, expected, linger_ns, wants_lease, evictable) = attachment.tx, publication
    name_row = -1
    attachment.check_own(creation)
    if name is not None:
        tx.check_version(name, expected)
        name_row = tx.name_row(name)
    tx.fill(creation.row, contents, evictable=evictable)
    if name is None:
        tx.publish_anonymous(creation.row, linger_ns)
    else:
        tx.publish(creation.row, name_row, lease=wants_lease)
    attachment.creations.pop(creation.key)
    return attachment.new_lease(tx.facts(creation.row)) if wants_lease else None
