"""Arguments and results that show a block already: they travel as where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plane import shown_at
from .message import Place, Slice

if TYPE_CHECKING:
    from ..manifest import BlockFacts
    from ..plane import Lease
    from .packing import LeftOut

__all__ = ["place_of", "shown_slice", "slice_of"]


def shown_slice(left: LeftOut) -> tuple[Lease, Slice] | None:
    """The lease that keeps it, and what a buffer is a piece of; None: of nothing that stays as it is."""
    shown = shown_at(left.address, left.raw.nbytes)
    if shown is None:
        return None
    return shown.lease, slice_of(shown.lease, shown.facts, shown.offset, left.raw.nbytes)


def slice_of(lease: Lease, facts: BlockFacts, offset: int, nbytes: int) -> Slice:
    """A piece of a block in the plane of that lease."""
    where = lease.attachment
    return Slice(where.root, where.name, where.instance, place_of(facts), offset, nbytes, is_kept=False)


def place_of(facts: BlockFacts) -> Place:
    """Where a block is, as a message says it."""
    return Place(facts.row, facts.generation)
