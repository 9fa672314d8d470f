"""What a plane looks like at one moment: frozen records, read from a copy of its tables.

A lease or a block that is being created belongs to the process of its slot; whether that process lives is what its token
said when the copy was made.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

from ..errors import PlaneCorrupt
from ..system import own
from .reading import used_rows
from .schema import MAX_REFERENCES
from .states import (
    BLOCK_STATES,
    CREATING,
    DOOMED,
    FREE,
    IN_MEMORY,
    KINDS,
    MAKING,
    PLACES,
    SEGMENT_STATES,
    SPILLED,
    USED,
    WARM,
    kept_for,
    queue_of,
    row_of_name_word,
)

if TYPE_CHECKING:
    from .copying import TableCopy

__all__ = [
    "Block",
    "Process",
    "Segment",
    "SemaphoreUse",
    "Snapshot",
    "Summary",
    "read_blocks",
    "read_published_name",
    "read_snapshot",
    "read_summary",
    "read_superseded",
]

P = ParamSpec("P")
R = TypeVar("R")

#: the first letter of a semaphore's name in the tables: what it is for
SEMAPHORE_KINDS = {
    "l": "lock",
    "s": "semaphore",
    "p": "pool limit",
    "g": "loading",
    "r": "rate",
    "q": "queue",
    "Q": "full queue",
}


class SemaphoreUse(NamedTuple):
    """A lock or semaphore that somebody holds or waits for, or a rate that somebody waits for."""

    kind: str
    name: str
    permits: int  #: of a rate 0
    holders: dict[int, int]  #: permits held, by slot
    waiting: tuple[int, ...]  #: slots in the order of their turns; one for all who wait in a process


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


class Block(NamedTuple):
    """A block's row.

    Attributes:
        name: None for superseded, deleted and anonymous blocks.
        owner: slot of the process that is creating it; -1 when it is whole.
        kept_for: slot of the process that it is kept for; -1: for none.
        holders: slots that lease it, the dead included.
        references: rows of the blocks whose bytes it shows.
        segment: the segment's row; ``offset`` and ``cell`` say where in it, a cell of 0 that it has all of it.
        expires: monotonic_ns until which it lives without a lease; 0: no linger time.
        until: monotonic_ns at which its name goes; 0: never. Later than that it has none.
        stored_nbytes: what lies before its frame; not ``nbytes`` when other blocks have its bytes.
        place: of its segment: ``memory`` or ``spill``.
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
    kept_for: int = -1
    queue: int = -1  #: row of the queue that it is an item of; -1: of none
    until: int = 0
    place: str = "memory"


class Segment(NamedTuple):
    """A segment's row; ``cell`` is the class of a slab's cells + 1, or 0 when one block has it all.

    ``place``: where its file lies, in ``memory`` or in the ``spill`` directory.
    """

    row: int
    id: int
    state: str
    nbytes: int
    cell: int
    place: str = "memory"

    @property
    def is_spilled(self) -> bool:
        return self.place == PLACES[SPILLED]


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of a plane.

    Attributes:
        blocks: that are not free; ``names`` of them can be reached by name.
        segments: that hold blocks or are kept warm for the next ones.
        semaphores: those that anybody holds or waits for, by kind and name.
        spilled_nbytes: of segments in the spill directory.
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
    segments: int = 0
    semaphores: tuple[SemaphoreUse, ...] = ()
    spilled_nbytes: int = 0

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
    """A summary, and every row of blocks and segments in use, by row number."""

    summary: Summary
    blocks: dict[int, Block]
    segments: dict[int, Segment]

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.summary.processes

    def named(self, name: str) -> Block | None:
        """The current version of a name."""
        return next((block for block in self.blocks.values() if block.name == name), None)


def checked(name: str, read: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """What ``read`` returns; ``PlaneCorrupt`` when the words that it reads are impossible."""
    try:
        return read(*args, **options)
    except own(IndexError, OverflowError, ValueError, struct.error) as error:
        raise PlaneCorrupt(
            f"plane {name!r}: its tables hold impossible values ({error}). Somebody wrote over them: save what can still "
            f"be read; `shmplane rm {name} --plane --force` removes the plane.",
            name=name,
        ) from error


def read_summary(name: str, root: str, tables: TableCopy) -> Summary:
    """Totals, processes and semaphores; proportional to the rows ever used, a word per process and row."""
    header, segments = tables.header, tables.segments
    processes = tuple(_process(tables, slot) for slot in tables.alive)
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
        leases=sum(len(process.leases) for process in processes),
        max_blocks=header.max_blocks[0],
        max_processes=header.max_processes[0],
        processes=processes,
        dirty=bool(header.dirty[0]) and not tables.own,
        segments=sum(state in (USED, WARM) for state in segments.state.tolist()),
        semaphores=_semaphores(tables),
        spilled_nbytes=header.spilled_nbytes[0],
    )


def read_snapshot(name: str, root: str, tables: TableCopy) -> Snapshot:
    """Everything. Cost: some 8 µs a block."""
    summary, segments = read_summary(name, root, tables), tables.segments
    rows = [row for row, state in enumerate(tables.blocks.state.tolist()) if state != FREE]
    return Snapshot(
        summary,
        read_blocks(tables, rows, summary.processes),
        {
            row: Segment(
                row,
                segments.id[row],
                SEGMENT_STATES.get(state, "unknown"),
                segments.nbytes[row],
                segments.slab[row],
                PLACES.get(segments.place[row], "unknown"),
            )
            for row, state in enumerate(segments.state.tolist())
            if state != FREE
        },
    )


