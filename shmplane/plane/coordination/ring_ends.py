"""A queue's ring, as this process sees it, with the locks of its two ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...system import OfdRange

if TYPE_CHECKING:
    from ...manifest import Ring, Transaction
    from ..process.attachment import Attachment

__all__ = ["RingEnds", "ring_ends"]

_PUT_BYTE, _GET_BYTE = 1, 2  #: of the lock's file, and two more for each queue; the first is the plane's own


class RingEnds:
    """A ring, and the locks of its two ends."""

    __slots__ = ("getting", "putting", "ring")

    def __init__(self, ring: Ring, queue: int) -> None:
        self.ring: Ring = ring
        self.putting: OfdRange = OfdRange(-1, _PUT_BYTE + 2 * queue)
        self.getting: OfdRange = OfdRange(-1, _GET_BYTE + 2 * queue)


def ring_ends(tx: Transaction, attachment: Attachment, queue: int) -> RingEnds | None:
    """Those of the queue of that row; None: it has no ring."""
    if not tx.items.has_ring(queue):
        return None
    segment = tx.blocks.segment[tx.items.ring_row(queue)] - 1
    mapping = attachment.memory.writable(tx.segments.id[segment], tx.segments.nbytes[segment])
    return RingEnds(tx.items.ring(queue, mapping.view), queue)
