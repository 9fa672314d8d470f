"""Extents: which pages of which blocks make up the body of a composed array, and laying them into one range.

What a composed array stores in place of its body is a table of extents. They follow each other without gaps and cover the
body in whole pages; each names one of the blocks that the array refers to, a page in it, and how many pages.

What is read from a table is checked hard before anything is mapped: a hostile one is ``PlaneCorrupt``.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PlaneCorrupt
from ..manifest import PAGES
from ..system import PAGE_NBYTES, round_to_pages

if TYPE_CHECKING:
    from ..manifest import BlockFacts
    from ..system import Mapping
    from .memory import SegmentMemory

__all__ = ["MAX_EXTENTS", "Extent", "extents_of", "lay_extents", "pack_extents", "pages_of"]

#: each is a mapping in every process that has the array open; the kernel allows 65,530 of them in all
MAX_EXTENTS = 2048

_EXTENT = struct.Struct("<III")


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
    base = _source_in_place(extents)
    with contextlib.ExitStack() as stack:
        descriptors: dict[int, int] = {}
        for source in {extent.source for extent in extents}:
            descriptors[source] = memory.open_segment(sources[source].segment_id, sources[source].segment_nbytes)
            stack.callback(os.close, descriptors[source])
        if base >= 0:
            pages = min(mapping.nbytes // PAGE_NBYTES, _limit(sources[base]))
            mapping.lay(descriptors[base], pages * PAGE_NBYTES, private=private)
        for position, (source, first, pages) in _placed(extents):
            if source != base:
                at, offset = position * PAGE_NBYTES, first * PAGE_NBYTES
                mapping.lay(descriptors[source], pages * PAGE_NBYTES, at=at, offset=offset, private=private)


def _source_in_place(extents: Sequence[Extent]) -> int:
    """A block whose pages all lie where they did: laying it whole, once, saves half of the calls. -1: there is none."""
    pages_in_place: dict[int, int] = {}
    moved = set()
    for position, (source, first, pages) in _placed(extents):
        pages_in_place[source] = pages_in_place.get(source, 0) + pages
        if first != position:
            moved.add(source)
    return max(pages_in_place.keys() - moved, key=lambda source: pages_in_place[source], default=-1)


def _placed(extents: Sequence[Extent]) -> Iterator[tuple[int, Extent]]:
    """Each extent with the page of the body where it stands."""
    position = 0
    for extent in extents:
        yield position, extent
        position += extent.pages
