"""Blocks as segments of the standard library: ``SharedMemory(name=block.shm_name)`` in any program of the same user.

The segment is flagged first and then gets a second link where the standard library looks. A flagged segment is never used
again, only removed, since another program may have it open read-write and holds no lease. A block that shares a slab, is
composed of several segments, or lies in the spill directory, is first copied to a segment of its own, which lives as long as
the ``Block`` it was asked from.

The directory is everybody's, so each time the name is asked for, it is looked at whether it still is our segment's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import UnsupportedValue
from ...manifest import Transaction
from .publish import StoredBytes, describe_contents, retry_after_reclaim, store
from .target import ANYWHERE

if TYPE_CHECKING:
    from .claims import Lease

__all__ = ["export"]

_STANDARD_ROOT = "/dev/shm"  # noqa: S108 - where shm_open(3) has its names on Linux


def export(lease: Lease) -> tuple[Lease, str]:
    """The lease whose segment has a name of its own, and that name; makes the link again when somebody removed it."""
    attachment = lease.attachment
    if attachment.root != _STANDARD_ROOT and not os.path.samestat(os.stat(attachment.root), os.stat(_STANDARD_ROOT)):
        raise UnsupportedValue(
            f"the standard library only finds segments in {_STANDARD_ROOT}; plane {attachment.name!r} is in "
            f"{attachment.root}. Use a plane with root={_STANDARD_ROOT!r}.",
            plane=attachment.name,
            root=attachment.root,
        )
    if lease.facts.in_slab or lease.facts.references or lease.facts.is_spilled:
        lease = _copy(lease)
    facts = lease.facts
    attachment.change(Transaction.mark_exported, facts.row)
    return lease, os.path.basename(retry_after_reclaim(attachment, attachment.memory.make_link, facts.segment_id))


def _copy(lease: Lease) -> Lease:
    """The same bytes in a segment of their own, as an anonymous block."""
    frame, body = lease.flat()
    contents = describe_contents(lease.facts.kind, body.nbytes, frame)
    stored = StoredBytes(lease.facts.codec, frame, body)
    return store(lease.attachment, ANYWHERE, contents, stored, own_segment=True)
