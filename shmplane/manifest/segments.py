"""Segments: which one a larger block gets, which stay warm, which go. Under the lock.

Segment rows live apart from block rows, since a segment outlives its block while it is warm.

Accounting: used + warm + free = capacity, where a slab without live cells counts as warm. A doomed segment counts as free
already; whoever dooms it removes the file before writing anything new. What lies in the spill directory counts apart: it is
never warm, and no cell of a slab there is used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import PlaneCorrupt, PlaneFull
from ..system import SIZE_CLASSES, fits, round_to_pages, size_class_of
from .states import DOOMED, FREE, IN_MEMORY, MAKING, SPILLED, USED, WARM

if TYPE_CHECKING:
    from .schema import Segments
    from .store import Manifest

__all__ = ["Doomed", "Place", "SegmentSpace", "doomed_of"]

_MOST_TRIED_PER_BUCKET = 32


class Place(NamedTuple):
    """Where a new block or slab is to be written."""

    segment_row: int
    segment_id: int
    nbytes: int  #: of the whole file
    fresh: bool  #: the file does not exist yet
    is_spilled: bool = False  #: it is to lie in the spill directory


class Doomed(NamedTuple):
    """A segment whose file has to go, outside the lock."""

    segment_row: int
    segment_id: int
    nbytes: int
    exported: bool
    is_spilled: bool = False


def doomed_of(segments: Segments, row: int) -> Doomed:
    """What has to be known of a segment to remove its file."""
    return Doomed(
        row, segments.id[row], segments.nbytes[row], bool(segments.exported[row]), segments.place[row] == SPILLED
    )


class SegmentSpace:
    """``doomed`` collects the segments whose files the caller must remove after the lock is released."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._header, self._segments, self._recycled = manifest.header, manifest.segments, manifest.recycled
        self.slot = -1
        self.doomed: dict[int, Doomed] = {}

    def place(self, nbytes: int) -> Place:
        """A warm segment that fits, or a row for a new one; ``PlaneFull`` when capacity is reached."""
        warm = self._take_warm(nbytes)
        if warm is not None:
            return warm
        return self.fresh_place(nbytes)

    def fresh_place(self, nbytes: int) -> Place:
        """A row for a new segment; ``PlaneFull`` when capacity is reached."""
        needed = round_to_pages(nbytes)
        self.make_room(needed)
        return self._new_segment(needed)

    def spilled_place(self, nbytes: int, *, slab: int = 0, bump: int = 0) -> Place:
        """A row for a new segment in the spill directory, where the capacity is no limit.

        Args:
            slab, bump: of the slab whose copy it is to be.
        """
        return self._new_segment(round_to_pages(nbytes), place=SPILLED, slab=slab, bump=bump)

    def resize_unfinished(self, segment_row: int, nbytes: int) -> int:
        """Another size for a segment that is MAKING, so that nobody has mapped it; its size now."""
        needed = round_to_pages(nbytes)
        more = needed - self._segments.nbytes[segment_row]
        if more > 0 and not self._segments.place[segment_row]:
            self.make_room(more)
        self._segments.nbytes[segment_row] = needed
        self._count_used(segment_row, more)
        return needed

    def _take_warm(self, nbytes: int) -> Place | None:
        bucket = size_class_of(nbytes)
        for candidate_bucket in range(bucket, min(bucket + 3, SIZE_CLASSES)):
            found = self._find_warm(candidate_bucket, nbytes)
            if found is not None:
                previous, row = found
                self._unchain(candidate_bucket, previous, row)
                segments, size = self._segments, self._segments.nbytes[row]
                segments.owner[row] = self.slot + 1
                segments.state[row] = USED
                self._account(used=size, recycled=-size)
                return Place(row, segments.id[row], size, fresh=False)
        return None

    def _find_warm(self, bucket: int, nbytes: int) -> tuple[int, int] | None:
        """The row before it, and a warm segment that fits: one that this process filled last, else the youngest."""
        segments, youngest = self._segments, None
        previous, following = -1, self._recycled.first[bucket]
        for _ in range(_MOST_TRIED_PER_BUCKET):
            if not following:
                break
            row = following - 1
            if fits(segments.nbytes[row], nbytes):
                # Its pages are still mapped here; another process would have to map them first.
                if segments.owner[row] == self.slot + 1:
                    return previous, row
                youngest = youngest or (previous, row)
            previous, following = row, segments.next[row]
        return youngest

    def _unchain(self, bucket: int, previous: int, row: int) -> None:
        if previous < 0:
            self._recycled.first[bucket] = self._segments.next[row]
        else:
            self._segments.next[previous] = self._segments.next[row]

    def _new_segment(self, nbytes: int, *, place: int = IN_MEMORY, slab: int = 0, bump: int = 0) -> Place:
        header, segments = self._header, self._segments
        row = self._segment_row()
        segment_id = header.next_segment[0]
        header.next_segment[0] = segment_id + 1
        segments.id[row] = segment_id
        segments.nbytes[row] = nbytes
        segments.owner[row] = self.slot + 1
        for column in (segments.exported, segments.cells, segments.orphans):
            column[row] = 0
        segments.place[row], segments.slab[row], segments.bump[row] = place, slab, bump
        segments.state[row] = MAKING
        self._count_used(row, nbytes)
        return Place(row, segment_id, nbytes, fresh=True, is_spilled=place == SPILLED)

    def _segment_row(self) -> int:
        header, segments = self._header, self._segments
        following = header.free_segments[0]
        if following:
            header.free_segments[0] = segments.next[following - 1]
            return following - 1
        high = self._manifest.segments_high
        if high == segments.rows:
            raise self._manifest.refuse(
                PlaneFull(
                    f"all {high:,} segments of the plane are in use; delete some blocks.", needed=1, max_segments=high
                )
            )
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

    def leave_segment(self, segment_row: int) -> int:
        """Its block is gone: keep it warm, or remove it when it was never finished, is exported, or the list is full.

        Returns how many bytes of memory less are used.
        """
        segments, header = self._segments, self._header
        if segments.place[segment_row]:
            return self.abandon_segment(segment_row)
        size = segments.nbytes[segment_row]
        self._account(used=-size)
        if segments.state[segment_row] != USED or segments.exported[segment_row] or size > header.recycle[0]:
            self.remove_segment(segment_row)
            return size
        excess = header.recycled_nbytes[0] + size - header.recycle[0]
        if excess > 0:
            self.trim(excess)
        segments.state[segment_row] = WARM
        self.keep_warm(segment_row)
        self._account(recycled=size)
        return size

    def keep_warm(self, segment_row: int) -> None:
        """Chain a warm segment into its bucket, youngest first."""
        bucket = size_class_of(self._segments.nbytes[segment_row])
        self._segments.next[segment_row] = self._recycled.first[bucket]
        self._recycled.first[bucket] = segment_row + 1

    def make_room(self, nbytes: int, *, cell: int = -1) -> None:
        """Remove warm memory until ``nbytes`` are free; ``PlaneFull`` when that is not enough.

        Args:
            cell: the class of cells that they are for; -1: for one block.
        """
        header = self._header
        missing = nbytes - self.free_nbytes()
        if missing > 0 and missing <= header.recycled_nbytes[0]:
            missing -= self.trim(missing)
        if missing > 0:
            capacity, free = header.capacity[0], self.free_nbytes()
            raise self._manifest.refuse(
                PlaneFull(
                    f"need {nbytes:,} B; {free:,} B free of {capacity:,}. Delete blocks, open the plane with a larger "
                    f"capacity= (plane.resize) or a spill= directory, or close leases on old versions.",
                    needed=nbytes,
                    free=free,
                    capacity=capacity,
                    cell=cell,
                )
            )

    def free_nbytes(self) -> int:
        header = self._header
        return header.capacity[0] - header.used_nbytes[0] - header.recycled_nbytes[0]

    def recycled_nbytes(self) -> int:
        return self._header.recycled_nbytes[0]

    def trim(self, nbytes: int) -> int:
        """Remove warm segments, largest first, until ``nbytes`` are given back; how much that was."""
        segments, freed = self._segments, 0
        for bucket in reversed(range(SIZE_CLASSES)):
            while freed < nbytes and self._recycled.first[bucket]:
                row = self._recycled.first[bucket] - 1
                if segments.state[row] != WARM:
                    # Also what ends this loop when a chain that was written over leads back into itself.
                    raise PlaneCorrupt(f"segment row {row} is kept warm and is not; remove the plane", row=row)
                self._recycled.first[bucket] = segments.next[row]
                self._account(recycled=-segments.nbytes[row])
                freed += segments.nbytes[row]
                self.remove_segment(row)
        return freed

    def remove_segment(self, segment_row: int) -> None:
        """The file has to go; ours to remove from now on."""
        segments = self._segments
        segments.owner[segment_row] = self.slot + 1
        segments.state[segment_row] = DOOMED
        self.doomed[segments.id[segment_row]] = doomed_of(segments, segment_row)

    def abandon_segment(self, segment_row: int) -> int:
        """A segment goes, which was being made, or lies in the spill directory. How many bytes of memory less are used."""
        nbytes = self._segments.nbytes[segment_row]
        self._count_used(segment_row, -nbytes)
        self.remove_segment(segment_row)
        return 0 if self._segments.place[segment_row] else nbytes

    def forget_segment(self, segment_row: int, segment_id: int) -> None:
        """The file is gone: the row can be used again, unless it already was."""
        segments = self._segments
        if segments.state[segment_row] != DOOMED or segments.id[segment_row] != segment_id:
            return
        segments.state[segment_row] = FREE
        segments.next[segment_row] = self._header.free_segments[0]
        self._header.free_segments[0] = segment_row + 1

    def doomed_segments(self) -> list[tuple[int, int]]:
        """Row and id of the segments whose files have to go, or are gone and nobody has said so yet."""
        segments, states = self._segments, self._segments.state[: self._manifest.segments_high].tolist()
        return [(row, segments.id[row]) for row, state in enumerate(states) if state == DOOMED]

    def _count_used(self, segment_row: int, nbytes: int) -> None:
        """So many bytes more, or less, of one place are in use."""
        header = self._header
        (header.spilled_nbytes if self._segments.place[segment_row] else header.used_nbytes)[0] += nbytes

    def _account(self, *, used: int = 0, recycled: int = 0) -> None:
        header = self._header
        if used:
            header.used_nbytes[0] += used
        if recycled:
            header.recycled_nbytes[0] += recycled
