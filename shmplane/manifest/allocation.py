"""Rows, cells and segments: who gets which, under the lock.

A free block row may own a cell of a slab; such rows wait in the chain of their class, so a small block gets row and
place with one pop. Segment rows live apart from block rows, since a segment outlives its block while it is warm.

Accounting: used + warm + free = capacity, where a slab without live cells counts as warm. A doomed segment counts as free
already; whoever dooms it removes the file before writing anything new.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import PlaneFull
from ..system import round_to_pages
from .space import CELL_NBYTES, RECYCLE_BUCKETS, bucket_of, class_of, fits, slab_nbytes
from .states import DOOMED, FREE, MAKING, USED, WARM
from .store import Manifest

__all__ = ["Allocation", "Doomed", "Place"]

_MOST_TRIED_PER_BUCKET = 32


class Place(NamedTuple):
    """Where a new block or slab is to be written."""

    segment_row: int
    segment_id: int
    nbytes: int  #: of the whole file
    fresh: bool  #: the file does not exist yet


class Doomed(NamedTuple):
    """A segment whose file has to go, outside the lock."""

    segment_row: int
    segment_id: int
    nbytes: int
    exported: bool


class Allocation:
    """The free space of a plane. ``doomed`` collects what the caller must remove after the lock is released."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._header, self._blocks = manifest.header, manifest.blocks
        self._segments, self._classes = manifest.segments, manifest.classes
        self._recycled = manifest.recycled
        self.slot = -1
        self.doomed: dict[int, Doomed] = {}

    # Block rows

    def block_row(self) -> int:
        """A free row that owns no cell."""
        header, blocks = self._header, self._blocks
        following = header.free_blocks[0]
        if following:
            header.free_blocks[0] = blocks.next[following - 1]
            return following - 1
        high = header.blocks_high[0]
        if high == header.blocks_reserved[0] and high < blocks.rows:
            self._reserve_blocks(min(blocks.rows, max(64, high + min(high // 2, 8192))))
        if high < blocks.rows:
            header.blocks_high[0] = high + 1
            return high
        return self._steal_row()

    def _reserve_blocks(self, rows: int) -> None:
        self._manifest.reserve(self._blocks, rows)
        for slot in self.slots_in_use():
            self._manifest.reserve_lease_row(slot, rows)
        self._header.blocks_reserved[0] = rows

    def slots_in_use(self) -> list[int]:
        return [slot for slot, state in enumerate(self._manifest.processes.state.tolist()) if state]

    def _steal_row(self) -> int:
        """All rows are in use or own a cell: take one from a cell, which becomes an orphan of its slab."""
        header, blocks, classes = self._header, self._blocks, self._classes
        self.dissolve_idle_slabs()
        if header.free_blocks[0]:
            return self.block_row()
        for index, following in enumerate(classes.free.tolist()):
            if following:
                row = following - 1
                classes.free[index] = blocks.next[row]
                self._segments.orphans[blocks.segment[row] - 1] += 1
                blocks.cell[row] = 0
                return row
        raise PlaneFull(
            f"all {blocks.rows:,} blocks of the plane are in use. Delete some, close leases on old versions, or make "
            f"the plane with a larger max_blocks=.",
            needed=1,
            max_blocks=blocks.rows,
        )

    def free_block_row(self, row: int) -> None:
        """Back to the chain that fits: its class's when it owns a cell."""
        cell = self._blocks.cell[row]
        if cell:
            index = self._segments.slab[self._blocks.segment[row] - 1] - 1
            self._blocks.next[row] = self._classes.free[index]
            self._classes.free[index] = row + 1
        else:
            self._blocks.next[row] = self._header.free_blocks[0]
            self._header.free_blocks[0] = row + 1

    # Cells of slabs

    def cell(self, index: int) -> int:
        """A free row that owns a cell of class ``index``; -1 when the class needs another slab first."""
        classes, blocks = self._classes, self._blocks
        following = classes.free[index]
        if following:
            row = following - 1
            classes.free[index] = blocks.next[row]
            return row
        slab = classes.slab[index]
        if not slab:
            return self._adopt_orphan(index)
        segments, cell = self._segments, CELL_NBYTES[index]
        row = self.block_row()
        if not classes.slab[index]:  # the search for a row dissolved it
            self.free_block_row(row)
            return -1
        start = segments.bump[slab - 1]
        segments.bump[slab - 1] = start + cell
        if start + 2 * cell > segments.nbytes[slab - 1]:
            classes.slab[index] = 0
        self.bind(row, slab - 1, offset=start, cell=cell)
        return row

    def bind(self, row: int, segment_row: int, *, offset: int, cell: int) -> None:
        """Give a free row a cell."""
        blocks = self._blocks
        blocks.segment[row] = segment_row + 1
        blocks.offset[row] = offset
        blocks.cell[row] = cell

    def _adopt_orphan(self, index: int) -> int:
        segments, high = self._segments, self._header.segments_high[0]
        if not any(segments.orphans[:high].tolist()):
            return -1
        for slab in range(high):
            if segments.orphans[slab] and segments.slab[slab] == index + 1 and segments.state[slab] == USED:
                return self._adopt_from(slab, CELL_NBYTES[index])
        return -1

    def _adopt_from(self, slab: int, cell: int) -> int:
        blocks, high = self._blocks, self._header.blocks_high[0]
        owned = {
            offset
            for segment, offset, size in zip(
                blocks.segment[:high].tolist(), blocks.offset[:high].tolist(), blocks.cell[:high].tolist(), strict=True
            )
            if segment == slab + 1 and size
        }
        row = self.block_row()
        for offset in range(0, self._segments.bump[slab], cell):
            if offset not in owned:
                self._segments.orphans[slab] -= 1
                self.bind(row, slab, offset=offset, cell=cell)
                return row
        self._segments.orphans[slab] = 0
        self.free_block_row(row)
        return -1

    def use_cell(self, row: int) -> None:
        """Count a cell that now has a block."""
        segment = self._blocks.segment[row] - 1
        cells = self._segments.cells[segment] + 1
        self._segments.cells[segment] = cells
        if cells == 1:
            self._account(used=self._segments.nbytes[segment], recycled=-self._segments.nbytes[segment])

    def leave_cell(self, row: int) -> None:
        """Count a cell whose block is gone; the last one makes the slab warm."""
        segment = self._blocks.segment[row] - 1
        cells = self._segments.cells[segment] - 1
        self._segments.cells[segment] = cells
        if cells == 0:
            self._account(used=-self._segments.nbytes[segment], recycled=self._segments.nbytes[segment])

    def make_slab_for(self, nbytes: int) -> Place:
        """A segment row for the next slab of a size's class, to be made and then finished."""
        index = class_of(nbytes)
        cell = CELL_NBYTES[index]
        nbytes = slab_nbytes(cell, self._classes.slabs[index])
        try:
            self.make_room(nbytes)
        except PlaneFull:
            nbytes = round_to_pages(cell)
            self.make_room(nbytes)
        place = self._new_segment(nbytes)
        self._segments.slab[place.segment_row] = index + 1
        return place

    def finish_slab(self, segment_row: int) -> None:
        """The slab's file is there and backed by memory: open it for cells."""
        index = self._segments.slab[segment_row] - 1
        self._segments.state[segment_row] = USED
        self._account(used=-self._segments.nbytes[segment_row], recycled=self._segments.nbytes[segment_row])
        self._classes.slabs[index] += 1
        previous = self._classes.slab[index]
        self._classes.slab[index] = segment_row + 1
        if previous:
            # Two processes made one at once: the rest of the older stays uncut until it is dissolved.
            self._classes.slab[index] = previous
            self._cut_all(segment_row, CELL_NBYTES[index])

    def _cut_all(self, slab: int, cell: int) -> None:
        """Bind a row to each cell of a slab that is not the class's open one, as far as rows go."""
        segments, header, blocks = self._segments, self._header, self._blocks
        while segments.bump[slab] + cell <= segments.nbytes[slab]:
            if not header.free_blocks[0] and header.blocks_high[0] == blocks.rows:
                return
            row = self.block_row()
            start = segments.bump[slab]
            segments.bump[slab] = start + cell
            self.bind(row, slab, offset=start, cell=cell)
            self.free_block_row(row)

    def dissolve_idle_slabs(self) -> int:
        """Doom every slab without live cells; the bytes that gives back."""
        segments, high = self._segments, self._header.segments_high[0]
        idle = [
            slab
            for slab in range(high)
            if segments.state[slab] == USED and segments.slab[slab] and not segments.cells[slab]
        ]
        freed = sum(segments.nbytes[slab] for slab in idle)
        for index in {segments.slab[slab] - 1 for slab in idle}:
            self._release_cells(index, {slab + 1 for slab in idle})
        for slab in idle:
            index = segments.slab[slab] - 1
            self._classes.slabs[index] -= 1
            if self._classes.slab[index] == slab + 1:
                self._classes.slab[index] = 0
            self._account(recycled=-segments.nbytes[slab])
            self.doom(slab)
        return freed

    def _release_cells(self, index: int, slabs: set[int]) -> None:
        blocks, chain = self._blocks, list(self._chain(self._classes.free[index]))
        self._classes.free[index] = 0
        for row in chain:
            if blocks.segment[row] in slabs:
                blocks.cell[row] = 0
            self.free_block_row(row)

    def _chain(self, following: int) -> Iterator[int]:
        while following:
            yield following - 1
            following = self._blocks.next[following - 1]

    # Segments of their own

    def place(self, nbytes: int) -> Place:
        """A warm segment that fits, or a row for a new one; ``PlaneFull`` when capacity is reached."""
        warm = self._take_warm(nbytes)
        if warm is not None:
            return warm
        needed = round_to_pages(nbytes)
        self.make_room(needed)
        return self._new_segment(needed)

    def _take_warm(self, nbytes: int) -> Place | None:
        segments, first = self._segments, self._recycled.first
        bucket = bucket_of(nbytes)
        for candidate_bucket in range(bucket, min(bucket + 3, RECYCLE_BUCKETS)):
            previous, following = -1, first[candidate_bucket]
            for _ in range(_MOST_TRIED_PER_BUCKET):
                if not following:
                    break
                row = following - 1
                if fits(segments.nbytes[row], nbytes):
                    self._unchain(candidate_bucket, previous, row)
                    size = segments.nbytes[row]
                    segments.state[row] = USED
                    self._account(used=size, recycled=-size)
                    return Place(row, segments.id[row], size, fresh=False)
                previous, following = row, segments.next[row]
        return None

    def _unchain(self, bucket: int, previous: int, row: int) -> None:
        if previous < 0:
            self._recycled.first[bucket] = self._segments.next[row]
        else:
            self._segments.next[previous] = self._segments.next[row]

    def _new_segment(self, nbytes: int) -> Place:
        header, segments = self._header, self._segments
        row = self._segment_row()
        segment_id = header.next_segment[0]
        header.next_segment[0] = segment_id + 1
        segments.id[row] = segment_id
        segments.nbytes[row] = nbytes
        segments.owner[row] = self.slot + 1
        for column in (segments.slab, segments.bump, segments.exported, segments.cells, segments.orphans):
            column[row] = 0
        segments.state[row] = MAKING
        self._account(used=nbytes)
        return Place(row, segment_id, nbytes, fresh=True)

    def _segment_row(self) -> int:
        header, segments = self._header, self._segments
        following = header.free_segments[0]
        if following:
            header.free_segments[0] = segments.next[following - 1]
            return following - 1
        high = header.segments_high[0]
        if high == segments.rows:
            raise PlaneFull(f"all {high:,} segments of the plane are in use; delete some blocks.", needed=1)
        if high == header.segments_reserved[0]:
            reserved = min(segments.rows, max(32, high + min(high // 2, 8192)))
            self._manifest.reserve(segments, reserved)
            header.segments_reserved[0] = reserved
        header.segments_high[0] = high + 1
        return high

    def finish(self, segment_row: int) -> None:
        """The file is complete: from now on it can be recycled."""
        if self._segments.state[segment_row] != USED:
            self._segments.state[segment_row] = USED

    def leave_segment(self, segment_row: int) -> None:
        """Its block is gone: keep it warm, or doom it when it was never finished, is exported, or the list is full."""
        segments, header = self._segments, self._header
        size = segments.nbytes[segment_row]
        self._account(used=-size)
        if segments.state[segment_row] != USED or segments.exported[segment_row] or size > header.recycle[0]:
            self.doom(segment_row)
            return
        excess = header.recycled_nbytes[0] + size - header.recycle[0]
        if excess > 0:
            self.cool(excess)
        segments.state[segment_row] = WARM
        self.keep_warm(segment_row)
        self._account(recycled=size)

    def keep_warm(self, segment_row: int) -> None:
        """Chain a warm segment into its bucket, youngest first."""
        bucket = bucket_of(self._segments.nbytes[segment_row])
        self._segments.next[segment_row] = self._recycled.first[bucket]
        self._recycled.first[bucket] = segment_row + 1

    def make_room(self, nbytes: int) -> None:
        """Let go of warm memory until ``nbytes`` are free; ``PlaneFull`` when that is not enough."""
        header = self._header
        missing = nbytes - self.free_nbytes()
        if missing > 0 and missing <= header.recycled_nbytes[0]:
            missing -= self.cool(missing)
        if missing > 0:
            capacity, free = header.capacity[0], self.free_nbytes()
            raise PlaneFull(
                f"need {nbytes:,} B; {free:,} B free of {capacity:,}. Delete blocks, open the plane with a larger "
                f"capacity= (plane.resize), or close leases on old versions.",
                needed=nbytes,
                free=free,
                capacity=capacity,
            )

    def free_nbytes(self) -> int:
        header = self._header
        return header.capacity[0] - header.used_nbytes[0] - header.recycled_nbytes[0]

    def recycled_nbytes(self) -> int:
        return self._header.recycled_nbytes[0]

    def cool(self, nbytes: int) -> int:
        """Doom warm segments, largest first, then idle slabs, until ``nbytes`` are given back; how much that was."""
        segments, freed = self._segments, 0
        for bucket in reversed(range(RECYCLE_BUCKETS)):
            while freed < nbytes and self._recycled.first[bucket]:
                row = self._recycled.first[bucket] - 1
                self._recycled.first[bucket] = segments.next[row]
                self._account(recycled=-segments.nbytes[row])
                freed += segments.nbytes[row]
                self.doom(row)
        if freed < nbytes:
            freed += self.dissolve_idle_slabs()
        return freed

    def doom(self, segment_row: int) -> None:
        """The file has to go; ours to remove from now on."""
        segments = self._segments
        segments.owner[segment_row] = self.slot + 1
        segments.state[segment_row] = DOOMED
        self.doomed[segments.id[segment_row]] = Doomed(
            segment_row, segments.id[segment_row], segments.nbytes[segment_row], bool(segments.exported[segment_row])
        )

    def give_up(self, segment_row: int) -> None:
        """A segment that was being made will not be finished."""
        self._account(used=-self._segments.nbytes[segment_row])
        self.doom(segment_row)

    def forget_segment(self, segment_row: int, segment_id: int) -> None:
        """The file is gone: the row can be used again, unless it already was."""
        segments = self._segments
        if segments.state[segment_row] != DOOMED or segments.id[segment_row] != segment_id:
            return
        segments.state[segment_row] = FREE
        segments.next[segment_row] = self._header.free_segments[0]
        self._header.free_segments[0] = segment_row + 1

    def _account(self, *, used: int = 0, recycled: int = 0) -> None:
        header = self._header
        if used:
            header.used_nbytes[0] += used
        if recycled:
            header.recycled_nbytes[0] += recycled
