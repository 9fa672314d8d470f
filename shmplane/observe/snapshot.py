"""What a plane looks like at one moment: frozen records, read without taking part.

Rows are copied column by column and put together afterwards. A lease or a block that is being created belongs to the
process of its slot; whether that process lives is what its token says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..manifest import (
    BLOCK_STATES,
    CREATING,
    DOOMED,
    FREE,
    KINDS,
    MAKING,
    SEGMENT_STATES,
    Manifest,
    SemaphoreUse,
    Transaction,
    held_rows,
    rows_of_owner,
)

__all__ = ["Block", "Process", "Segment", "Snapshot", "Summary", "read_snapshot", "read_summary"]

IsHeld = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Process:
    """A process's row.

    Attributes:
        pid: as the process sees itself, maybe in another PID namespace; for display only.
        joined: time_ns.
        alive: its token is held; False: it has ended, killed or without ``close``, and is still in the plane.
        leases: rows of the blocks it leases.
        permits: of locks and semaphores that it holds.
        unfinished: blocks and slabs that it was making, and files that it was removing, when it ended.
    """

    slot: int
    pid: int
    joined: int
    alive: bool
    leases: tuple[int, ...] = ()
    permits: int = 0
    unfinished: int = 0

    @property
    def is_stale(self) -> bool:
        """It has ended and something of it is to come back; a program that just ended leaves nothing."""
        return not self.alive and bool(self.leases or self.permits or self.unfinished)


@dataclass(frozen=True, slots=True)
class Block:
    """A block's row.

    Attributes:
        name: None for superseded, deleted and anonymous blocks.
        owner: slot of the process that is creating it; -1 when it is whole.
        holders: slots that lease it, the dead included.
        references: rows of the blocks whose bytes it shows.
        segment: the segment's row; ``offset`` and ``cell`` say where in it, a cell of 0 that it has all of it.
        expires: monotonic_ns until which it lives without a lease; 0: no linger time.
        stored_nbytes: what lies before its frame; not ``nbytes`` when other blocks have its bytes.
    """

    row: int
    name: str | None
    version: int
    kind: str
    nbytes: int
    state: str
    created: int
    owner: int
    holders: tuple[int, ...]
    references: tuple[int, ...]
    segment: int
    offset: int
    cell: int
    frame_nbytes: int
    frame_crc: int
    expires: int
    stored_nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's row; ``cell`` is the class of a slab's cells + 1, or 0 when one block has it all."""

    row: int
    id: int
    state: str
    nbytes: int
    cell: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of a plane.

    Attributes:
        blocks: that are not free; ``names`` of them can be reached by name.
        dirty: a transaction was left unfinished; whoever comes next recovers the plane.
        approximate: the lock was held for too long by somebody, so this was read while it may have changed.
    """

    name: str
    root: str
    created: int
    temporary: bool
    capacity: int
    used_nbytes: int
    recycled_nbytes: int
    recycle: int
    blocks: int
    names: int
    leases: int
    max_blocks: int
    max_processes: int
    processes: tuple[Process, ...]
    dirty: bool
    approximate: bool = False

    @property
    def free_nbytes(self) -> int:
        return self.capacity - self.used_nbytes - self.recycled_nbytes

    @property
    def living(self) -> tuple[Process, ...]:
        return tuple(process for process in self.processes if process.alive)

    @property
    def dead(self) -> tuple[Process, ...]:
        """Processes that have ended, killed or without ``close``, and are still in the plane."""
        return tuple(process for process in self.processes if not process.alive)

    @property
    def stale(self) -> tuple[Process, ...]:
        """Those of them that something has to be reclaimed from."""
        return tuple(process for process in self.processes if process.is_stale)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A summary, every row of blocks and segments in use, by row number, and the semaphores that are in use."""

    summary: Summary
    blocks: dict[int, Block]
    segments: dict[int, Segment]
    semaphores: tuple[SemaphoreUse, ...] = ()

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.summary.processes

    def named(self, name: str) -> Block | None:
        """The current version of a name."""
        return next((block for block in self.blocks.values() if block.name == name), None)


