"""What a commit of changed pages writes, and what its array is put together from. Pure.

A version of an array shows pages of a base and of a few blocks of pages that commits have filled. A commit copies the
dirty pages to the youngest of these, or to a new one of twice its size, so their number grows with the logarithm of what
was changed.

Rule 1. The blocks of pages of a version are together at most as large as its body. When a commit does not fit, it
        writes the body whole and the chain starts again: so the memory that a chain of edits holds is at most twice what
        lives, and every such copy has been paid for by as many changed bytes.
Rule 2. Every extent is a mapping in every reader, so there are at most ``MAX_EXTENTS``. When there would be more, the
        shortest neighbours are copied together, unchanged pages between them included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..memory.extents import MAX_EXTENTS, Extent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Runs = npt.NDArray[np.int64]

__all__ = ["NEW", "Plan", "Room", "plan_pages", "place", "pages_for_new_block"]

#: the source of an extent that this commit writes
NEW = -1
_SMALLEST_NEW = 16
_FIRST_SHARE = 4096
#: a run that is cut where one block of pages is full makes one extent more
_MOST_PLANNED = MAX_EXTENTS - 2


class Plan(NamedTuple):
    """The extents of the next version, with those of source ``NEW`` to be written in order."""

    extents: list[Extent]

    @property
    def copied(self) -> Iterator[tuple[int, int]]:
        """First page in the body, and number of pages, of each run to be written."""
        position = 0
        for source, _, pages in self.extents:
            if source == NEW:
                yield position, pages
            position += pages

    @property
    def copied_pages(self) -> int:
        return sum(pages for _, pages in self.copied)


class Room(NamedTuple):
    """Pages that a commit may write, in one of the new version's sources."""

    source: int
    first: int
    pages: int


def plan_pages(extents: Sequence[Extent], dirty: Runs) -> Plan | None:
    """What to copy; None: the body whole, since half of it is to be written anyway."""
    body_pages = sum(extent.pages for extent in extents)
    if len(dirty) > _MOST_PLANNED // 2:
        dirty = _joined_where_close(dirty, _MOST_PLANNED // 2)
    if 2 * int(dirty[:, 1].sum()) > body_pages:
        return None
    merged = _joined(_overlaid(extents, dirty.tolist()))
    if len(merged) > _MOST_PLANNED:
        merged = _joined(_without_short(merged, _MOST_PLANNED))
    plan = Plan(merged)
    return plan if 2 * plan.copied_pages <= body_pages else None


def _joined_where_close(runs: Runs, most: int) -> Runs:
    """Join the runs with the smallest gaps between them, until there are at most ``most``."""
    import numpy as np

    ends = runs[:, 0] + runs[:, 1]
    gaps = runs[1:, 0] - ends[:-1]
    kept = np.sort(np.argpartition(-gaps, most - 2)[: most - 1])
    firsts = runs[np.concatenate(([0], kept + 1)), 0]
    lasts = ends[np.concatenate((kept, [len(runs) - 1]))]
    return np.stack((firsts, lasts - firsts), axis=1)


def _overlaid(extents: Sequence[Extent], dirty: Sequence[Sequence[int]]) -> Iterator[Extent]:
    """The extents with the dirty runs in place of what they cover."""
    position = 0
    runs = iter(dirty)
    start, pages = next(runs, (2**62, 0))
    for extent in extents:
        end = position + extent.pages
        offset = extent.first - position
        while position < end:
            if position < start:
                stop = min(end, start)
                yield Extent(extent.source, position + offset, stop - position)
            else:
                stop = min(end, start + pages)
                yield Extent(NEW, 0, stop - position)
                if stop == start + pages:
                    start, pages = next(runs, (2**62, 0))
            position = stop


def _joined(extents: Iterator[Extent]) -> list[Extent]:
    """Neighbours that go on in the same source are one."""
    found: list[Extent] = []
    for extent in extents:
        last = found[-1] if found else None
        if (
            last is not None
            and last.source == extent.source
            and (extent.source == NEW or last.first + last.pages == extent.first)
        ):
            found[-1] = last._replace(pages=last.pages + extent.pages)
        else:
            found.append(extent)
    return found


def _without_short(extents: list[Extent], most: int) -> Iterator[Extent]:
    """Copy short neighbours together; what counts as short is the least that leaves at most ``most``."""
    lengths = sorted({extent.pages for extent in extents})
    low, high = 0, len(lengths) - 1
    while low < high:
        middle = (low + high) // 2
        if len(_joined(_copied_if_short(extents, lengths[middle]))) <= most:
            high = middle
        else:
            low = middle + 1
    return _copied_if_short(extents, lengths[low])


def _copied_if_short(extents: list[Extent], short: int) -> Iterator[Extent]:
    """Short extents with a short neighbour become new ones; alone, copying would save nothing."""
    is_short = [extent.source == NEW or extent.pages <= short for extent in extents]
    beside = [False, *is_short, False]
    for index, extent in enumerate(extents):
        alone = not (beside[index] or beside[index + 2])
        yield extent if alone or not is_short[index] else Extent(NEW, 0, extent.pages)


def pages_for_new_block(needed: int, youngest: int, left: int, body_pages: int) -> int:
    """The size of a new block of pages; 0: what is left of the body's size is too little.

    Args:
        needed: pages it has to hold.
        youngest: size of the last one; 0: there is none.
        left: by Rule 1.
    """
    first = max(_SMALLEST_NEW, body_pages // _FIRST_SHARE)
    return min(max(needed, 2 * youngest, first), left) if needed <= left else 0


def place(plan: Plan, rooms: Sequence[Room]) -> list[Extent]:
    """The extents with their sources, when new pages fill the rooms in order."""
    waiting = list(reversed(rooms))
    return _joined(_filled(plan.extents, waiting))


def _filled(extents: Sequence[Extent], waiting: list[Room]) -> Iterator[Extent]:
    for extent in extents:
        if extent.source != NEW:
            yield extent
            continue
        pages = extent.pages
        while pages:
            room = waiting.pop()
            taken = min(pages, room.pages)
            yield Extent(room.source, room.first, taken)
            pages -= taken
            if taken < room.pages:
                waiting.append(Room(room.source, room.first + taken, room.pages - taken))
