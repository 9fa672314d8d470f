"""Extents: which pages of which blocks make up the body of a composed array, and laying them into one range.

What a composed array stores in place of its body is a table of extents. They follow each other without gaps and cover the
body in whole pages; each names one of the blocks that the array refers to, a page in it, and how many pages.

What is read from a table is checked hard before anything is mapped: a hostile one is ``PlaneCorrupt``.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...errors import PlaneCorrupt, PlaneFull
from ...manifest import PAGES
from ...system import PAGE_NBYTES, Mapping, own, round_to_pages

if TYPE_CHECKING:
    from ...manifest import BlockFacts
    from .segments import SegmentMemory

__all__ = ["MAX_EXTENTS", "Compositions", "Extent", "extents_of", "lay_extents", "pack_extents", "pages_of"]

#: arrays whose mappings are kept; each may be of up to 4,096 pieces
_MOST_COMPOSED = 8
#: each is a mapping in every process that has the array open; the kernel allows 65,530 of them in all
MAX_EXTENTS = 2048

_EXTENT = struct.Struct("<III")


class Compositions:
    """Read-only mappings of the bodies of arrays whose pages lie in several blocks, kept like those of segments."""

    def __init__(self, memory: SegmentMemory) -> None:
        self._memory = memory
        self._known: OrderedDict[tuple[int, int], Mapping] = OrderedDict()
        self._mutex = threading.Lock()
        memory.kept.append(self._known)

    def get(self, facts: BlockFacts) -> Mapping:
        """The mapping of a block that the caller leases."""
        key = (facts.row, facts.generation)
        found = self._known.get(key)
        if found is None:
            try:
                found = self._compose(facts)
            except own(PlaneFull):
                # Out of mappings: let go of those that nobody uses and try once more.
                self._memory.drop()
                found = self._compose(facts)
            with self._mutex:
                self._known[key] = found
                if len(self._known) > _MOST_COMPOSED:
                    self._known.popitem(last=False)
        return found

    def _compose(self, facts: BlockFacts) -> Mapping:
        extents = extents_of(self._memory, facts)
        mapping = Mapping(facts.body_nbytes)
        lay_extents(self._memory, mapping, facts, extents)
        return mapping

    def after_fork(self) -> None:
        """In a child: another thread of the parent may have held the mutex."""
        self._mutex = threading.Lock()


class Extent(NamedTuple):
    """Pages of the body, as they lie in one block."""

    source: int  #: which of the blocks that are referred to
    first: int  #: page of that block
    pages: int


def pages_of(nbytes: int) -> int:
    """How many pages hold ``nbytes``."""
    return -(-nbytes // PAGE_NBYTES)


def pack_extents(extents: Sequence[Extent]) -> bytes:
    return b"".join(_EXTENT.pack(*extent) for extent in extents)


def extents_of(memory: SegmentMemory, facts: BlockFacts) -> list[Extent]:
    """The extents of an array; one that is not composed is its own only source."""
    if not facts.references:
        return [Extent(0, 0, pages_of(facts.body_nbytes))]
    stored = memory.readable(facts).view[facts.offset : facts.offset + facts.stored_nbytes]
    if len(stored) % _EXTENT.size or not 0 < len(stored) <= MAX_EXTENTS * _EXTENT.size:
        _refuse(facts, f"its table of extents has {len(stored)} B")
    extents = list(map(Extent._make, _EXTENT.iter_unpack(stored)))
    _check(facts, extents)
    return extents


def _check(facts: BlockFacts, extents: list[Extent]) -> None:
    limits = [_limit(source) for source in facts.references]
    missing = pages_of(facts.body_nbytes)
    for source, first, pages in extents:
        if source >= len(limits) or first >= limits[source] or not 0 < pages <= limits[source] - first:
            _refuse(facts, f"an extent shows {pages} pages from {first} of block {source} of {len(limits)}")
        if pages > missing:
            _refuse(facts, "its extents are longer than its body")
        missing -= pages
    if missing:
        _refuse(facts, "its extents are shorter than its body")


def _limit(source: BlockFacts) -> int:
    """How many pages of a block can be shown; its segment is larger than they are."""
    if source.in_slab or source.offset:
        return 0
    nbytes = source.stored_nbytes if source.kind == PAGES else round_to_pages(source.body_nbytes)
    return min(nbytes, source.segment_nbytes) // PAGE_NBYTES


def _refuse(facts: BlockFacts, found: str) -> None:
    raise PlaneCorrupt(
        f"block {facts.name!r} (version {facts.version}) cannot be put together: {found}. Its memory was written over: "
        f"delete it.",
        name=facts.name,
    )


def lay_extents(
    memory: SegmentMemory, mapping: Mapping, facts: BlockFacts, extents: Sequence[Extent], *, private: bool = False
) -> None:
    """Lay an array's pages over a range, which then shows its body."""
    sources = facts.references or (facts,)
    pieces: dict[int, list[tuple[int, Extent]]] = {}
    for position, extent in _placed(extents):
        pieces.setdefault(extent.source, []).append((position, extent))
    base = _source_in_place(pieces)
    if base >= 0:
        # Laid whole and first; what is not shown of it is laid over.
        pages = min(mapping.nbytes // PAGE_NBYTES, _limit(sources[base]))
        pieces = {base: [(0, Extent(base, 0, pages))], **{key: some for key, some in pieces.items() if key != base}}
    for number, some in pieces.items():
        source = sources[number]
        # One descriptor at a time, closed by a single call into C: Ctrl-C must not come between.
        fd = memory.open_segment(source.segment_id, source.segment_nbytes)
        try:
            with memory.translated("mapping a block"):
                for position, (_, first, pages) in some:
                    at, offset = position * PAGE_NBYTES, first * PAGE_NBYTES
                    mapping.lay(fd, pages * PAGE_NBYTES, at=at, offset=offset, private=private)
        finally:
            os.close(fd)


def _source_in_place(pieces: dict[int, list[tuple[int, Extent]]]) -> int:
    """A block whose pages all lie where they did: laying it whole, once, saves half of the calls. -1: there is none."""
    in_place = [source for source, some in pieces.items() if all(position == extent.first for position, extent in some)]
    return max(in_place, key=lambda source: len(pieces[source]), default=-1)


def _placed(extents: Sequence[Extent]) -> Iterator[tuple[int, Extent]]:
    """Each extent with the page of the body where it stands."""
    position = 0
    for extent in extents:
        yield position, extent
        position += extent.pages
