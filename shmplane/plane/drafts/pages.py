"""Committing the changed pages of an array: take room, write the pages there, publish what shows them.

Room is taken under the lock, first at the end of the youngest block of pages that the base shows, where there are pages
that nobody has seen yet, then in a new one. It is written outside the lock. A commit gives its room back only when it is
sure that nothing was published; otherwise, and when its process is killed, the room is lost until its block of pages goes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import Conflict, PlaneFull, ShmplaneError
from ...manifest import KIND_CODES, MAX_REFERENCES, PAGES, BlockFacts, Transaction
from ...system import PAGE_NBYTES, ignoring, is_from_handler
from ..blocks.claims import Creation, Lease, abandon_creation, claims_of
from ..blocks.overflow import is_overflowing
from ..blocks.publish import (
    Prepared,
    StoredBytes,
    abandon,
    contents_of,
    describe_contents,
    prepare,
    publish,
    retry_after_reclaim,
    store,
)
from ..memory.extents import Extent, Extents, ids_of, pack_extents, pages_of
from ..memory.sinks import FileSink
from .planning import Plan, Room, pages_for_new_block, place, plan_pages

if TYPE_CHECKING:
    from ..blocks.target import Target
    from ..memory.extents import Integers as Runs

__all__ = ["Body", "publish_pages"]


class Body(NamedTuple):
    """What the new version is: the base's own frame and length, but for appended rows."""

    frame: bytes
    nbytes: int


def publish_pages(
    target: Target, base: Lease, extents: list[Extent], *, view: memoryview, dirty: Runs, body: Body | None = None
) -> Lease:
    """Publish ``base`` with the dirty pages of ``view``, or the whole of it when that pays."""
    body = body or Body(base.frame(), base.facts.body_nbytes)
    plan = plan_pages(extents, dirty)
    lease = None
    if plan is not None:
        lease = retry_after_reclaim(base.attachment, _publish_plan, target, base, plan, view, body)
    if lease is None:
        whole = StoredBytes(base.facts.codec, body.frame, view[: body.nbytes])
        lease = store(base.attachment, target, contents_of(whole), whole)
    return lease


class _Rooms(NamedTuple):
    """Where new pages go: pages at the end of a block that is there, then a new block."""

    youngest: int  #: which source it is; -1: none
    first: int
    pages: int
    creation: Creation | None
    new_pages: int  #: of the new block

    def in_order(self, sources: int) -> list[Room]:
        rooms = [Room(self.youngest, self.first, self.pages)] if self.pages else []
        return [*rooms, Room(sources, 0, self.new_pages)] if self.creation is not None else rooms