def read_blocks(tables: TableCopy, rows: Iterable[int], processes: Iterable[Process]) -> dict[int, Block]:
    """Some rows of blocks, by row number."""
    holders: dict[int, list[int]] = {}
    for process in processes:
        for row in process.leases:
            holders.setdefault(row, []).append(process.slot)
    states = tables.blocks.state
    return {
        row: _block(tables, row, BLOCK_STATES.get(states[row], "unknown"), tuple(holders.get(row, ()))) for row in rows
    }


def read_published_name(tables: TableCopy, row: int) -> str | None:
    """The name that a block was published under, also when another version has it by now; for display."""
    names, name_row = tables.names, tables.blocks.name[row] - 1
    if not 0 <= name_row < names.rows or not names.length[name_row]:
        return None
    return names.text.read(name_row, names.length[name_row]).decode(errors="replace")


def read_superseded(tables: TableCopy, rows: Iterable[int]) -> list[int]:
    """Those of some rows that were published under a name which does not point to them any more."""
    words, published = tables.names.word.tolist(), tables.blocks.name.tolist()
    named = ((row, published[row] - 1) for row in rows)
    return [row for row, name in named if 0 <= name < len(words) and row_of_name_word(words[name]) != row]


def _process(tables: TableCopy, slot: int) -> Process:
    permits = tables.permits.get(slot)
    return Process(
        slot,
        tables.processes.pid[slot],
        tables.processes.joined[slot],
        alive=tables.alive[slot],
        leases=tuple(used_rows(tables.leases[slot], len(tables.leases[slot]))),
        permits=sum(permits[0].tolist()) if permits is not None else 0,
        unfinished=0 if tables.alive[slot] else _unfinished(tables, slot),
    )


def _unfinished(tables: TableCopy, slot: int) -> int:
    """What a process left half done: blocks that it was making, slabs of its own, files that it was to remove."""
    blocks, segments = tables.blocks, tables.segments
    making = sum(
        owner == slot + 1 and state == CREATING
        for owner, state in zip(blocks.owner.tolist(), blocks.state.tolist(), strict=True)
    )
    return making + sum(
        owner == slot + 1 and (state == DOOMED or (state == MAKING and (slab > 0 or place > 0)))
        for owner, state, slab, place in zip(
            segments.owner.tolist(),
            segments.state.tolist(),
            segments.slab.tolist(),
            segments.place.tolist(),
            strict=True,
        )
    )


def _block(tables: TableCopy, row: int, state: str, holders: tuple[int, ...]) -> Block:
    blocks = tables.blocks
    # What a creation will be is written only when it is published; the row still says what it was before.
    creating = state == "creating"
    references = 0 if creating else min(blocks.references[row], MAX_REFERENCES)
    return Block(
        row=row,
        name=None if creating else _name_of(tables, row),
        version=0 if creating else blocks.version[row],
        kind="" if creating else KINDS.get(blocks.kind[row], "unknown"),
        nbytes=0 if creating else blocks.body_nbytes[row],
        state=state,
        created=0 if creating else blocks.created[row],
        owner=blocks.owner[row] - 1 if creating else -1,
        kept_for=-1 if creating else kept_for(blocks.owner[row]),
        queue=-1 if creating else queue_of(blocks.owner[row]),
        holders=holders,
        references=tuple(column[row] - 1 for column in blocks.reference[:references]) if references else (),
        segment=blocks.segment[row] - 1,
        offset=blocks.offset[row],
        cell=blocks.cell[row],
        frame_nbytes=blocks.frame_nbytes[row],
        frame_crc=blocks.frame_crc[row],
        expires=blocks.expires[row] if blocks.linger[row] else 0,
        stored_nbytes=0 if creating else blocks.stored_nbytes[row],
        until=0 if creating else blocks.until[row],
        place=_place_of(tables, blocks.segment[row] - 1),
    )


def _place_of(tables: TableCopy, segment: int) -> str:
    segments = tables.segments
    return PLACES.get(segments.place[segment], "unknown") if 0 <= segment < segments.rows else PLACES[IN_MEMORY]


def _name_of(tables: TableCopy, row: int) -> str | None:
    """The name that points to a block. Copied without the lock, a row may be named by one that is not in the copy."""
    names, name_row = tables.names, tables.blocks.name[row] - 1
    is_named = 0 <= name_row < names.rows and row_of_name_word(names.word[name_row]) == row
    if not is_named or 0 < tables.blocks.until[row] <= time.monotonic_ns():
        return None
    return names.text.read(name_row, names.length[name_row]).decode(errors="replace")


def _semaphores(tables: TableCopy) -> tuple[SemaphoreUse, ...]:
    holders: dict[int, dict[int, int]] = {}
    waiting: dict[int, list[tuple[int, int]]] = {}
    for slot, (permits, tickets) in tables.permits.items():
        for row in used_rows(permits, len(permits)):
            holders.setdefault(row, {})[slot] = permits[row]
        for row in used_rows(tickets, len(tickets)):
            waiting.setdefault(row, []).append((tickets[row], slot))
    uses = [_use(tables, row, holders.get(row, {}), waiting.get(row, [])) for row in {*holders, *waiting}]
    return tuple(sorted(uses, key=lambda use: (use.kind, use.name)))


def _use(tables: TableCopy, row: int, holders: dict[int, int], waiting: list[tuple[int, int]]) -> SemaphoreUse:
    semaphores = tables.semaphores
    letter, _, name = semaphores.text.read(row, semaphores.length[row]).decode(errors="replace").partition(":")
    kind = SEMAPHORE_KINDS.get(letter, "other")
    return SemaphoreUse(kind, name, semaphores.permits[row], holders, tuple(slot for _, slot in sorted(waiting)))
