"""Arguments and results that show a block already: they travel as where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plane import shown_at
from .message import Place, Slice
from .packing import address_of

if TYPE_CHECKING:
    from ..plane import Lease

__all__ = ["shown_slice"]


def shown_slice(raw: memoryview) -> tuple[Lease, Slice] | None:
    """The lease that keeps it, and what a buffer is a piece of; None: of nothing that stays as it is."""
    shown = shown_at(address_of(raw), raw.nbytes)
    if shown is None:
        return None
    attachment, facts = shown.lease.attachment, shown.facts
    where = (attachment.root, attachment.name, attachment.instance)
    return shown.lease, Slice(*where, Place(facts.row, facts.generation), shown.offset, raw.nbytes, is_kept=False)
