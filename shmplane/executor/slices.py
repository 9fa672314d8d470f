"""Arguments and results that show a block already: they travel as where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plane import shown_at
from .message import Place, Slice

if TYPE_CHECKING:
    from ..plane import Lease
    from .packing import LeftOut

__all__ = ["shown_slice", "slice_of"]


def shown_slice(left: LeftOut) -> tuple[Lease, Slice] | None:
    """The lease that keeps it, and what a buffer is a piece of; None: of nothing that stays as it is."""
    shown = shown_at(left.address, left.raw.nbytes)
    if shown is None:
        return None
    facts = shown.facts
    place = Place(facts.row, facts.generation)
    return shown.lease, slice_of(shown.lease, place, shown.offset, left.raw.nbytes)


def slice_of(lease: Lease, place: Place, offset: int, nbytes: int) -> Slice:
    """A piece of a block in the plane of that lease."""
    attachment = lease.attachment
    return Slice(attachment.root, attachment.name, attachment.instance, place, offset, nbytes, is_kept=False)
