"""What a commit of pages writes, against a plain list of pages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmplane.plane.drafts import planning
from shmplane.plane.drafts.planning import NEW, Plan, Room, pages_for_new_block, place, plan_pages
from shmplane.plane.memory.extents import Extent

PAGES = 60

#: for each page of a body: the source that shows it, and which page there
Shown = list[tuple[int, int]]


def shown_by(extents: list[Extent]) -> Shown:
    return [(source, first + index) for source, first, pages in extents for index in range(pages)]


@st.composite
def bodies(draw: st.DrawFn) -> list[Extent]:
    """Extents of a body of PAGES pages; source 0 is in place, others are anywhere."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=PAGES))
    extents, position = [], 0
    for length in lengths:
        pages = min(length, PAGES - position)
        if not pages:
            break
        source = draw(st.integers(0, 3))
        extents.append(Extent(source, position if source == 0 else draw(st.integers(0, 100)), pages))
        position += pages
    if position < PAGES:
        extents.append(Extent(0, position, PAGES - position))
    return extents


def runs_of(pages: set[int]) -> np.ndarray:
    flags = np.zeros(PAGES, np.int8)
    flags[list(pages)] = 1
    edges = np.flatnonzero(np.diff(flags, prepend=0, append=0)).reshape(-1, 2)
    return np.stack((edges[:, 0], edges[:, 1] - edges[:, 0]), axis=1).astype(np.int64)


@settings(max_examples=300, deadline=None)
@given(bodies(), st.sets(st.integers(0, PAGES - 1), min_size=1, max_size=25), st.integers(6, 40))
def test_a_plan_copies_at_least_the_dirty_pages_and_shows_all_others_as_before(
    body: list[Extent], dirty: set[int], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_MOST_PLANNED", most)
        plan = plan_pages(body, runs_of(dirty))
        if plan is None:
            return
        assert len(plan.extents) <= most
    copied = {page for first, pages in plan.copied for page in range(first, first + pages)}
    assert dirty <= copied
    assert len(copied) == plan.copied_pages <= PAGES // 2
    before, after = shown_by(body), shown_by(plan.extents)
    assert len(after) == PAGES
    assert all(found[0] == NEW if page in copied else found == before[page] for page, found in enumerate(after))
    for left, right in itertools.pairwise(plan.extents):
        goes_on = right.source == NEW or right.first == left.first + left.pages
        assert left.source != right.source or not goes_on, "neighbours that could be one"


@settings(max_examples=200, deadline=None)
@given(bodies(), st.sets(st.integers(0, PAGES - 1), min_size=1, max_size=25))
def test_without_a_shortage_of_pieces_nothing_but_the_dirty_pages_is_copied(
    body: list[Extent], dirty: set[int]
) -> None:
    plan = plan_pages(body, runs_of(dirty))
    assert plan is not None
    assert {page for first, pages in plan.copied for page in range(first, first + pages)} == dirty


@settings(max_examples=200, deadline=None)
@given(bodies(), st.sets(st.integers(0, PAGES - 1), min_size=1, max_size=25), st.integers(0, 30))
def test_new_pages_fill_the_rooms_in_order(body: list[Extent], dirty: set[int], at_end: int) -> None:
    plan = plan_pages(body, runs_of(dirty))
    assert plan is not None
    rooms = [Room(2, 500, at_end)] if at_end else []
    extents = place(plan, [*rooms, Room(9, 0, PAGES)])
    found = shown_by(extents)
    written = [(2, 500 + index) for index in range(at_end)] + [(9, index) for index in range(PAGES)]
    new = [found[page] for first, pages in plan.copied for page in range(first, first + pages)]
    assert new == written[: len(new)]
    assert len(extents) <= len(plan.extents) + 1


@pytest.mark.parametrize(
    ("needed", "youngest", "left", "body", "expected"),
    [
        (1, 0, 1000, 1000, 16),  # the first one
        (1, 0, 1 << 20, 1 << 20, 256),
        (1, 16, 984, 1000, 32),  # twice the one before
        (400, 16, 984, 1000, 400),  # as much as is needed
        (10, 256, 100, 1000, 100),  # no more than the body allows
        (101, 256, 100, 1000, 0),  # the body is to be written whole
    ],
)
def test_blocks_of_pages_double_until_they_are_as_large_as_the_body(
    needed: int, youngest: int, left: int, body: int, expected: int
) -> None:
    assert pages_for_new_block(needed, youngest, left=left, body_pages=body) == expected


def test_thousands_of_runs_are_planned_in_time() -> None:
    pages = 1 << 18
    dirty = np.stack((np.arange(0, pages, 4), np.ones(pages // 4, np.int64)), axis=1)
    plan = plan_pages([Extent(0, 0, pages)], dirty)
    assert plan is None, "what is joined is more than half of the body"
    few = dirty[:: 1 << 6]
    plan = plan_pages([Extent(0, 0, pages)], few)
    assert isinstance(plan, Plan)
    assert plan.copied_pages <= pages // 2
