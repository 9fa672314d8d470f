"""Spilling: which segments move to the spill directory, and how the tables say that one has moved.

A block does not move, its segment does: a copy of the file becomes a segment of its own, with a new id, and then each block
in it says where it lies by one word. Its name, generation, leases and references stay as they are.

Rule 1. What somebody can see does not move: blocks that are leased, and those whose bytes a leased block shows. Nor does what
is being made, what is mutable, what other programs may have open, nor what may be evicted, which goes instead; small blocks
share a slab, and move with it.
Rule 2. A copy is MAKING before its file exists. When it is whole: ``moves`` first, so that nobody believes what he remembers;
then USED; then the words of the blocks, of which any number may have moved when their process is killed; then what they leave.
Rule 3. While the copy is made blocks come and go. Each is looked at again when it moves: it is the same block, it has as many
bytes as were copied, and nobody can see it.

``choose_victims`` is pure, over a copy of the tables; all else is under the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .reading import held_rows, used_rows
from .roots import reach
from .schema import MAX_REFERENCES
from .states import FREE, LIVE, MAKING, MUTABLE, USED

if TYPE_CHECKING:
    from .copying import TableCopy
    from .segments import Place
    from .transaction import Transaction

__all__ = [
    "Stays",
    "Victim",
    "begin_copy",
    "begin_spilling",
    "choose_victims",
    "end_spilling",
    "move_blocks",
    "spiller",
]


class Stays(NamedTuple):
    """A block as it was when its segment was chosen."""

    row: int
    generation: int
    stored_nbytes: int


class Victim(NamedTuple):
    """A segment that is to move, with all blocks that lay in it."""

    segment_row: int
    segment_id: int
    nbytes: int
    blocks: tuple[Stays, ...]


# Choosing


def choose_victims(tables: TableCopy, needed: int, goal: int) -> list[Victim]:
    """The segments to move so that ``needed`` B become free, those unused for longest first; a ``goal`` is moved at once.

    None when all that can move would not be enough.
    """
    segments = tables.segments
    sizes = segments.nbytes.tolist()
    inside, used = _movable(tables)
    total, victims = 0, []
    for segment in sorted(inside, key=used.__getitem__):
        if total >= max(needed, goal):
            break
        blocks = tables.blocks
        stay = tuple([Stays(row, blocks.generation[row], blocks.stored_nbytes[row]) for row in inside[segment]])
        victims.append(Victim(segment, segments.id[segment], sizes[segment], stay))
        total += sizes[segment]
    return victims if total >= needed else []


def _movable(tables: TableCopy) -> tuple[dict[int, list[int]], dict[int, int]]:
    """The rows in each segment that can move, and when any of them was used last."""
    blocks, segments = tables.blocks, tables.segments
    states, kinds = blocks.state.tolist(), blocks.kind.tolist()
    cells, groups = blocks.cell.tolist(), blocks.group.tolist()
    used_at = _used_at(tables, states)
    reached = _reached(tables)
    inside: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    staying: set[int] = set()
    for row, (state, segment) in enumerate(zip(states, blocks.segment.tolist(), strict=True)):
        if state == FREE:
            continue
        inside.setdefault(segment - 1, []).append(row)
        used[segment - 1] = max(used.get(segment - 1, 0), used_at[row])
        if state != LIVE or row in reached or kinds[row] == MUTABLE or (groups[row] and not cells[row]):
            staying.add(segment - 1)
    rows = zip(segments.state.tolist(), segments.place.tolist(), segments.exported.tolist(), strict=True)
    may_move = {row for row, (state, place, exported) in enumerate(rows) if state == USED and not (place or exported)}
    return {segment: rows for segment, rows in inside.items() if segment in may_move - staying}, used


def _used_at(tables: TableCopy, states: Sequence[int]) -> list[int]:
    """When each block was used last; a source is used when what shows it is."""
    used_at: list[int] = tables.blocks.used.tolist()
    for row, count in enumerate(tables.blocks.references.tolist()):
        if count and states[row] == LIVE:
            for other in _references(tables, row):
                if 0 <= other < len(used_at):
                    used_at[other] = max(used_at[other], used_at[row])
    return used_at


def _reached(tables: TableCopy) -> set[int]:
    leased = {row for words in tables.leases.values() for row in used_rows(words, len(words))}
    return reach(leased, lambda row: _references(tables, row))


def _references(tables: TableCopy, row: int) -> list[int]:
    blocks = tables.blocks
    if not 0 <= row < blocks.rows:
        return []
    return [column[row] - 1 for column in blocks.reference[: min(blocks.references[row], MAX_REFERENCES)]]


# One at a time


def spiller(tx: Transaction) -> int:
    """Slot of the process that moves segments now; -1: nobody does."""
    return tx.header.spiller[0] - 1


def begin_spilling(tx: Transaction) -> bool:
    """From now on this process moves segments; False when another one does, or this one already."""
    if tx.header.spiller[0]:
        return False
    tx.header.spiller[0] = tx.slot + 1
    return True


def end_spilling(tx: Transaction) -> None:
    """It does not any more. Again: does nothing."""
    if tx.header.spiller[0] == tx.slot + 1:
        tx.header.spiller[0] = 0


# Moving


def begin_copy(tx: Transaction, victim: Victim) -> Place | None:
    """A segment in the spill directory for the copy, MAKING; None when the victim does not move any more."""
    if not _is_as_it_was(tx, victim) or len(_movable_now(tx, victim, victim.blocks)) < len(victim.blocks):
        return None
    segments, row = tx.segments, victim.segment_row
    return tx.space.spilled_place(victim.nbytes, slab=segments.slab[row], bump=segments.bump[row])


def move_blocks(tx: Transaction, victim: Victim, place: Place, blocks: Sequence[Stays]) -> int:
    """The copy is whole: the blocks that are still what was copied lie in it from now on; how many did move.

    Args:
        blocks: some of the victim's. Those of a slab may come in several calls, since each word is right by itself.
    """
    segments, copy = tx.segments, place.segment_row
    is_ours = segments.id[copy] == place.segment_id and segments.owner[copy] == tx.slot + 1 and segments.place[copy]
    if not is_ours or segments.state[copy] not in {MAKING, USED} or not _is_as_it_was(tx, victim):
        return 0
    moving = _movable_now(tx, victim, blocks)
    if not moving:
        return 0
    tx.header.moves[0] += 1
    tx.space.finish(copy)
    segment = tx.blocks.segment
    for row in moving:
        segment[row] = copy + 1
    if segments.slab[copy]:
        tx.space.move_cells(victim.segment_row, copy, len(moving))
    else:
        tx.space.leave_segment(victim.segment_row)
    return len(moving)


def _is_as_it_was(tx: Transaction, victim: Victim) -> bool:
    segments, row = tx.segments, victim.segment_row
    return (
        segments.id[row] == victim.segment_id
        and segments.state[row] == USED
        and not segments.exported[row]
        and not segments.place[row]
    )


def _movable_now(tx: Transaction, victim: Victim, blocks: Sequence[Stays]) -> list[int]:
    """Rows that hold what they held when the victim was chosen, and that nobody can see."""
    rows, segment = tx.blocks, victim.segment_row + 1
    found = [
        row
        for row, generation, stored_nbytes in blocks
        if tx.is_current(row, generation)
        and rows.segment[row] == segment
        and rows.stored_nbytes[row] == stored_nbytes
        and not tx.is_leased(row)
    ]
    if any(rows.referenced[row] for row in found):
        leased = {row for slot, _ in tx.lease_rows() for row in held_rows(tx, slot)}
        reached = reach(leased, tx.references)
        found = [row for row in found if row not in reached]
    return found
