"""Large blocks by the compiled core: the two transactions around the writing of a segment, where both are plain.

Each function asks the core first, and says None where Python has to do it. The object that stands for a row is there before the
row is taken, and the core enters it: so whatever comes in between, no row stands for nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...manifest import KIND_CODES, NO_FACTS, Contents, Place, facts_of_written, is_published, reserved
from ..process.fast import wait_for_core
from .claims import Creation, Lease, claims_of
from .overflow import overflowing
from .target import ANYWHERE, Target

if TYPE_CHECKING:
    from ...codecs import Encoded
    from ..process.attachment import Attachment

__all__ = ["publish_by_core", "put_by_core", "reserve_by_core"]

_PLAIN = ANYWHERE[1:]
#: until the core has said where
_NOWHERE = Place(-1, -1, 0, fresh=False)


def put_by_core(
    attachment: Attachment, encoded: Encoded, name: bytes, *, wants_lease: bool
) -> Lease | tuple[Creation, bool] | bool | None:
    """Put a large value under a name: its lease, or True for who wants none.

    Or, where it could only be reserved, the creation to go on with, and whether it is written.
    """
    core = attachment.core
    if core is None or encoded.whole is None or attachment.suspect or overflowing:
        return None
    claims, kind = claims_of(attachment), KIND_CODES[encoded.kind]
    creation, lease = Creation(-1, _NOWHERE), Lease(attachment, NO_FACTS) if wants_lease else None
    wanted = name, encoded.whole, encoded.frame, kind, claims.track(creation, -1, 0)
    if lease is None:
        said = core.put_large(*wanted)
    else:
        lease.nbytes = encoded.nbytes
        mine = claims.track(lease, -1)
        said = core.put_large(*wanted, mine)
        del mine
    del wanted  # before what it stands for: nobody need hear that this is garbage
    if not isinstance(said, bytes):
        return said or None
    if lease is not None and is_published(said):
        lease.facts = facts_of_written(said, name, kind, encoded.nbytes, encoded.frame)
        return lease
    creation.row, creation.place, is_written = reserved(said)
    return creation, is_written


def reserve_by_core(attachment: Attachment, target: Target, nbytes: int) -> Creation | None:
    """A CREATING row with a warm segment for ``nbytes``."""
    core = attachment.core
    if core is None or attachment.suspect or overflowing or target.expected_version is not None or target.group:
        return None
    creation = Creation(-1, _NOWHERE)
    wanted = target.name or b"", nbytes, claims_of(attachment).track(creation, -1, 0)
    said = core.reserve(*wanted)
    if said is False:
        said = wait_for_core(attachment, core, "reserve", *wanted)
    del wanted  # as above
    if not said:
        return None
    creation.row, creation.place, _ = reserved(said)
    return creation


def publish_by_core(
    attachment: Attachment, target: Target, contents: Contents, creation: Creation, *, wants_lease: bool
) -> Lease | bool | None:
    """Publish what was written: its lease, or True for who wants none."""
    core, name, tracked = attachment.core, target.name, attachment.creating.get(creation.row)
    if core is None or name is None or target[1:] != _PLAIN or attachment.suspect:
        return None
    kind, nbytes, frame, frame_crc, stored_nbytes, all_nbytes = contents
    if stored_nbytes != nbytes or tracked is None or tracked() is not creation:
        return None
    wanted = name, creation.row, kind, nbytes, all_nbytes, len(frame), frame_crc, tracked
    if not wants_lease:
        done = core.publish(*wanted)
        return (wait_for_core(attachment, core, "publish", *wanted) if done is False else done) or None
    lease = Lease(attachment, NO_FACTS)
    lease.nbytes = nbytes
    mine = claims_of(attachment).track(lease, -1)
    published = core.publish(*wanted, mine)
    if published is False:
        published = wait_for_core(attachment, core, "publish", *wanted, mine)
    del mine  # as above
    if not published:
        return None
    lease.facts = facts_of_written(published, name, kind, nbytes, frame)
    return lease
