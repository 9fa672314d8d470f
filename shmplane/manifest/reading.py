"""Reading the manifest, under the lock: what a name points to, what a block's row says, who holds what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import BlockNotFound, PlaneCorrupt
from ..system import PAGE_NBYTES, own
from .index import NameLookup
from .roots import reach
from .schema import MAX_REFERENCES, Blocks, Counters, Header, Names, Segments
from .segments import Doomed, doomed_of
from .states import CODECS, FREE, KEPT, LIVE, PAGES, QUEUED, ROW_MASK, kept_for, row_of_name_word

if TYPE_CHECKING:
    from ..tables import Column
    from .store import Manifest

__all__ = ["BlockFacts", "Contents", "Reader", "held_rows", "not_found"]

_clock = time.monotonic_ns


class Contents(NamedTuple):
    """What a block holds, as its row says it."""

    kind: int
    body_nbytes: int
    frame: bytes
    frame_crc: int
    stored_nbytes: int  #: before the frame: the body, or what says which other blocks have it
    nbytes: int  #: of all that is stored

    def tail(self) -> bytes:
        """The frame with the gap before it and zeros to the end of its page, so that nothing old can be read there."""
        gap = self.nbytes - len(self.frame) - self.stored_nbytes
        return bytes(gap) + self.frame + bytes(-self.nbytes % PAGE_NBYTES)


class BlockFacts(NamedTuple):
    """All that a process needs to read a block it leases. Nothing in it changes while the lease lasts."""

    row: int
    generation: int
    segment_id: int
    segment_nbytes: int
    in_slab: bool
    offset: int
    body_nbytes: int
    frame_nbytes: int
    frame_crc: int
    kind: int
    version: int
    created: int
    name: str | None
    stored_nbytes: int
    frame_offset: int  #: where the frame starts in the segment
    codec: str  #: the kind whose codec reads it
    name_row: int  #: what the block's row says of it; another one after a rename
    references: tuple[BlockFacts, ...] = ()  #: the blocks that have its bytes; they refer to none themselves
    moves: int = 0  #: the header's when this was read: without a lease it holds while that stands
    is_spilled: bool = False  #: its segment lies in the spill directory


class Reader:
    """What can be asked of a manifest: it stores no word, and owns nothing that does."""

    header: Header
    blocks: Blocks
    names: Names

    def __init__(self, manifest: Manifest, index: NameLookup | None = None) -> None:
        self.index: NameLookup = index or NameLookup(manifest)
        self.manifest = manifest
        self.header, self.blocks, self.names = manifest.header, manifest.blocks, manifest.names
        self.segments: Segments = manifest.segments
        self.counters: Counters = manifest.counters
        self._membership = -1
        self._lease_rows: list[tuple[int, Column]] = []

    def current(self, name: bytes) -> tuple[int, int]:
        """Name row and block row of a name; -1 for what is not there, or whose time has come."""
        name_row = self.index.find(name)
        if name_row < 0:
            return -1, -1
        row = (self.names.word[name_row] & ROW_MASK) - 1
        if row >= 0 and self.blocks.state[row] != LIVE:
            raise PlaneCorrupt(f"the name {name!r} points to a block that is not live; run `shmplane gc`", name=name)
        if row >= 0 and self.blocks.until[row] and self.is_over(row):
            return name_row, -1
        return name_row, row

    def is_over(self, row: int) -> bool:
        """Whether the time of the block's name has come."""
        return 0 < self.blocks.until[row] <= _clock()

    def is_seen(self, name: bytes) -> bool:
        """Without the lock: True when the name surely has a block. Otherwise only the lock can tell.

        A chain that somebody is changing may end early or lead elsewhere. But a row that has this name after its word
        was read, and was not used for another one meanwhile, had that word as this name.
        """
        if self.header.destroyed[0] or self.header.dirty[0]:
            return False  # a killed rename leaves both names until somebody recovers
        try:
            name_row = self.index.find(name)
            if name_row < 0:
                return False
            generation = self.names.generation[name_row]
            row = row_of_name_word(self.names.word[name_row])
            is_there = row >= 0 and self.blocks.state[row] == LIVE and self.index.is_at(name_row, name)
            return is_there and not self.is_over(row) and self.names.generation[name_row] == generation
        except own(IndexError, PlaneCorrupt):
            return False

    def peek(self, name: bytes) -> tuple[int, int, BlockFacts] | None:
        """Without the lock: the row and the word of a name, and what its block's row says; None: only the lock can tell.

        All of it is right if, under the lock, the word still stands, ``header.moves`` is that of the facts and the block's
        segment as well. A word never comes again, so it stood all the time; meanwhile nothing of its block changed but its
        place. What the row says is read after the word in any case, since the word says which row.
        """
        try:
            name_row = self.index.find(name)
            if name_row < 0:
                return None
            generation = self.names.generation[name_row]
            word = self.names.word[name_row]  # after it
            row = row_of_name_word(word)
            if row < 0 or self.blocks.state[row] != LIVE or self.blocks.until[row] or self.blocks.references[row]:
                return None
            facts = self.facts(row)
            # The row has this name after its word was read, and was not used for another one since: it was this name's word.
            is_ours = self.index.is_at(name_row, name) and self.names.generation[name_row] == generation
            return (name_row, word, facts) if is_ours and not facts.references else None
        except own(IndexError, PlaneCorrupt):
            return None

    def facts(self, row: int, references: tuple[BlockFacts, ...] = ()) -> BlockFacts:
        """What the row of a live block says, checked against its segment.

        Args:
            references: those of the blocks that it refers to, by who knows them; they are not read again.
        """
        blocks, segments = self.blocks, self.segments
        segment = blocks.segment[row] - 1
        if segment < 0:
            raise PlaneCorrupt(f"block row {row} has no segment; delete the block", row=row)
        segment_nbytes, offset = segments.nbytes[segment], blocks.offset[row]
        body_nbytes, stored_nbytes, frame_nbytes = (
            blocks.body_nbytes[row],
            blocks.stored_nbytes[row],
            blocks.frame_nbytes[row],
        )
        # Subtractions only: hostile sizes cannot wrap around.
        room, before_frame = segment_nbytes - offset, stored_nbytes + 7 & ~7
        if room < 0 or stored_nbytes > room or frame_nbytes > room - before_frame:
            raise PlaneCorrupt(f"block row {row} lies outside its segment; delete the block", row=row)
        kind, name_row = blocks.kind[row], blocks.name[row]
        codec = CODECS.get(kind)
        if codec is None:
            raise PlaneCorrupt(f"block row {row} is of unknown kind {kind}; delete the block", row=row)
        if blocks.references[row]:
            references = references or tuple(self._facts_of_reference(other) for other in self.references(row))
        elif body_nbytes > room or (body_nbytes != stored_nbytes and kind != PAGES):
            raise PlaneCorrupt(f"block row {row} claims bytes that it has not; delete the block", row=row)
        return BlockFacts(
            row,
            blocks.generation[row],
            segments.id[segment],
            segment_nbytes,
            blocks.cell[row] != 0,
            offset,
            body_nbytes,
            frame_nbytes,
            blocks.frame_crc[row],
            kind,
            blocks.version[row],
            blocks.created[row],
            self.index.read(name_row - 1) if name_row and self.is_named(row) else None,
            stored_nbytes,
            offset + before_frame,
            codec,
            name_row,
            references,
            self.header.moves[0],
            segments.place[segment] != 0,
        )

    def _facts_of_reference(self, row: int) -> BlockFacts:
        blocks = self.blocks
        if not 0 <= row < self.manifest.blocks_high or blocks.state[row] != LIVE or blocks.references[row]:
            raise PlaneCorrupt(f"a block refers to row {row}, which has no bytes of its own; delete it", row=row)
        return self.facts(row)

    def references(self, row: int) -> list[int]:
        """Rows of the blocks whose bytes a block shows."""
        count = min(self.blocks.references[row], MAX_REFERENCES)
        return [column[row] - 1 for column in self.blocks.reference[:count]]

    def is_named(self, row: int) -> bool:
        """Whether a name points to this block now."""
        name_row = self.blocks.name[row] - 1
        return name_row >= 0 and (self.names.word[name_row] & ROW_MASK) - 1 == row

    def is_current(self, row: int, generation: int) -> bool:
        """Whether the row still holds the block that a handle means."""
        return (
            row < self.manifest.blocks_high
            and self.blocks.state[row] == LIVE
            and self.blocks.generation[row] == generation
        )

    def lease_rows(self) -> list[tuple[int, Column]]:
        """Slot and lease row of every process in use."""
        membership = self.header.membership[0]
        if membership != self._membership:
            self._lease_rows = [(slot, self.manifest.lease_row(slot)) for slot in self.manifest.slots_in_use()]
            self._membership = membership
        return self._lease_rows

    def all_names(self) -> list[str]:
        """Names with a block, in no order."""
        words, over = self.names.word[: self.manifest.names_high].tolist(), self._rows_over()
        return [self.index.read(row) for row, word in enumerate(words) if word and row_of_name_word(word) not in over]

    def _rows_over(self) -> set[int]:
        """Block rows whose names are not there any more, though nobody has removed them yet."""
        if not self.header.expiring[0]:
            return set()
        now = _clock()
        times = self.blocks.until[: self.manifest.blocks_high].tolist()
        return {row for row, until in enumerate(times) if 0 < until <= now and self.is_named(row)}

    def count_names(self) -> int:
        count = self.header.live_names[0]
        if count > self.names.rows:
            raise PlaneCorrupt(
                f"the header counts {count:,} names of {self.names.rows:,}; run `shmplane gc`", found=count
            )
        return count - len(self._rows_over())

    def holders(self, row: int) -> list[int]:
        """Slots of the processes that lease a block."""
        return [slot for slot, leases in self.lease_rows() if leases[row]]

    def is_leased(self, row: int) -> bool:
        # A plain loop: this is asked for every block that is let go, and a generator costs more than the answer.
        for _, leases in self.lease_rows():  # noqa: SIM110
            if leases[row]:
                return True
        return False

    def state_of(self, row: int) -> int:
        return self.blocks.state[row]

    def is_lingering(self, row: int) -> bool:
        return bool(self.blocks.linger[row]) and self.blocks.expires[row] > _clock()

    def is_kept(self, row: int) -> bool:
        owner = self.blocks.owner[row]
        if owner >= QUEUED:
            return True
        slot = kept_for(owner) if owner > KEPT else -1
        return 0 <= slot < self.manifest.limits.max_processes and bool(self.manifest.processes.state[slot])

    def is_being_made(self, _: int) -> bool:
        """Until it is abandoned, or its maker reclaimed."""
        return True

    def unleased_segments(self) -> list[Doomed]:
        """Segments that no process reads, of a plane that has ended."""
        leased = {row for slot, _ in self.lease_rows() for row in held_rows(self, slot)}
        kept = {self.blocks.segment[row] - 1 for row in reach(leased, self.references)}
        segments, high = self.segments, self.manifest.segments_high
        return [doomed_of(segments, row) for row in range(high) if segments.state[row] != FREE and row not in kept]

    def exported_segments(self) -> list[int]:
        """Ids of the segments that have a link for other programs."""
        segments, high = self.segments, self.manifest.segments_high
        return [segments.id[row] for row in range(high) if segments.state[row] != FREE and segments.exported[row]]


def not_found(name: bytes) -> BlockNotFound:
    text = name.decode()
    return BlockNotFound(f"no block is named {text!r}; plane.names() lists those there are", name=text)


def held_rows(reader: Reader, slot: int) -> list[int]:
    """Block rows that a process leases; proportional to the rows ever used."""
    return used_rows(reader.manifest.lease_row(slot), reader.manifest.blocks_high)


def used_rows(column: Column, high: int) -> list[int]:
    """Rows below ``high`` whose word is not 0; a page of words at a time."""
    step, used = 512, list[int]()
    for start in range(0, high, step):
        words = column[start : min(start + step, high)].tolist()
        if any(words):
            used += [start + index for index, word in enumerate(words) if word]
    return used
