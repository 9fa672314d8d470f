"""One more slab: a segment whose cells are for blocks of one size, made when a class of sizes has no free cell.

It is begun and finished under the lock and made in between, so that nobody waits for its system calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .claims import Creation, abandon_creation, claims_of

if TYPE_CHECKING:
    from ...manifest import Transaction
    from ..process.attachment import Attachment

__all__ = ["make_slab", "make_slab_in"]


def make_slab(attachment: Attachment, nbytes: int) -> None:
    """One more slab for blocks of this size."""
    creation = attachment.change(_begin_slab, attachment, nbytes)
    try:
        attachment.memory.create_backed(creation.place)
    except BaseException:
        abandon_creation(attachment, creation)
        raise
    attachment.change(_finish_slab, attachment, creation)


def make_slab_in(tx: Transaction, attachment: Attachment, nbytes: int) -> None:
    """The same within a transaction, which its system calls make long: for what cannot be put off."""
    creation = _begin_slab(tx, attachment, nbytes)
    attachment.memory.create_backed(creation.place)
    _finish_slab(tx, attachment, creation)


def _begin_slab(tx: Transaction, attachment: Attachment, nbytes: int) -> Creation:
    return claims_of(attachment).new_creation(-1, tx.space.make_slab_for(nbytes))


def _finish_slab(tx: Transaction, attachment: Attachment, creation: Creation) -> None:
    claims_of(attachment).finish(tx, creation)
    tx.space.finish_slab(creation.place.segment_row)
