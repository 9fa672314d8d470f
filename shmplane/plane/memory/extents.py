"""Extents: which pages of which blocks make up the body of a composed array. Pure.

What a composed array stores in place of its body is a table of extents. They follow each other without gaps and cover the
body in whole pages; each names one of the blocks that the array refers to, a page in it, and how many pages.

What is read from a table is checked hard before anything is mapped: a hostile one is ``PlaneCorrupt``. A version's table is
parsed once; an edit of a few runs is spliced into it, and two tables are compared by what they show.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...errors import PlaneCorrupt
from ...manifest import PAGES, BlockFacts
from ...system import PAGE_NBYTES, round_to_pages

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = ["MAX_EXTENTS", "Extent", "Extents", "Piece", "difference", "ids_of", "limit_of", "pack_extents", "pages_of"]

#: each is a mapping in every process that has the array open; the kernel allows 65,530 of them in all
MAX_EXTENTS = 2048

#: in all of two tables: fewer are compared sooner one by one than as arrays
_FEW_EXTENTS = 16

_EXTENT = struct.Struct("<III")


class Extent(NamedTuple):
    """Pages of the body, as they lie in one block."""

    source: int  #: which of the blocks that are referred to
    first: int  #: page of that block
    pages: int


class Piece(NamedTuple):
    """The same with the page of the body where it stands."""

    at: int
    source: int
    first: int
    pages: int


class Extents:
    """All of one version.

    Attributes:
        ids: the segment of each source. One that has the same id has the same pages, whatever version it is shown by.
        rows: an array of shape (extents, 3): source, first, pages.
        starts: where each begins in the body, and where the last one ends.
        pages: of the body.
    """

    __slots__ = ("_mark", "_spliced", "ids", "pages", "rows", "starts")

    def __init__(self, ids: tuple[int, ...], rows: Integers) -> None:
        import numpy as np

        self.ids: tuple[int, ...] = ids
        self.rows: Integers = rows
        self.starts: Integers = np.zeros(len(rows) + 1, np.int64)
        rows[:, 2].cumsum(out=self.starts[1:])
        self.pages: int = int(self.starts[-1])
        self._mark = object()
        #: the mark of the one that this came from by splicing, and what was spliced in; not that one itself, nor all before
        self._spliced: tuple[object, list[Piece]] | None = None

    @classmethod
    def of_plain(cls, facts: BlockFacts) -> Extents:
        """Of an array that is not composed: it is its own only source."""
        import numpy as np

        return cls((facts.segment_id,), np.array([[0, 0, pages_of(facts.body_nbytes)]], np.int64))

    @classmethod
    def parse(cls, facts: BlockFacts, stored: memoryview) -> Extents:
        """Of a composed array, from its table; ``PlaneCorrupt``."""
        import numpy as np

        nbytes = stored.nbytes
        if nbytes % _EXTENT.size or not 0 < nbytes <= MAX_EXTENTS * _EXTENT.size:
            _refuse(facts, f"its table of extents has {nbytes} B")
        rows = np.frombuffer(stored, "<u4").reshape(-1, 3).astype(np.int64)
        found = cls(ids_of(facts), rows)
        found._check(facts)
        return found

    def _check(self, facts: BlockFacts) -> None:
        import numpy as np

        # Behind the last source one without pages, for numbers that are too high.
        limits = np.array([*map(limit_of, facts.references), 0], np.int64)
        source, first, pages = self.rows.T
        room = limits[np.minimum(source, len(limits) - 1)] - first
        wrong = (pages <= 0) | (pages > room)
        if wrong.any():
            extent = Extent(*self.rows[int(wrong.argmax())].tolist())
            _refuse(
                facts,
                f"an extent shows {extent.pages} pages from {extent.first} of block {extent.source} of {len(self.ids)}",
            )
        if self.pages != pages_of(facts.body_nbytes):
            longer = self.pages > pages_of(facts.body_nbytes)
            _refuse(facts, f"its extents are {'longer' if longer else 'shorter'} than its body")

    def __len__(self) -> int:
        return len(self.rows)

    def listed(self) -> list[Extent]:
        return list(map(Extent._make, self.rows.tolist()))

    def pieces(self) -> list[Piece]:
        return list(map(Piece, self.starts.tolist(), *self.rows.T.tolist()))

    def pack(self) -> bytes:
        """The table as it is stored."""
        return self.rows.astype("<u4").tobytes()

    def with_pieces(self, pieces: list[Piece]) -> Extents:
        """With pieces that are apart in place of what they cover."""
        found = self
        for at, *extent in pieces:
            found = found._spliced_with(at, Extent(*extent))
        found._spliced = self._mark, pieces
        return found

    def differs_by(self, old: Extents) -> list[Piece] | None:
        """What was spliced into ``old`` to make this of it, if that is where it came from."""
        if self._spliced is None or self._spliced[0] is not old._mark:
            return None
        return self._spliced[1]

    def _spliced_with(self, start: int, extent: Extent) -> Extents:
        """With an extent in place of what it covers from page ``start`` of the body."""
        import numpy as np

        starts, rows = self.starts, self.rows
        stop = start + extent.pages
        first = int(starts.searchsorted(start, "right")) - 1
        last = int(starts.searchsorted(stop, "left")) - 1
        middle = []
        if start > (begin := int(starts[first])):
            source, page, _ = rows[first].tolist()
            middle.append(Extent(source, page, start - begin))
        elif first:
            first -= 1
            middle.append(Extent._make(rows[first].tolist()))
        before = middle[-1] if middle else None
        if before is not None and before.source == extent.source and before.first + before.pages == extent.first:
            middle[-1] = before._replace(pages=before.pages + extent.pages)
        else:
            middle.append(extent)
        if stop < (end := int(starts[last + 1])):
            source, page, pages = rows[last].tolist()
            middle.append(Extent(source, page + pages - (end - stop), end - stop))
        return Extents(self.ids, np.concatenate((rows[:first], np.array(middle, np.int64), rows[last + 1 :])))

    def shows_all_sources(self) -> bool:
        """Whether each has a page that is shown."""
        import numpy as np

        return bool(np.bincount(self.rows[:, 0], minlength=len(self.ids)).all())

    def shown(self, ids: tuple[int, ...]) -> Integers:
        """Three rows: where each extent begins, its source by the numbers of ``ids``, and how much higher its pages count."""
        import numpy as np

        source = self.rows[:, 0]
        if self.ids != ids:
            numbers = {segment_id: number for number, segment_id in enumerate(ids)}
            source = np.array([numbers.get(segment_id, -1) for segment_id in self.ids], np.int64)[source]
        return np.stack((self.starts[:-1], source, self.rows[:, 1] - self.starts[:-1]))


def difference(old: Extents, new: Extents) -> list[Piece]:
    """What of ``new`` is not shown by ``old``, which is as long: each page that lies elsewhere, in as few pieces as that takes.

    Cost: a microsecond for each extent of few; of many some 20 µs, and one for each between the first that differs and the
    last.
    """
    if old is new:
        return []
    known = new.differs_by(old)
    if known is not None:
        return known
    if len(old) + len(new) <= _FEW_EXTENTS:
        return _compare(_runs_of(old, new.ids), _runs_of(new, new.ids), 0, new.pages)
    before, after = old.shown(new.ids), new.shown(new.ids)
    count = min(len(old), len(new))
    head = _count_equal(before[:, :count], after[:, :count])
    tail = min(_count_equal(before[:, ::-1][:, :count], after[:, ::-1][:, :count]), count - head)
    at = int(min(old.starts[head], new.starts[head]))
    end = int(new.starts[len(new) - tail])
    skipped = max(head - 1, 0)  # that one has the first page that differs
    olds = _from(old, before, skipped, tail)
    news = _from(new, after, skipped, tail)
    return _compare(olds, news, at, end)


def _count_equal(left: Integers, right: Integers) -> int:
    """How many columns are equal, from the first."""
    differs = (left != right).any(0)
    first = int(differs.argmax())
    return first if differs[first] else len(differs)


class _Run(NamedTuple):
    end: int  #: page of the body
    source: int
    shift: int


def _runs_of(extents: Extents, ids: tuple[int, ...]) -> list[_Run]:
    """All of them, by the numbers of ``ids``."""
    numbers = [ids.index(segment_id) if segment_id in ids else -1 for segment_id in extents.ids]
    return [_Run(at + pages, numbers[source], first - at) for at, source, first, pages in extents.pieces()]


def _from(extents: Extents, shown: Integers, skipped: int, tail: int) -> list[_Run]:
    """Those between, and one more."""
    stop = len(extents) - tail + 1
    ends = extents.starts[skipped + 1 : stop + 1].tolist()
    return list(map(_Run, ends, shown[1, skipped:stop].tolist(), shown[2, skipped:stop].tolist()))


def _compare(olds: list[_Run], news: list[_Run], at: int, end: int) -> list[Piece]:
    pieces: list[Piece] = []
    old, new = 0, 0
    while at < end:
        while olds[old].end <= at:
            old += 1
        while news[new].end <= at:
            new += 1
        (old_end, *was), (new_end, *becomes) = olds[old], news[new]
        stop = min(old_end, new_end, end)
        if was != becomes:
            source, shift = becomes
            last = pieces[-1] if pieces else None
            if (
                last is not None
                and last.at + last.pages == at
                and (last.source, last.first - last.at) == (source, shift)
            ):
                pieces[-1] = last._replace(pages=stop - last.at)
            else:
                pieces.append(Piece(at, source, at + shift, stop - at))
        at = stop
    return pieces


def pages_of(nbytes: int) -> int:
    """How many pages hold ``nbytes``."""
    return -(-nbytes // PAGE_NBYTES)


def pack_extents(extents: Sequence[Extent]) -> bytes:
    return b"".join(_EXTENT.pack(*extent) for extent in extents)


def ids_of(facts: BlockFacts) -> tuple[int, ...]:
    """Of the segments that a composed array shows pages of, in the order of its sources."""
    return tuple([source.segment_id for source in facts.references])


def limit_of(source: BlockFacts) -> int:
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
