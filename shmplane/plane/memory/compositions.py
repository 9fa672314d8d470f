"""Mappings of bodies that lie in several blocks: composed for readers, and private for drafts.

Laying a thousand pieces takes a millisecond, and two versions differ in a few of them. So a range that nobody looks at any
more is taken over for the next version, and only what differs is laid.

Rule 1. A range is described by what it *shows*: what was laid over it, never what it should show. While it is changed nobody
knows it; after an exception in the middle it is forgotten, and its memory is unmapped.
Rule 2. Nobody looks at a range when the object is garbage that stands for all who do: the ``Mapping`` that their leases hold,
or the loan that the arrays of a draft are over. So whoever may look has an object of his own, which nobody gets a second time.
Rule 3. A private range is kept only if every page that was written is known, and given back.
Rule 4. No lock: a range is taken out of its table before anything else, which one thread alone can do.

A page is known by its segment and its number there. Segments are never renamed, so pages with the same numbers are the same,
whatever has become of the versions that showed them. A block that moved lies in another segment: what is remembered of it
counts while the ids of its segments are those that its facts say.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ...errors import PlaneFull
from ...system import PAGE_NBYTES, Mapping, Pages, PrivateMapping, own, round_to_pages
from .extents import Extents, Piece, difference, ids_of, limit_of

if TYPE_CHECKING:
    from ...manifest import BlockFacts
    from .extents import Integers as Runs
    from .segments import SegmentMemory

__all__ = ["Compositions", "Image", "has_pages"]

T = TypeVar("T")
Key = tuple[int, ...]  #: row and generation of a block

#: arrays whose mappings are kept; each may be of up to 2,048 pieces
_MOST_COMPOSED = 8
_MOST_IMAGES = 2
_MOST_PARSED = 16


class _Range(NamedTuple):
    """What a range shows, and who looks at it."""

    pages: Pages
    extents: Extents
    user: Callable[[], object]  #: None: nobody does
    mapping: PrivateMapping | None  #: of a private one, which has no user


class Image(NamedTuple):
    """A private range over a body, to be lent to those who write."""

    mapping: PrivateMapping
    extents: Extents  #: what it shows where nobody wrote


def has_pages(facts: BlockFacts) -> bool:
    """Whether a body begins a page; small ones lie among others, and are copied whole."""
    return bool(facts.body_nbytes) and (not facts.in_slab or bool(facts.references))


class Compositions:
    """The ranges of one plane. Its caller leases the block that it asks for."""

    def __init__(self, memory: SegmentMemory) -> None:
        self._memory = memory
        self._shared: OrderedDict[Key, _Range] = OrderedDict()
        self._private: OrderedDict[Key, _Range] = OrderedDict()
        self._parsed: OrderedDict[Key, tuple[int, Extents]] = OrderedDict()  #: each with the number of moves till then
        memory.kept += [self._shared, self._private, self._parsed]

    # Tables

    def extents_of(self, facts: BlockFacts) -> Extents:
        """The extents of an array; one that is not composed is its own only source."""
        if not facts.references:
            return Extents.of_plain(facts)
        moves, found = self._parsed.get((facts.row, facts.generation, facts.version), (-1, None))
        if found is None or (moves != facts.moves and found.ids != ids_of(facts)):
            stored = self._memory.readable(facts).view[facts.offset : facts.offset + facts.stored_nbytes]
            found = Extents.parse(facts, stored)
            self.remember(facts, found)
        return found

    def remember(self, facts: BlockFacts, extents: Extents) -> None:
        """What a block's table says, by who has just read or written it."""
        _keep(self._parsed, (facts.row, facts.generation, facts.version), (facts.moves, extents), _MOST_PARSED)

    # For readers

    def get(self, facts: BlockFacts) -> Mapping:
        """A read-only mapping of the body, which all who look share."""
        known = self._shared.get((facts.row, facts.generation))
        found = known.user() if known is not None and known.extents.ids == ids_of(facts) else None
        return found if isinstance(found, Mapping) else self._unless_full(self._compose, facts)

    def _compose(self, facts: BlockFacts) -> Mapping:
        key, nbytes = (facts.row, facts.generation), round_to_pages(facts.body_nbytes)
        extents = self.extents_of(facts)
        idle = _take_idle(self._shared, key, nbytes, extents)
        mapping = Mapping(nbytes, pages=idle.pages if idle is not None else None)
        if idle is None:
            self._lay(mapping, facts, _all_of(extents, facts))
        else:
            self._take_over(mapping, facts, idle.extents, extents)
        _keep(self._shared, key, _Range(mapping.pages, extents, weakref.ref(mapping), None), _MOST_COMPOSED)
        return mapping

    # For drafts

    def image(self, facts: BlockFacts, *, kept: object) -> Image | None:
        """A private range over the body, whose pages keep ``kept``. ``keep`` it, when it is done with.

        None: the body does not begin a page.
        """
        return self._unless_full(self._make_image, facts, kept) if has_pages(facts) else None

    def _make_image(self, facts: BlockFacts, kept: object) -> Image:
        extents = self.extents_of(facts)
        idle = _take_idle(self._private, (facts.row, facts.generation), facts.body_nbytes, extents)
        if idle is None or idle.mapping is None:
            return Image(self._map_private(facts, facts.body_nbytes, kept), extents)
        idle.pages.kept = kept
        self._take_over(idle.mapping, facts, idle.extents, extents, private=True)
        return Image(idle.mapping, extents)

    def keep(self, facts: BlockFacts, image: Image, written: Runs | None) -> None:
        """For the next draft; nobody else has it any more.

        Args:
            written: pages, which are given back. No other was written. None: give all back.
        """
        mapping, extents = image
        try:
            mapping.forget_written(written)
        except own(OSError):
            return  # pages that are locked in memory stay written
        pages = mapping.pages
        pages.kept = None
        _keep(self._private, (facts.row, facts.generation), _Range(pages, extents, _nobody, mapping), _MOST_IMAGES)

    def private(self, facts: BlockFacts, *, nbytes: int | None = None, kept: object) -> Mapping:
        """A private mapping over the body's pages, which keep ``kept``. Cost: about 10 µs and 3 for each extent.

        Args:
            nbytes: of a longer range; behind the body it shows anything.
        """
        return self._unless_full(self._map_private, facts, nbytes or facts.body_nbytes, kept)

    def _map_private(self, facts: BlockFacts, nbytes: int, kept: object) -> PrivateMapping:
        mapping = PrivateMapping(nbytes)
        self._lay(mapping, facts, _all_of(self.extents_of(facts), facts), private=True)
        mapping.pages.kept = kept
        return mapping

    # Laying

    def _unless_full(self, attempt: Callable[..., T], *args: object) -> T:
        try:
            return attempt(*args)
        except own(PlaneFull):
            # Out of mappings: let go of those that nobody uses and try once more.
            self._memory.drop()
            return attempt(*args)

    def _take_over(
        self, mapping: Mapping, facts: BlockFacts, shown: Extents, extents: Extents, *, private: bool = False
    ) -> None:
        """Over what a range shows, lay what it does not."""
        self._lay(mapping, facts, difference(shown, extents), private=private)

    def _lay(self, mapping: Mapping, facts: BlockFacts, pieces: Iterable[Piece], *, private: bool = False) -> None:
        memory, sources = self._memory, facts.references or (facts,)
        by_source: dict[int, list[Piece]] = {}
        for piece in pieces:
            by_source.setdefault(piece.source, []).append(piece)
        for number, some in by_source.items():
            source = sources[number]
            # One descriptor at a time, closed by a single call into C: Ctrl-C must not come between.
            fd = memory.open_segment(source.segment_id, source.segment_nbytes, is_spilled=source.is_spilled)
            try:
                for at, _, first, pages in some:
                    mapping.lay(
                        fd, pages * PAGE_NBYTES, at=at * PAGE_NBYTES, offset=first * PAGE_NBYTES, private=private
                    )
            except own(OSError, PlaneFull) as error:
                with memory.translated("mapping a block"):
                    raise error  # noqa: TRY201 - what is under way there is what is translated
            finally:
                os.close(fd)