def _take(tx: Transaction, base: Lease, target: Target, plan: Plan, body: Body) -> _Rooms | None:
    """Room for the plan's pages; None when the body is to be written whole."""
    attachment, sources = base.attachment, _sources_of(base.facts)
    tx.check_unmoved(target.name or b"", target.base)
    youngest = max((index for index, source in enumerate(sources) if source.kind == PAGES), default=-1)
    in_use = {extent.source for extent in plan.extents if extent.source >= 0}
    needed = plan.copied_pages
    at_end = 0
    if youngest >= 0 and not sources[youngest].is_spilled:  # there it counts as full
        row = sources[youngest].row
        at_end = min(needed, (tx.blocks.body_nbytes[row] - tx.blocks.stored_nbytes[row]) // PAGE_NBYTES)
        if at_end:
            in_use.add(youngest)
    creation, size = None, 0
    if needed > at_end:
        size = _size_of_new_block(base.facts, in_use, needed - at_end, pages_of(body.nbytes))
        if not size or len(in_use) >= MAX_REFERENCES:
            return None
        creation = claims_of(attachment).new_creation(
            *tx.begin_large(size * PAGE_NBYTES, spilled=is_overflowing(attachment) and not target.group)
        )
    first, taken = tx.take_pages(sources[youngest].row, at_end * PAGE_NBYTES) if at_end else (0, 0)
    return _Rooms(youngest, first // PAGE_NBYTES, taken // PAGE_NBYTES, creation, size)


def _sources_of(facts: BlockFacts) -> Sequence[BlockFacts]:
    return facts.references or (facts,)


def _size_of_new_block(facts: BlockFacts, in_use: set[int], needed: int, body_pages: int) -> int:
    sizes = {
        index: source.body_nbytes // PAGE_NBYTES
        for index, source in enumerate(_sources_of(facts))
        if source.kind == PAGES
    }
    left = body_pages - sum(sizes[index] for index in in_use & sizes.keys())
    return pages_for_new_block(needed, sizes[max(sizes)] if sizes else 0, left=left, body_pages=body_pages)


def _publish_plan(target: Target, base: Lease, plan: Plan, view: memoryview, body: Body) -> Lease | None:
    """The new version; None when its pages find no room and the body is to be written whole."""
    attachment = base.attachment
    rooms = attachment.change(_take, base, target, plan, body)
    if rooms is None:
        return None
    sources = _sources_of(base.facts)
    block = None
    try:
        _write(base, plan, rooms, view)
        extents = place(plan, rooms.in_order(len(sources)))
        used = sorted({extent.source for extent in extents})
        extents = [extent._replace(source=used.index(extent.source)) for extent in extents]
        stored = pack_extents(extents)
        codec = base.facts.codec
        contents = describe_contents(KIND_CODES[codec], body.nbytes, body.frame, stored_nbytes=len(stored))
        block = prepare(attachment, contents, StoredBytes(codec, body.frame, stored))
        parts = [_part(rooms, plan)] if rooms.creation is not None else []
        references = [sources[source].row for source in used if source < len(sources)]
        lease = publish(attachment, target, block, parts=parts, references=references)
    except BaseException as error:
        # An error here must not hide the one that is on its way; what it leaves is found by the audit.
        with ignoring(ShmplaneError):
            # These two are raised before anything is published. After Ctrl-C it may have been, so the room stays taken.
            if rooms.pages and isinstance(error, (Conflict, PlaneFull)) and not is_from_handler(error):
                attachment.change(_return, sources[rooms.youngest].row, rooms)
            if rooms.creation is not None:
                abandon_creation(attachment, rooms.creation)
            if block is not None:
                abandon(attachment, block)
        raise
    _prepare_next(lease, extents, body.frame)
    return lease


def _prepare_next(lease: Lease, extents: list[Extent], frame: bytes) -> None:
    """What the next edit of this version would have to find out, and room that it can copy a few pages to."""
    import numpy as np

    facts = lease.facts
    extents_now = Extents(ids_of(facts), np.array(extents, np.int64))
    claims_of(lease.attachment).remember(lease, extents_now, frame)
    youngest = facts.references[-1]
    if youngest.kind == PAGES and not youngest.is_spilled:
        start, nbytes = youngest.stored_nbytes, youngest.segment_nbytes
        with ignoring(ShmplaneError):
            lease.attachment.memory.room(
                youngest.segment_id, nbytes, start=start, stop=min(start + PAGE_NBYTES, nbytes)
            )


def _part(rooms: _Rooms, plan: Plan) -> Prepared:
    written = (plan.copied_pages - rooms.pages) * PAGE_NBYTES
    return Prepared(
        describe_contents(PAGES, rooms.new_pages * PAGE_NBYTES, b"", stored_nbytes=written), None, rooms.creation
    )


def _return(tx: Transaction, row: int, rooms: _Rooms) -> None:
    tx.abandon_pages(row, rooms.first * PAGE_NBYTES, rooms.pages * PAGE_NBYTES)


def _write(base: Lease, plan: Plan, rooms: _Rooms, view: memoryview) -> None:
    """Write the copied runs one behind the other, first into the old block's room, then into the new block."""
    memory = base.attachment.memory
    runs = iter(plan.copied)
    left = (0, 0)
    if rooms.pages:
        youngest = _sources_of(base.facts)[rooms.youngest]
        fd = memory.open_segment(youngest.segment_id, youngest.segment_nbytes, writable=True)
        try:
            left = _write_runs(FileSink(fd, memory.plane), rooms.first, rooms.pages, view=view, runs=runs, left=left)
        finally:
            os.close(fd)
    if rooms.creation is not None:
        place_ = rooms.creation.place
        fd = memory.create(place_) if place_.fresh else memory.open_for_filling(place_)
        try:
            _write_runs(FileSink(fd, memory.plane), 0, rooms.new_pages, view=view, runs=runs, left=left)
        finally:
            os.close(fd)


def _write_runs(
    sink: FileSink, first: int, room: int, *, view: memoryview, runs: Any, left: tuple[int, int]
) -> tuple[int, int]:
    """Fill up to ``room`` pages from ``first``; returns what is left of the run that did not fit."""
    start, pages = left
    while room:
        if not pages:
            start, pages = next(runs, (0, 0))
            if not pages:
                break
        count = min(pages, room)
        sink.write(first * PAGE_NBYTES, view[start * PAGE_NBYTES : (start + count) * PAGE_NBYTES])
        first, room, start, pages = first + count, room - count, start + count, pages - count
    return start, pages
