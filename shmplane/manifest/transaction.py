"""The only writer of the manifest. Every method runs under the host-wide lock.

The order of stores, for facts:
    put     fields of the row, lease, LIVE, then the name word: the commit. Then what it pointed to is freed.
            Blocks that it refers to are LIVE before it is.
    free    DEAD, the segment, generation + 1, FREE.
    delete  the name word: the commit. Then the block is freed.
A kill before the commit leaves a block that no root reaches, which recovery frees; a kill after it leaves an old block
that no root reaches, likewise.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import Conflict, ShmplaneError
from ..system import late
from .allocation import Allocation
from .coordination import Coordination
from .counting import Counting
from .freed import NOTHING, Freed
from .index import NameIndex
from .metering import Metering
from .queues import EvictionQueues
from .reading import Contents, Reader, not_found
from .roots import is_needed, is_rooted
from .states import CREATING, DEAD, FREE, KEPT, LIVE, ROW_MASK, VERSION_MASK, kept_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import items, rates
    from .segments import Place
    from .store import Manifest
else:
    items = late("shmplane.manifest.items")
    rates = late("shmplane.manifest.rates")

__all__ = ["NeedSlab", "Transaction"]

_clock = time.monotonic_ns
#: what most blocks free: a cell of a slab that others use
_ONE_CELL = Freed(blocks=1)
_wall = time.time_ns


class NeedSlab(ShmplaneError):
    """A class of cells needs one more slab first; raised before anything has changed."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(f"no slab has a free cell for {nbytes:,} B")
        self.nbytes = nbytes


