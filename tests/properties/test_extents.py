"""Tables of extents that are spliced and compared, against plain lists of pages."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shmplane.plane.memory.extents import Extent, Extents, Piece, difference, pack_extents

PAGES = 40
IDS = (7, 2**63 + 5, 11, 3)

#: for each page of a body: the segment that shows it, and which page there
Shown = list[tuple[int, int]]


def shown_by(extents: Extents) -> Shown:
    return [(extents.ids[source], first + index) for source, first, pages in extents.listed() for index in range(pages)]


@st.composite
def tables(draw: st.DrawFn) -> Extents:
    """Extents of a body of PAGES pages, of up to four segments; the first is in place, others are anywhere."""
    ids = draw(st.permutations(IDS))[: draw(st.integers(1, len(IDS)))]
    cuts = sorted(draw(st.sets(st.integers(1, PAGES - 1), max_size=15)) | {0, PAGES})
    rows = []
    for start, stop in itertools.pairwise(cuts):
        source = draw(st.integers(0, len(ids) - 1))
        # Few places, so that tables have much in common.
        rows.append((source, start + draw(st.sampled_from([0, 0, 3])), stop - start))
    return Extents(tuple(ids), np.array(rows, np.int64))


RUNS = st.integers(0, PAGES - 1).flatmap(lambda at: st.tuples(st.just(at), st.integers(1, PAGES - at)))


@settings(max_examples=400, deadline=None)
@given(tables(), tables())
def test_laying_the_difference_shows_the_other_and_lays_nothing_in_vain(old: Extents, new: Extents) -> None:
    before, after = shown_by(old), shown_by(new)
    pieces = difference(old, new)
    for at, source, first, pages in pieces:
        for index in range(pages):
            assert before[at + index] != after[at + index], "shown already"
            before[at + index] = (new.ids[source], first + index)
    assert before == after
    for left, right in itertools.pairwise(pieces):
        assert left.at + left.pages <= right.at
        together = (left.at + left.pages, left.source, left.first + left.pages) == right[:3]
        assert not together, "pieces that could be one"


@settings(max_examples=400, deadline=None)
@given(tables(), st.lists(st.tuples(RUNS, st.integers(0, 3), st.integers(0, 60)), min_size=1, max_size=6))
def test_what_is_spliced_in_is_shown_and_all_else_is_as_before(
    table: Extents, edits: list[tuple[tuple[int, int], int, int]]
) -> None:
    edited, expected = table, shown_by(table)
    for (at, pages), source, first in edits:
        source %= len(table.ids)
        before, pieces = edited, [Piece(at, source, first, pages)]
        edited = edited.with_pieces(pieces)
        assert difference(before, edited) == pieces
        expected[at : at + pages] = [(table.ids[source], first + index) for index in range(pages)]
        assert shown_by(edited) == expected
        assert edited.pages == PAGES
        assert len(edited) <= len(table) + 2 * len(edits)
    assert edited.shows_all_sources() == ({segment for segment, _ in expected} == set(table.ids))


def test_pages_that_go_on_where_the_ones_before_end_make_no_further_extent() -> None:
    table = Extents((1, 2), np.array([[0, 0, PAGES]], np.int64))
    for page in range(10):
        table = table.with_pieces([Piece(20 + page, 1, page, 1)])
    assert table.listed() == [Extent(0, 0, 20), Extent(1, 0, 10), Extent(0, 30, PAGES - 30)]


@given(tables())
def test_a_table_is_packed_as_its_extents_are(table: Extents) -> None:
    assert table.pack() == pack_extents(table.listed())
    assert table.pieces() == [
        Piece(at, *extent) for at, extent in zip(table.starts.tolist(), table.listed(), strict=False)
    ]


@given(tables())
def test_a_table_differs_from_none_that_shows_the_same(table: Extents) -> None:
    cut = [Extent(source, first + index, 1) for source, first, pages in table.listed() for index in range(pages)]
    other = Extents(table.ids, np.array(cut, np.int64))
    assert difference(table, other) == difference(other, table) == []