def read_summary(name: str, root: str, manifest: Manifest, *, is_held: IsHeld) -> Summary:
    """Header and processes; proportional to the rows ever used, a word per process and row."""
    tx, header = Transaction(manifest), manifest.header
    rows = tuple(_process(tx, slot, alive=is_held(slot)) for slot in tx.space.slots_in_use())
    return Summary(
        name=name,
        root=root,
        created=header.created[0],
        temporary=bool(header.temporary[0]),
        capacity=header.capacity[0],
        used_nbytes=header.used_nbytes[0],
        recycled_nbytes=header.recycled_nbytes[0],
        recycle=header.recycle[0],
        blocks=header.live_blocks[0],
        names=header.live_names[0],
        leases=sum(len(row.leases) for row in rows),
        max_blocks=header.max_blocks[0],
        max_processes=header.max_processes[0],
        processes=rows,
        dirty=bool(header.dirty[0]),
    )


def read_snapshot(name: str, root: str, manifest: Manifest, *, is_held: IsHeld) -> Snapshot:
    """Everything. Cost: some 2 µs a block, under the lock."""
    summary = read_summary(name, root, manifest, is_held=is_held)
    tx = Transaction(manifest)
    holders: dict[int, list[int]] = {}
    for process in summary.processes:
        for row in process.leases:
            holders.setdefault(row, []).append(process.slot)
    states = manifest.blocks.state[: manifest.blocks_high].tolist()
    blocks = {
        row: _block(tx, row, BLOCK_STATES.get(state, "unknown"), tuple(holders.get(row, ())))
        for row, state in enumerate(states)
        if state != FREE
    }
    segments = manifest.segments
    return Snapshot(
        summary,
        blocks,
        {
            row: Segment(
                row,
                segments.id[row],
                SEGMENT_STATES.get(state, "unknown"),
                segments.nbytes[row],
                segments.slab[row],
            )
            for row, state in enumerate(segments.state[: manifest.segments_high].tolist())
            if state != FREE
        },
        tuple(tx.coordination.uses()),
    )


def _process(tx: Transaction, slot: int, *, alive: bool) -> Process:
    processes = tx.manifest.processes
    return Process(
        slot,
        processes.pid[slot],
        processes.joined[slot],
        alive=alive,
        leases=tuple(held_rows(tx, slot)),
        permits=tx.coordination.held_by(slot),
        unfinished=0 if alive else _unfinished(tx, slot),
    )


def _unfinished(tx: Transaction, slot: int) -> int:
    """What a process left half done: blocks that it was making, slabs of its own, files that it was to remove."""
    blocks, segments, manifest = tx.blocks, tx.segments, tx.manifest
    making = [row for row in rows_of_owner(blocks.owner, manifest.blocks_high, slot) if blocks.state[row] == CREATING]
    halves = [
        row
        for row in rows_of_owner(segments.owner, manifest.segments_high, slot)
        if segments.state[row] == DOOMED or (segments.state[row] == MAKING and segments.slab[row])
    ]
    return len(making) + len(halves)


def _block(tx: Transaction, row: int, state: str, holders: tuple[int, ...]) -> Block:
    blocks = tx.blocks
    creating = state == "creating"
    # What a creation will be is written only when it is published; the row still says what it was before.
    named = not creating and tx.is_named(row)
    return Block(
        row=row,
        name=tx.index.read(blocks.name[row] - 1) if named else None,
        version=0 if creating else blocks.version[row],
        kind="" if creating else KINDS.get(blocks.kind[row], "unknown"),
        nbytes=0 if creating else blocks.body_nbytes[row],
        state=state,
        created=0 if creating else blocks.created[row],
        owner=blocks.owner[row] - 1 if creating else -1,
        holders=holders,
        references=() if creating else tuple(tx.references(row)),
        segment=blocks.segment[row] - 1,
        offset=blocks.offset[row],
        cell=blocks.cell[row],
        frame_nbytes=blocks.frame_nbytes[row],
        frame_crc=blocks.frame_crc[row],
        expires=blocks.expires[row] if blocks.linger[row] else 0,
        stored_nbytes=0 if creating else blocks.stored_nbytes[row],
    )
