"""Puts that return a lease, and large ones: by the core as far as that can.

A small value is put by it in one transaction, a large one in two, with the copy in between. What is not plain there, Python
does; of a large value it goes on with what was reserved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ...manifest import KIND_CODES, NO_FACTS, SMALL_NBYTES, facts_of_published
from ..process.fast import wait_for_core
from .claims import Lease, claims_of
from .large import put_by_core
from .overflow import overflowing
from .publish import Prepared, abandon, contents_of, publish_one, store, write_segment
from .target import ANYWHERE, Target

if TYPE_CHECKING:
    from ...codecs import Encoded
    from ..process.attachment import Attachment

__all__ = ["put", "put_large"]


def put(attachment: Attachment, encoded: Encoded, target: Target) -> Lease:
    """Copy a value in and publish it; the lease on it."""
    lease = cast("Lease | None", _put_by_core(attachment, encoded, target))
    if lease is None:
        lease = store(attachment, target, contents_of(encoded), encoded)
    lease.known_frame = encoded.frame
    return lease


def _put_by_core(attachment: Attachment, encoded: Encoded, target: Target) -> Lease | bool | None:
    """The same, by the core where that can: under a name, and without any condition or time."""
    core, whole, name = attachment.core, encoded.whole, target.name
    if core is None or whole is None or name is None or target[1:] != ANYWHERE[1:] or attachment.suspect or overflowing:
        return None
    if encoded.nbytes + len(encoded.frame) > SMALL_NBYTES:
        return put_large(attachment, encoded, name, wants_lease=True)
    # The object is there before the block: the core enters it among the leases, so no thread of this process comes in between.
    # One that gets the block at once finds facts of another version, and reads those of this one.
    lease = Lease(attachment, NO_FACTS)
    kind, frame, lease.nbytes = encoded.kind, encoded.frame, encoded.nbytes
    wanted = name, whole, frame, KIND_CODES[kind], claims_of(attachment).track(lease, -1)
    published = core.put(*wanted)
    if published is False:
        published = wait_for_core(attachment, core, "put", *wanted)
    if not published:
        del wanted  # before the lease: nobody need hear that it is garbage
        return None
    lease.facts = facts_of_published(published, name, kind, lease.nbytes, frame)
    return lease


def put_large(attachment: Attachment, encoded: Encoded, name: bytes, *, wants_lease: bool) -> Lease | bool | None:
    """A large value under a name, by the core as far as it can; None: nothing was stored."""
    done = put_by_core(attachment, encoded, name, wants_lease=wants_lease)
    if not isinstance(done, tuple):
        return done
    creation, is_written = done
    block = Prepared(contents_of(encoded), None, creation)
    try:
        if not is_written:
            write_segment(attachment, creation.place, encoded, block.contents)
        return publish_one(attachment, Target(name), block, (), (), wants_lease) or True
    except BaseException:
        abandon(attachment, block)
        raise