def _all_of(extents: Extents, facts: BlockFacts) -> list[Piece]:
    """All pieces, in as few calls as can be."""
    pieces = extents.pieces()
    in_place: dict[int, int] = {}
    for at, source, first, _ in pieces:
        in_place[source] = in_place.get(source, 0) + (1 if at == first else -len(pieces) - 1)
    # A block whose pages all lie where they did: laid whole and first, once, it saves half of the calls.
    base = max(in_place, key=in_place.__getitem__)
    if in_place[base] < 0:
        return pieces
    pages = min(extents.pages, limit_of((facts.references or (facts,))[base]))
    return [Piece(0, base, 0, pages), *[piece for piece in pieces if piece.source != base]]


def _take_idle(ranges: OrderedDict[Key, _Range], key: Key, nbytes: int, extents: Extents) -> _Range | None:
    """A range that nobody looks at, of this version or, the latest first, of another one of the same array."""
    for other in [key, *reversed(list(ranges))]:
        known = ranges.get(other)
        if known is not None and _suits(known, nbytes, extents):
            taken = ranges.pop(other, None)
            if taken is not None and _suits(taken, nbytes, extents):
                return taken
            if taken is not None:
                ranges.setdefault(other, taken)  # another one by now
    return None


def _suits(known: _Range, nbytes: int, extents: Extents) -> bool:
    # A segment that both show is of one array alone, and of what it was edited to.
    is_of_the_same = not set(known.extents.ids).isdisjoint(extents.ids)
    return len(known.pages) == nbytes and known.user() is None and is_of_the_same


def _keep(table: OrderedDict[Key, T], key: Key, thing: T, most: int) -> None:
    table[key] = thing
    while len(table) > most:
        try:
            table.popitem(last=False)
        except own(KeyError):  # another thread was faster
            return


def _nobody() -> None:
    return None
