"""A worker's private images of blocks, kept from call to call: the next one finds its pages mapped.

Mapping the pages of an argument one by one, and unmapping them, takes as long as copying it twice. The next calls bring the
same segments: blocks of the same argument, or others in memory that is used again. So what a call did not write is kept.

Rule 1. An image is lent to one call: its arrays are over the loan, and the loan keeps the lease. What is kept keeps none.
Rule 2. It is given to the next call when no loan of it lives, and no page of it was written: what it shows is the segment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..plane import PrivateBody, image_of
from ..system import PrivateMapping, is_unwritten

if TYPE_CHECKING:
    from ..plane import Lease

__all__ = ["Images"]

_MOST_KEPT = 8


class Images:
    """Of one worker, which has one call at a time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, PrivateMapping] = OrderedDict()  #: by the segment that each shows from its start

    def open(self, lease: Lease) -> PrivateBody:
        """A private image of a body, for a call."""
        facts = lease.facts
        mapping = self._kept.pop(facts.segment_id, None)
        if mapping is None or mapping.is_lent or len(mapping.pages) < facts.body_nbytes or not is_unwritten(mapping):
            image = image_of(lease)
            if facts.references or facts.is_spilled or not isinstance(image.mapping, PrivateMapping):
                return image
            mapping = image.mapping
            mapping.pages.kept = None  # the loan has it
        return PrivateBody(lease, mapping.lend(lease)[: facts.body_nbytes], mapping)

    def keep(self, images: Sequence[PrivateBody]) -> None:
        """The call is over. What it may still show is found out when it is wanted again; copies of pages are not kept."""
        for lease, _, mapping in images:
            facts = lease.facts
            if isinstance(mapping, PrivateMapping) and mapping.loans and is_unwritten(mapping):
                self._kept[facts.segment_id] = mapping
                self._kept.move_to_end(facts.segment_id)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