class Transaction(Reader):
    """What one process changes; ``slot`` is its own, -1 while it is joining."""

    def __init__(self, manifest: Manifest) -> None:
        self.index: NameIndex = NameIndex(manifest)
        super().__init__(manifest, self.index)
        self.slot: int = -1
        self.space: Allocation = Allocation(manifest)
        self.coordination: Coordination = Coordination(manifest)
        self.metering: Metering = Metering(manifest)
        self.counting: Counting = Counting(manifest)
        self.count_row: int = self.counting.row  #: where this process counts
        self.eviction: EvictionQueues = EvictionQueues(manifest)

    @cached_property
    def rates(self) -> rates.Rates:
        """Made, and its module loaded, when it is first asked for."""
        return rates.Rates(self.manifest, self.coordination)

    @cached_property
    def items(self) -> items.Items:
        """The items of queues, likewise."""
        return items.Items(self.manifest, self.coordination)

    def act_for(self, slot: int) -> None:
        """Act for the process of ``slot`` from now on."""
        self.slot = self.space.slot = self.coordination.slot = slot
        self.count_row = self.counting.act_for(slot)
        self._own_leases = self.manifest.lease_row(slot)

    def set_capacity(self, nbytes: int) -> None:
        self.header.capacity[0] = nbytes

    def mark_exported(self, row: int) -> None:
        """Other programs may have the block's segment open from now on: it is never used again."""
        self.segments.exported[self.blocks.segment[row] - 1] = 1

    # Leases

    def lease(self, row: int) -> None:
        """Take a lease that this process does not have yet, and count it: what is had already is got again for nothing."""
        self._own_leases[row] = 1
        self.counters.gets[self.count_row] += 1

    def release(self, row: int) -> None:
        """End this process's lease."""
        self.release_of(self.slot, row)

    def release_of(self, slot: int, row: int) -> Freed:
        """End the lease of ``slot``: our own, or that of a process whose token is free. What that freed."""
        blocks, now = self.blocks, _clock()
        blocks.used[row] = now
        linger = blocks.linger[row]
        if linger:
            blocks.expires[row] = now + linger
        self.manifest.lease_row(slot)[row] = 0
        if blocks.queue[row]:
            self.eviction.released(row)
        return self.free_unless_kept(row)

    # Making blocks

    def begin_small(self, nbytes: int) -> int:
        """A free row with a cell for ``nbytes``; ``NeedSlab``. Published, or abandoned by ``abandon_small``."""
        row = self.space.cell(nbytes)
        if row < 0:
            raise self.manifest.refuse(NeedSlab(nbytes))
        # Counted at once: the search for another row removes slabs that count none.
        self.space.use_cell(row)
        return row

    def abandon_small(self, row: int) -> None:
        """The cell that was begun is not published; a row that is CREATING is its owner's to abandon."""
        if self.blocks.cell[row] and not self.blocks.state[row]:
            self.space.leave_cell(row)
            self.space.free_block_row(row)

    def begin_large(self, nbytes: int, *, fresh: bool = False, spilled: bool = False) -> tuple[int, Place]:
        """A row that is CREATING and a segment of its own to write.

        Args:
            fresh: a new one, whose size may change.
            spilled: one in the spill directory.
        """
        if spilled:
            place = self.space.spilled_place(nbytes)
        else:
            place = self.space.fresh_place(nbytes) if fresh else self.space.place(nbytes)
        try:
            row = self.space.block_row()
        except BaseException:
            self.space.leave_segment(place.segment_row)
            raise
        blocks = self.blocks
        blocks.cell[row] = 0
        blocks.segment[row] = place.segment_row + 1
        blocks.offset[row] = 0
        blocks.owner[row] = self.slot + 1
        self._clear(row)
        blocks.state[row] = CREATING
        self.header.live_blocks[0] += 1
        return row, place

    def _clear(self, row: int) -> None:
        blocks = self.blocks
        blocks.references[row] = 0
        blocks.name[row] = 0
        blocks.linger[row] = 0
        blocks.expires[row] = 0
        blocks.until[row] = 0

    def fill(self, row: int, contents: Contents, group: int = 0, cost: int = 0) -> None:
        """Describe what has been, or is about to be, written; not visible before LIVE."""
        blocks = self.blocks
        self.counters.copied_nbytes[self.count_row] += contents.nbytes
        blocks.body_nbytes[row] = contents.body_nbytes
        blocks.stored_nbytes[row] = contents.stored_nbytes
        blocks.frame_nbytes[row] = len(contents.frame)
        blocks.frame_crc[row] = contents.frame_crc
        blocks.kind[row] = contents.kind
        blocks.created[row] = _wall()
        blocks.used[row] = _clock()
        blocks.group[row] = group
        if group:
            blocks.cost[row] = cost

    def check_version(self, name: bytes, expected: int | None) -> None:
        """``Conflict`` unless the name is at the expected version."""
        if expected is None:
            return
        name_row, row = self.current(name)
        found = self.names.version[name_row] if row >= 0 else 0
        if found != expected:
            self.counting.conflicted()
            raise self.manifest.refuse(
                Conflict(
                    f"{name.decode()!r} is at version {found}, expected {expected}"
                    f"{' (absent)' if not expected else ''}. Read it again and repeat the change.",
                    name=name.decode(),
                    expected=expected,
                    found=found,
                )
            )

    def check_unmoved(self, name: bytes, row: int) -> int:
        """The name's row; ``Conflict`` unless it still points to the block of ``row``, which the caller leases."""
        name_row, found = self.current(name)
        if found != row:
            version = self.names.version[name_row] if found >= 0 else 0
            self.counting.conflicted()
            raise self.manifest.refuse(
                Conflict(
                    f"{name.decode()!r} is at version {version}{' (absent)' if not version else ''}; the edit began with "
                    f"version {self.blocks.version[row]}. Nothing was changed: edit it again.",
                    name=name.decode(),
                    expected=self.blocks.version[row],
                    found=version,
                )
            )
        return name_row

    def name_row(self, name: bytes) -> int:
        """The row of a name, made when it is missing."""
        row = self.index.find(name)
        return row if row >= 0 else self.index.add(name)

    def publish_part(self, row: int) -> None:
        """What was written goes live without name or lease: the next store has to be of a block that refers to it."""
        self._finish(row)
        self.blocks.version[row] = 0
        self.blocks.state[row] = LIVE

    def _finish(self, row: int) -> None:
        """Its bytes are complete: a segment can be recycled from now on, a cell counts as a block."""
        if self.blocks.cell[row]:
            self._clear(row)
            self.header.live_blocks[0] += 1
        else:
            self.space.finish(self.blocks.segment[row] - 1)

    def take_pages(self, row: int, nbytes: int) -> tuple[int, int]:
        """Room at the end of a block of pages, ``nbytes`` or what is left: where it starts and how much it is.

        Whoever took it writes it, and nobody sees it before a block refers to it. Killed before that, the room is lost
        until the block goes.
        """
        start = self.blocks.stored_nbytes[row]
        taken = max(0, min(nbytes, self.blocks.body_nbytes[row] - start))
        if taken:
            self.blocks.stored_nbytes[row] = start + taken
            self.counters.copied_nbytes[self.count_row] += taken
        return start, taken

    def abandon_pages(self, row: int, start: int, nbytes: int) -> None:
        """Give room back that will not be used, if nobody took more behind it."""
        if self.blocks.stored_nbytes[row] == start + nbytes:
            self.blocks.stored_nbytes[row] = start

    def publish_anonymous(self, row: int, linger_ns: int) -> None:
        """A written block goes live without a name: leased by us, and lingering after the last lease."""
        blocks = self.blocks
        self._finish(row)
        blocks.version[row] = 0
        if linger_ns:
            blocks.expires[row] = _clock() + linger_ns
            blocks.linger[row] = linger_ns
            self.header.lingering[0] += 1
        self._own_leases[row] = 1
        self.counters.puts[self.count_row] += 1
        blocks.state[row] = LIVE

    def keep_for(self, row: int, slot: int) -> None:
        """A live block that we lease is kept until ``release_kept``, or until the process of ``slot`` has ended."""
        if self.manifest.processes.state[slot]:
            self.blocks.owner[row] = KEPT + slot + 1
            self.header.kept[0] += 1

    def release_kept(self, row: int, slot: int) -> Freed:
        """It is not kept for the process of ``slot`` any more. Again: does nothing."""
        if kept_for(self.blocks.owner[row]) == slot:
            self.blocks.owner[row] = 0
            self.header.kept[0] -= 1
        return self.free_unless_kept(row)

    def publish(self, row: int, name_row: int, lease: bool, references: Sequence[int] = (), until: int = 0) -> None:
        """A filled cell, or a written segment, becomes the current block of a name, ``until`` then (monotonic_ns)."""
        blocks, names = self.blocks, self.names
        if blocks.cell[row]:  # ``_finish``, written out: this is in every put
            self._clear(row)
            self.header.live_blocks[0] += 1
        else:
            self.space.finish(blocks.segment[row] - 1)
        if references:
            self._refer(row, references)
        if until:
            blocks.until[row] = until
            self.header.expiring[0] += 1
        version = names.version[name_row] + 1
        blocks.version[row] = version
        blocks.name[row] = name_row + 1
        if lease:
            self._own_leases[row] = 1
        self.counters.puts[self.count_row] += 1
        blocks.state[row] = LIVE
        # Publish last: whoever sees the name word must see all of the block.
        previous = self._point(name_row, row)
        names.version[name_row] = version
        if blocks.group[row]:
            self.eviction.admit(row, names.hash[name_row])
        if previous >= 0 and not self._own_leases[previous]:
            self.free_unless_kept(previous)

    def _refer(self, row: int, others: Sequence[int]) -> None:
        """Say whose bytes a block shows. The number comes last: a half-written row refers to nothing."""
        blocks = self.blocks
        for column, other in zip(blocks.reference, others, strict=False):
            column[row] = other + 1
            blocks.referenced[other] += 1
        blocks.references[row] = len(others)

    def _point(self, name_row: int, row: int) -> int:
        """The commit: one store. Returns the block that the name pointed to, or -1."""
        names = self.names
        # ``row_of_name_word`` and ``pack_name_word``, written out: this is in every put.
        previous = (names.word[name_row] & ROW_MASK) - 1
        names.word[name_row] = row + 1 | (self.blocks.version[row] & VERSION_MASK) << 24
        if previous < 0:
            self.header.live_names[0] += 1
        if self.header.watchers[0]:
            self.coordination.wake_watchers(names.hash[name_row])
        return previous

    def abandon(self, row: int) -> Freed:
        """A block that is being created will not be. What that freed."""
        return self._free(row) if self.blocks.state[row] == CREATING else NOTHING

    # Deleting and freeing

    def delete(self, name: bytes) -> None:
        """The name points to nothing; ``BlockNotFound`` when it did already."""
        name_row, row = self.current(name)
        if row < 0:
            raise self.manifest.refuse(not_found(name))
        self._unname(name_row)
        self.counters.deletes[self.count_row] += 1
        self.free_unless_kept(row)

    def _unname(self, name_row: int) -> None:
        self.names.word[name_row] = 0
        self.header.live_names[0] -= 1
        self.index.queue_tombstone(name_row)

    def rename(self, old: bytes, new: bytes) -> None:
        """``new`` points to the block of ``old``, replacing what it had; the version counts on from the higher."""
        old_row, row = self.current(old)
        if row < 0:
            raise self.manifest.refuse(not_found(old))
        if old == new:
            return
        new_row = self.name_row(new)
        version = max(self.names.version[new_row] + 1, self.blocks.version[row])
        # The block's row says first which name counts; while both words stand, recovery empties the other.
        self.blocks.name[row] = new_row + 1
        self.blocks.version[row] = version
        previous = self._point(new_row, row)
        self.names.version[new_row] = version
        self._unname(old_row)
        if previous >= 0:
            self.free_unless_kept(previous)

    def drop_name(self, row: int) -> Freed:
        """A block's name goes, and the block unless something else keeps it. What that freed."""
        if self.is_named(row):
            self._unname(self.blocks.name[row] - 1)
        return self.free_unless_kept(row)

    def free_unless_kept(self, row: int) -> Freed:
        """Free a block that no name, lease, reference or linger time keeps any more."""
        blocks = self.blocks
        if blocks.state[row] != LIVE or blocks.referenced[row] or is_needed(self, row):
            return NOTHING
        return self._free(row)

    def _free(self, row: int) -> Freed:
        blocks, freed, nbytes = self.blocks, 0, 0
        pending = [row]
        while pending:
            row = pending.pop()
            blocks.state[row] = DEAD
            referred = self.references(row) if blocks.references[row] else []
            if blocks.queue[row]:
                self.eviction.forget(row)
            if blocks.linger[row]:
                self.header.lingering[0] -= 1
            if blocks.until[row]:
                blocks.until[row] = 0
                self.header.expiring[0] -= 1
            if blocks.cell[row]:
                nbytes += self.space.leave_cell(row)
            else:
                nbytes += self.space.leave_segment(blocks.segment[row] - 1)
            blocks.generation[row] += 1
            blocks.state[row] = FREE
            self.space.free_block_row(row)
            self.header.live_blocks[0] -= 1
            freed += 1
            for other in referred:
                blocks.referenced[other] -= 1
                if not blocks.referenced[other] and not is_rooted(self, other):
                    pending.append(other)
        return _ONE_CELL if freed == 1 and not nbytes else Freed(blocks=freed, nbytes=nbytes)
