"""Recovery: a plane is made what it must be, from facts alone.

``rebuild`` carries out the verdict on the facts and builds everything derived again. It runs when a transaction was left
unfinished (its process was killed, or an exception left it), under the lock, by whoever finds the dirty word set. Killed in
the middle, the next one finds the same facts and comes to the same verdict: no journal, no directory scan.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import PlaneCorrupt
from ..system import SIZE_CLASSES, late
from ..tables import Column
from .freed import NOTHING, Freed
from .membership import release_slot
from .reading import held_rows
from .space import CELL_NBYTES, LARGEST_SLAB_NBYTES
from .states import (
    DEAD,
    DOOMED,
    FREE,
    KEPT,
    LIVE,
    MAKING,
    QUEUED,
    USED,
    WARM,
    kept_for,
    row_of_name_word,
    version_matches,
)
from .transaction import Transaction
from .verdict import Facts, Verdict, judge

if TYPE_CHECKING:
    from . import items, policies, rates
else:
    items = late("shmplane.manifest.items")
    policies = late("shmplane.manifest.policies")
    rates = late("shmplane.manifest.rates")

__all__ = [
    "drop_idle_rings",
    "load_rare_modules",
    "may_need_rare_modules",
    "rebuild",
    "reclaim_slot",
    "leave",
    "rows_of_owner",
]


def may_need_rare_modules(tx: Transaction) -> bool:
    """Whether giving back for the dead may need modules that are not loaded with the others: of queues and evictable blocks."""
    return tx.header.semaphores_high[0] > 0 or any(tx.manifest.groups.used_nbytes.tolist())


def load_rare_modules() -> None:
    """Load them: before the lock is taken, since whatever ends an import there would leave both taken."""
    _ = items.Items, policies.queues_of, rates.Rates


def read_facts(tx: Transaction, alive: set[int]) -> Facts:
    """Read the facts, under the lock."""
    header, blocks, names, segments = tx.header, tx.blocks, tx.names, tx.segments
    high, segments_high, names_high = tx.manifest.blocks_high, tx.manifest.segments_high, tx.manifest.names_high
    _check_unused(blocks.state, high, header.blocks_reserved[0])
    _check_unused(segments.state, segments_high, header.segments_reserved[0])
    _check_unused(names.length, names_high, header.names_reserved[0])
    counts = blocks.references[:high].tolist()
    leased: set[int] = set()
    for slot in alive:
        leased.update(held_rows(tx, slot))
    return Facts(
        alive=alive,
        now=time.monotonic_ns(),
        block_states=blocks.state[:high].tolist(),
        block_versions=blocks.version[:high].tolist(),
        block_owners=blocks.owner[:high].tolist(),
        block_segments=blocks.segment[:high].tolist(),
        block_names=blocks.name[:high].tolist(),
        block_lingers=blocks.linger[:high].tolist(),
        block_expiries=blocks.expires[:high].tolist(),
        block_references={row: tx.references(row) for row, count in enumerate(counts) if count},
        leased=leased,
        name_words=names.word[:names_high].tolist(),
        name_lengths=names.length[:names_high].tolist(),
        segment_states=segments.state[:segments_high].tolist(),
        segment_owners=segments.owner[:segments_high].tolist(),
        segment_slabs=segments.slab[:segments_high].tolist(),
        segment_exported=segments.exported[:segments_high].tolist(),
        segment_places=segments.place[:segments_high].tolist(),
    )


def _check_unused(column: Column, high: int, reserved: int) -> None:
    """A row in use that is not counted: the counter was written over, and going by it would free what others read."""
    if any(column[high:reserved].tolist()):
        raise PlaneCorrupt(
            f"the header counts {high:,} rows of a table and there are more in use: somebody wrote over it. Save what can "
            f"still be read and remove the plane.",
            found=high,
        )


def rebuild(tx: Transaction, alive: set[int]) -> Freed:
    """Carry out the verdict and build everything derived again; the dead have nothing then. What they gave back."""
    dead = [slot for slot in tx.manifest.slots_in_use() if slot not in alive]
    leases = permits = 0
    for slot in dead:
        leases += _clear_leases(tx, slot)
        permits += tx.coordination.clear(slot)
        tx.metering.fold(slot)
        tx.counting.fold(slot)
        tx.counting.reclaimed()
    tx.counting.recovered()
    verdict = _carry_out(tx, alive)
    for slot in dead:
        release_slot(tx, slot)
    nbytes = sum(tx.segments.nbytes[row] for row in verdict.emptied if not tx.segments.place[row])
    return Freed(len(dead), leases, permits, len(verdict.freed), nbytes)


def _carry_out(tx: Transaction, alive: set[int]) -> Verdict:
    verdict = judge(read_facts(tx, alive))
    blocks, segments, names = tx.blocks, tx.segments, tx.names
    for name_row in verdict.emptied_names:
        names.word[name_row] = 0
    for row, name_row in verdict.named.items():
        # In this order, as the word may have been left by a rename: see ``_is_live``.
        if not version_matches(names.word[name_row], blocks.version[row]):
            blocks.version[row] = names.version[name_row]
        blocks.name[row] = name_row + 1
    for row in _kept_for_others(tx, alive):
        blocks.owner[row] = 0
    for row in verdict.freed:
        blocks.state[row] = DEAD
        blocks.generation[row] += 1
        blocks.state[row] = FREE
    for row in verdict.warm:
        segments.state[row] = WARM
    for row in verdict.doomed:
        tx.space.remove_segment(row)
    _rebuild_blocks(tx, verdict)
    _rebuild_segments(tx)
    _rebuild_names(tx)
    for row in tx.items.rebuild(sorted(verdict.living), alive):
        tx.free_unless_kept(row)
    drop_idle_rings(tx)
    tx.coordination.count_watchers()
    return verdict


def reclaim_slot(tx: Transaction, slot: int) -> Freed:
    """Give back what a dead process held, when no transaction was left unfinished. Work is what the dead held."""
    blocks, segments, space = tx.blocks, tx.segments, tx.space
    leases = held_rows(tx, slot)
    released = [tx.release_of(slot, row) for row in leases]
    unkept = _release_all_kept(tx, slot)
    tx.items.put_back_all(slot)
    abandoned = [tx.abandon(row) for row in rows_of_owner(blocks.owner, tx.manifest.blocks_high, slot)]
    freed = Freed.total([*released, unkept, *abandoned])
    nbytes = freed.nbytes
    for row in rows_of_owner(segments.owner, tx.manifest.segments_high, slot):
        if segments.state[row] == MAKING:
            nbytes += space.abandon_segment(row)
        elif segments.state[row] == DOOMED:
            space.remove_segment(row)
    permits = tx.coordination.clear(slot)
    drop_idle_rings(tx)
    tx.metering.fold(slot)
    tx.counting.fold(slot)
    tx.counting.reclaimed()
    release_slot(tx, slot)
    return Freed(1, len(leases), permits, freed.blocks, nbytes)


def drop_idle_rings(tx: Transaction) -> None:
    """Free the rings of queues that are empty and that no process uses any more."""
    for queue, ring in enumerate(tx.manifest.semaphores.ring[: tx.manifest.semaphores_high].tolist()):
        row = tx.items.drop_ring(queue) if ring else -1
        if row >= 0:
            tx.free_unless_kept(row)


def rows_of_owner(owners: Column, high: int, slot: int) -> list[int]:
    """Rows whose owner word names ``slot``, or with ``KEPT`` on top the block kept for it; their state is to be checked."""
    return [row for row, owner in enumerate(owners[:high].tolist()) if owner == slot + 1]


def _release_all_kept(tx: Transaction, slot: int) -> Freed:
    """Nothing is kept for the process of ``slot`` any more."""
    if not tx.header.kept[0]:
        return NOTHING
    rows = rows_of_owner(tx.blocks.owner, tx.manifest.blocks_high, KEPT + slot)
    return Freed.total(tx.release_kept(row, slot) for row in rows)


def leave(tx: Transaction, slot: int) -> None:
    """A process that makes and leases nothing any more leaves the plane."""
    _release_all_kept(tx, slot)
    tx.coordination.clear(slot)
    drop_idle_rings(tx)
    tx.metering.fold(slot)
    tx.counting.fold(slot)
    release_slot(tx, slot)


def _kept_for_others(tx: Transaction, alive: set[int]) -> list[int]:
    """Rows that are kept for processes that have ended."""
    owners = tx.blocks.owner[: tx.manifest.blocks_high].tolist()
    return [row for row, owner in enumerate(owners) if KEPT < owner < QUEUED and kept_for(owner) not in alive]


def _clear_leases(tx: Transaction, slot: int) -> int:
    leases, blocks, now = tx.manifest.lease_row(slot), tx.blocks, time.monotonic_ns()
    held = held_rows(tx, slot)
    for row in held:
        # A handle in a queue must still arrive: the linger time counts from the death of its maker.
        if blocks.linger[row]:
            blocks.expires[row] = now + blocks.linger[row]
        leases[row] = 0
    return len(held)


def _rebuild_blocks(tx: Transaction, verdict: Verdict) -> None:
    header, blocks = tx.header, tx.blocks
    high = tx.manifest.blocks_high
    header.free_blocks[0] = 0
    states = blocks.state[:high].tolist()
    free = [row for row, state in enumerate(states) if state == FREE]
    for row in free:
        blocks.cell[row] = blocks.referenced[row] = 0
    for row in verdict.living:
        blocks.referenced[row] = verdict.referenced.get(row, 0)
    for index in range(len(CELL_NBYTES)):
        for column in (tx.manifest.classes.free, tx.manifest.classes.slab, tx.manifest.classes.slabs):
            column[index] = 0
    free = _rebuild_slabs(tx, verdict, free)
    for row in reversed(free):
        tx.space.free_block_row(row)
    header.live_blocks[0] = high - sum(state == FREE for state in states)
    header.lingering[0] = sum(1 for row in verdict.living if blocks.linger[row])
    _rebuild_queues(tx, verdict)
    header.kept[0] = sum(1 for row in verdict.living if kept_for(blocks.owner[row]) >= 0)
    header.expiring[0] = sum(1 for row in verdict.living if blocks.until[row])


def _rebuild_queues(tx: Transaction, verdict: Verdict) -> None:
    blocks, groups = tx.blocks, tx.manifest.groups
    evictable: list[int] = []
    for row in range(tx.manifest.blocks_high):
        group = blocks.group[row]
        if row in verdict.living and blocks.state[row] == LIVE and 0 < group <= groups.rows and groups.state[group - 1]:
            evictable.append(row)
        elif group or blocks.queue[row]:
            blocks.group[row] = blocks.queue[row] = 0
    tx.eviction.rebuild(evictable)


def _rebuild_slabs(tx: Transaction, verdict: Verdict, free: list[int]) -> list[int]:
    """Find the cells in use and give the others to free rows; returns the rows that got none."""
    segments, classes, blocks = tx.segments, tx.manifest.classes, tx.blocks
    owned: dict[int, set[int]] = {}
    for row in verdict.living:
        if blocks.cell[row]:
            owned.setdefault(blocks.segment[row] - 1, set()).add(blocks.offset[row])
    remaining = list(free)
    for slab in range(tx.manifest.segments_high):
        index = segments.slab[slab] - 1
        if segments.state[slab] != USED or not 0 <= index < len(CELL_NBYTES):
            continue
        if not segments.bump[slab] <= segments.nbytes[slab] <= LARGEST_SLAB_NBYTES:
            # Checked before it is counted through: an impossible size would take for ever.
            raise PlaneCorrupt(f"segment row {slab} is a slab of impossible size; remove the plane", row=slab)
        cell, used = CELL_NBYTES[index], owned.get(slab, set())
        segments.cells[slab] = len(used)
        if segments.place[slab]:
            segments.orphans[slab] = 0  # cells there are not used again
            continue
        orphans = 0
        for offset in range(0, segments.bump[slab], cell):
            if offset in used:
                continue
            if remaining:
                row = remaining.pop()
                tx.space.bind(row, slab, offset=offset, cell=cell)
                tx.space.free_block_row(row)
            else:
                orphans += 1
        segments.orphans[slab] = orphans
        classes.slabs[index] += 1
        if segments.bump[slab] + cell <= segments.nbytes[slab]:
            classes.slab[index] = slab + 1
    return remaining


def _rebuild_segments(tx: Transaction) -> None:
    header, segments = tx.header, tx.segments
    header.free_segments[0] = 0
    for bucket in range(SIZE_CLASSES):
        tx.manifest.recycled.first[bucket] = 0
    used = recycled = spilled = 0
    for row in range(tx.manifest.segments_high):
        state, nbytes = segments.state[row], segments.nbytes[row]
        if state == FREE:
            segments.next[row] = header.free_segments[0]
            header.free_segments[0] = row + 1
        elif state == WARM or (state == USED and segments.slab[row] and not segments.cells[row]):
            recycled += nbytes
            if state == WARM:
                tx.space.keep_warm(row)
        elif state in (USED, MAKING):
            if segments.place[row]:
                spilled += nbytes
            else:
                used += nbytes
    header.used_nbytes[0] = used
    header.recycled_nbytes[0] = recycled
    header.spilled_nbytes[0] = spilled


def _rebuild_names(tx: Transaction) -> None:
    header, names, blocks = tx.header, tx.names, tx.blocks
    for bucket in range(tx.manifest.bucket_mask + 1):
        if tx.manifest.buckets.first[bucket]:
            tx.manifest.buckets.first[bucket] = 0
    header.tombstones_head[0] = header.tombstones_tail[0] = header.tombstones[0] = 0
    live = 0
    for row in range(tx.manifest.names_high):
        names.queued[row] = 0
        word = names.word[row]
        if names.length[row]:
            tx.index.link(row, names.hash[row])
        if word:
            live += 1
            names.version[row] = max(names.version[row], blocks.version[row_of_name_word(word)])
        else:
            tx.index.queue_tombstone(row)
    header.live_names[0] = live
