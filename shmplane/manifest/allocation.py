"""Block rows and the cells of slabs: who gets which, under the lock.

A free block row may own a cell of a slab; such rows wait in the chain of their class, so a small block gets row and
place with one pop. When rows run short they are taken from free cells, which become orphans of their slab.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import PlaneCorrupt, PlaneFull
from ..system import round_to_pages
from .segments import Place, SegmentSpace
from .space import CELL_NBYTES, CLASS_BY_LINES, LARGEST_SLAB_NBYTES, class_of, slab_nbytes
from .states import FREE, USED

if TYPE_CHECKING:
    from .store import Manifest

__all__ = ["Allocation"]


class Allocation(SegmentSpace):
    """The free space of a plane: segments, and within slabs rows and cells."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self._blocks, self._classes = manifest.blocks, manifest.classes

    def trim(self, nbytes: int) -> int:
        """Remove warm segments, then idle slabs, until ``nbytes`` are given back; how much that was."""
        freed = super().trim(nbytes)
        return freed if freed >= nbytes else freed + self.remove_idle_slabs()

    # Block rows

    def block_row(self) -> int:
        """A free row that owns no cell."""
        header, blocks = self._header, self._blocks
        following = header.free_blocks[0]
        if following:
            header.free_blocks[0] = blocks.next[following - 1]
            return self._free_row(following - 1)
        high = header.blocks_high[0]
        if not high <= header.blocks_reserved[0] <= blocks.rows:
            self._manifest.check_counters()
        if high == header.blocks_reserved[0] and high < blocks.rows:
            self._reserve_blocks(min(blocks.rows, max(64, high + min(high // 2, 8192))))
        if high < blocks.rows:
            header.blocks_high[0] = high + 1
            return self._free_row(high)
        return self._steal_row()

    def _free_row(self, row: int) -> int:
        """A row that is handed out is free, whatever chains and counters say."""
        if self._blocks.state[row] != FREE:
            raise PlaneCorrupt(f"block row {row} is counted as free and is in use; run `shmplane gc`", row=row)
        return row

    def _reserve_blocks(self, rows: int) -> None:
        self._manifest.reserve(self._blocks, rows)
        for slot in self._manifest.slots_in_use():
            self._manifest.reserve_lease_row(slot, rows)
        self._header.blocks_reserved[0] = rows

    def _steal_row(self) -> int:
        """All rows are in use or own a cell: take one from a cell, which becomes an orphan of its slab."""
        header, blocks, classes = self._header, self._blocks, self._classes
        self.remove_idle_slabs()
        if header.free_blocks[0]:
            return self.block_row()
        for index, following in enumerate(classes.free.tolist()):
            if following:
                row = following - 1
                classes.free[index] = blocks.next[row]
                self._segments.orphans[blocks.segment[row] - 1] += 1
                blocks.cell[row] = 0
                return self._free_row(row)
        raise self._manifest.refuse(
            PlaneFull(
                f"all {blocks.rows:,} blocks of the plane are in use. Delete some, close leases on old versions, or make "
                f"the plane with a larger max_blocks=.",
                needed=1,
                max_blocks=blocks.rows,
            )
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

    def cell(self, nbytes: int) -> int:
        """A free row that owns a cell for ``nbytes``; -1 when its class needs another slab first."""
        index = CLASS_BY_LINES[nbytes + 63 >> 6]
        classes, blocks = self._classes, self._blocks
        following = classes.free[index]
        if following:
            row = following - 1
            classes.free[index] = blocks.next[row]
            return self._free_row(row)
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

    def has_cell(self, index: int) -> bool:
        """Whether a block of a class finds a cell without another slab."""
        return bool(self._classes.free[index] or self._classes.slab[index])

    def has_cell_for(self, nbytes: int) -> bool:
        """The same for a block of so many bytes."""
        return self.has_cell(CLASS_BY_LINES[nbytes + 63 >> 6])

    def bind(self, row: int, segment_row: int, *, offset: int, cell: int) -> None:
        """Give a free row a cell."""
        blocks = self._blocks
        blocks.segment[row] = segment_row + 1
        blocks.offset[row] = offset
        blocks.cell[row] = cell

    def _adopt_orphan(self, index: int) -> int:
        segments, high = self._segments, self._manifest.segments_high
        if not any(segments.orphans[:high].tolist()):
            return -1
        for slab in range(high):
            if segments.orphans[slab] and segments.slab[slab] == index + 1 and segments.state[slab] == USED:
                return self._adopt_from(slab, CELL_NBYTES[index])
        return -1

    def _adopt_from(self, slab: int, cell: int) -> int:
        row = self.block_row()
        if self._segments.state[slab] != USED:  # the search for a row dissolved it
            self.free_block_row(row)
            return -1
        blocks, high = self._blocks, self._manifest.blocks_high
        owned = {
            offset
            for segment, offset, size in zip(
                blocks.segment[:high].tolist(), blocks.offset[:high].tolist(), blocks.cell[:high].tolist(), strict=True
            )
            if segment == slab + 1 and size
        }
        cut = self._segments.bump[slab]
        if cut > LARGEST_SLAB_NBYTES:
            raise PlaneCorrupt(f"segment row {slab} is a slab of impossible size; remove the plane", row=slab)
        for offset in range(0, cut, cell):
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

    def leave_cell(self, row: int) -> int:
        """Count a cell whose block is gone; the last one makes the slab warm. How many bytes of memory less are used."""
        segment = self._blocks.segment[row] - 1
        cells = self._segments.cells[segment] - 1
        self._segments.cells[segment] = cells
        if self._segments.place[segment]:
            self._blocks.cell[row] = 0  # nothing is put there again, so the row owns none
            return 0 if cells else self.abandon_segment(segment)
        if cells:
            return 0
        nbytes = self._segments.nbytes[segment]
        self._account(used=-nbytes, recycled=nbytes)
        return nbytes

    def move_cells(self, slab: int, to: int, count: int) -> None:
        """So many blocks of a slab lie in its copy in the spill directory now. What they left is no row's."""
        segments = self._segments
        segments.cells[to] += count
        segments.orphans[slab] += count
        segments.cells[slab] -= count
        if not segments.cells[slab]:
            self._account(used=-segments.nbytes[slab], recycled=segments.nbytes[slab])

    def make_slab_for(self, nbytes: int) -> Place:
        """A segment row for the next slab of a size's class, to be made and then finished."""
        index = class_of(nbytes)
        cell = CELL_NBYTES[index]
        nbytes = slab_nbytes(cell, self._classes.slabs[index])
        if nbytes > self.free_nbytes() + self.recycled_nbytes():
            nbytes = round_to_pages(cell)
        self.make_room(nbytes, cell=index)
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
            # Two processes made one at once: the rest of the older stays uncut until it is removed.
            self._classes.slab[index] = previous
            self._cut_all(segment_row, CELL_NBYTES[index])

    def _cut_all(self, slab: int, cell: int) -> None:
        """Bind a row to each cell of a slab that is not the class's open one, as far as rows go."""
        segments, header, blocks = self._segments, self._header, self._blocks
        while segments.bump[slab] + cell <= segments.nbytes[slab]:
            if not header.free_blocks[0] and self._manifest.blocks_high == blocks.rows:
                return
            row = self.block_row()
            start = segments.bump[slab]
            segments.bump[slab] = start + cell
            self.bind(row, slab, offset=start, cell=cell)
            self.free_block_row(row)

    def remove_idle_slabs(self) -> int:
        """Remove every slab without live cells; the bytes that gives back."""
        segments, high = self._segments, self._manifest.segments_high
        idle = [
            slab
            for slab in range(high)
            if segments.state[slab] == USED
            and segments.slab[slab]
            and not segments.cells[slab]
            and not segments.place[slab]
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
            self.remove_segment(slab)
        return freed

    def _release_cells(self, index: int, slabs: set[int]) -> None:
        blocks, chain = self._blocks, list(self._chain(self._classes.free[index]))
        self._classes.free[index] = 0
        for row in chain:
            if blocks.segment[row] in slabs:
                blocks.cell[row] = 0
            self.free_block_row(row)

    def _chain(self, following: int) -> Iterator[int]:
        for _ in range(self._blocks.rows + 1):
            if not following:
                return
            yield following - 1
            following = self._blocks.next[following - 1]
        raise PlaneCorrupt("a chain of free blocks loops; remove the plane")
