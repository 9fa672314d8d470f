"""Blocks as segments of the standard library: ``SharedMemory(name=block.shm_name)`` in any program of the same user.

The segment is flagged first and then gets a second link where the standard library looks. A flagged segment is never used
again, only removed, since another program may have it open read-write and holds no lease. A block that shares a slab, or
is composed of several segments, is first copied to a segment of its own, which lives as long as the ``Block`` it was
asked from.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from zlib import crc32

from ...errors import UnsupportedValue
from ...manifest import Contents
from ...system import link_quietly
from ..memory.segments import FileSink
from .writing import Publication, begin, publish

if TYPE_CHECKING:
    from ..process.attachment import Attachment
    from ..process.leases import Lease

__all__ = ["export"]

_STANDARD_ROOT = "/dev/shm"  # noqa: S108 - where shm_open(3) has its names on Linux


def export(lease: Lease) -> tuple[Lease, str]:
    """The lease whose segment has a name of its own, and that name; makes the link again when somebody removed it."""
    attachment = lease.attachment
    if os.path.realpath(attachment.root) != _STANDARD_ROOT:
        raise UnsupportedValue(
            f"the standard library only finds segments in {_STANDARD_ROOT}; plane {attachment.name!r} is in "
            f"{attachment.root}. Use a plane with root={_STANDARD_ROOT!r}.",
            plane=attachment.name,
            root=attachment.root,
        )
    if lease.facts.in_slab or lease.facts.references:
        lease = _copy(lease)
    facts = lease.facts
    attachment.run(_flag, attachment, facts.row)
    link = attachment.memory.link(facts.segment_id)
    link_quietly(attachment.memory.path(facts.segment_id), link)
    return lease, os.path.basename(link)


def _flag(attachment: Attachment, row: int) -> None:
    attachment.tx.segments.exported[attachment.tx.blocks.segment[row] - 1] = 1


def _copy(lease: Lease) -> Lease:
    """The same bytes in a segment of their own, as an anonymous block."""
    attachment = lease.attachment
    frame, body = lease.flat()
    contents = Contents(lease.facts.kind, body.nbytes, frame, crc32(frame))
    publication = Publication(None)
    creation = begin(attachment, publication, contents.nbytes)
    try:
        place, memory = creation.place, attachment.memory
        fd = memory.create(place) if place.fresh else memory.open_for_filling(place)
        try:
            sink = FileSink(fd)
            sink.write(0, body)
            sink.write(contents.body_nbytes, contents.tail())
        finally:
            os.close(fd)
        copied = publish(attachment, creation, contents, publication)
    except BaseException:
        attachment.give_up(creation)
        raise
    if copied is None:
        raise AssertionError("a publication with a lease returned none")
    return copied
