"""Leases that the compiled core takes, with the lock for no longer than it needs to set a word; None: ask under the lock.

The object of a lease is there before its word is set: the core enters it among the leases, so that no other thread of this
process comes in between, and what is not taken means nothing when it is garbage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .claims import Lease, Tracked, claims_of

if TYPE_CHECKING:
    from ...manifest import BlockFacts
    from ..process.attachment import Attachment

__all__ = ["lease_again", "lease_by_core"]


def lease_by_core(attachment: Attachment, name: bytes) -> tuple[Lease, Tracked, int, int] | None:
    """``lease_current``; what the block's row says is read before (see ``Reader.peek``)."""
    found = None if attachment.core is None else attachment.reader.peek(name)
    if found is None:
        return None
    name_row, word, facts = found
    leases = claims_of(attachment).leases
    if facts.row in leases:
        return None  # which most often means that its lease lives
    lease = lease_again(attachment, facts, name_row=name_row, word=word)
    return None if lease is None else (lease, leases[facts.row], name_row, word)


def lease_again(attachment: Attachment, facts: BlockFacts, *, name_row: int, word: int) -> Lease | None:
    """The lease of a block whose facts are known, if its name still points to it."""
    core = attachment.core
    if core is None or attachment.suspect or attachment.gone or attachment.owed:
        return None
    lease = Lease(attachment, facts)
    tracked = Tracked(lease, claims_of(attachment), key=facts.row)
    is_taken = core.lease(name_row, word, facts.row, facts.moves, facts.segment_id, tracked)
    return lease if is_taken else None
