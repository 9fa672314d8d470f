"""A full recount of a plane: every derived word against the facts, every file against its row.

``faults_of`` takes the lock and returns a sentence per thing that is wrong; a plane at rest has none. It shares no
code with recovery, so that both cannot be wrong in the same way.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shmplane.manifest import CELL_NBYTES, CREATING, DOOMED, FREE, LIVE, MAKING, USED, WARM
from tests.support.inside import creations_of, directory_of, look, slot_of, spill_of, token_of

_ROW = 2**24 - 1
_KEPT, _QUEUED, _RING = 2**32, 2**33, 2**34


def faults_of(plane: Any) -> list[str]:
    """What is wrong with a plane in which nobody is at work now."""
    found: list[str] = look(plane, _recount, plane)
    return found


def _recount(tx: Any, plane: Any) -> list[str]:
    return [
        *_wrong_blocks(tx, plane),
        *_wrong_names(tx),
        *_wrong_segments(tx),
        *_wrong_chains(tx),
        *_wrong_processes(tx, plane),
        *wrong_groups(tx),
        *_wrong_queues(tx),
        *_wrong_files(tx, directory_of(plane), 0),
        *_wrong_files(tx, spill_of(plane), 1),
    ]


def _leased_rows(tx: Any) -> Counter[int]:
    leased: Counter[int] = Counter()
    high = tx.header.blocks_high[0]
    for slot, state in enumerate(tx.manifest.processes.state.tolist()):
        if state:
            words = tx.manifest.lease_row(slot)[:high].tolist() if high else []
            leased.update(row for row, word in enumerate(words) if word)
    return leased


def _pointed(tx: Any) -> dict[int, int]:
    """Block row of each name row with a word."""
    words = tx.names.word[: tx.header.names_high[0]].tolist() if tx.header.names_high[0] else []
    return {row: (word & _ROW) - 1 for row, word in enumerate(words) if word}


def _wrong_blocks(tx: Any, plane: Any) -> Iterator[str]:
    blocks, header = tx.blocks, tx.header
    leased, pointed = _leased_rows(tx), set(_pointed(tx).values())
    referenced: Counter[int] = Counter()
    used = lingering = expiring = kept = 0
    for row in range(header.blocks_high[0]):
        state = blocks.state[row]
        if state == FREE:
            if leased[row]:
                yield f"the free block row {row} is leased"
            continue
        used += 1
        lingering += bool(blocks.linger[row])
        expiring += bool(blocks.until[row])
        kept += _KEPT <= blocks.owner[row] < _QUEUED
        others = [column[row] - 1 for column in blocks.reference[: blocks.references[row]]]
        referenced.update(others)
        for other in others:
            if blocks.state[other] != LIVE or blocks.references[other]:
                yield f"block row {row} refers to block row {other}, which has no bytes of its own"
        if state == CREATING:
            if blocks.owner[row] - 1 != slot_of(plane) or row not in creations_of(plane):
                yield f"block row {row} is CREATING for slot {blocks.owner[row] - 1} and nobody stands for it"
        elif state != LIVE:
            yield f"block row {row} is in state {state}"
        elif not (row in pointed or leased[row] or blocks.referenced[row] or blocks.owner[row] >= _KEPT):
            # One that lingered goes in the next second's upkeep.
            if not (blocks.linger[row] and blocks.expires[row] > time.monotonic_ns() - 1_000_000_000):
                yield f"nothing holds the live block row {row}"
    for row in range(header.blocks_high[0]):
        if blocks.state[row] != FREE and blocks.referenced[row] != referenced[row]:
            yield f"block row {row} counts {blocks.referenced[row]} references, there are {referenced[row]}"
    if header.live_blocks[0] != used:
        yield f"live_blocks is {header.live_blocks[0]}, there are {used}"
    if header.lingering[0] != lingering:
        yield f"lingering is {header.lingering[0]}, there are {lingering}"
    if header.expiring[0] != expiring:
        yield f"expiring is {header.expiring[0]}, there are {expiring}"
    if header.kept[0] != kept:
        yield f"kept is {header.kept[0]}, there are {kept}"


def _wrong_queues(tx: Any) -> Iterator[str]:
    """Chains and counts of the items that wait, beside their owner words and numbers."""
    blocks, queues = tx.blocks, tx.manifest.semaphores
    waiting: dict[int, list[tuple[int, int]]] = {}
    rings: dict[int, int] = {}
    for row in range(tx.header.blocks_high[0]):
        owner = blocks.owner[row]
        if blocks.state[row] == LIVE and owner >= _RING:
            rings[(owner & 0xFFFF) - 1] = row + 1 | blocks.generation[row] << 24
        elif blocks.state[row] == LIVE and owner >= _QUEUED and not owner >> 16 & 0xFFFF:
            waiting.setdefault((owner & 0xFFFF) - 1, []).append((blocks.rank[row], row))
    for queue in range(tx.header.semaphores_high[0]):
        items = [row for _, row in sorted(waiting.pop(queue, []))]
        chain = list(_chain(queues.first[queue], blocks.after, blocks.rows))
        if chain != items or queues.items[queue] != len(items):
            yield f"queue row {queue} has the items {items}, in its chain {chain}, counted {queues.items[queue]}"
        if queues.earliest[queue] != (blocks.rank[items[0]] if items else 0):
            yield f"the earliest number of queue row {queue} is not that of its first item"
        if queues.ring[queue] != rings.get(queue, 0):
            yield f"queue row {queue} has not the ring that says it is its"
        if queues.last[queue] != (items[-1] + 1 if items else 0):
            yield f"the youngest item of queue row {queue} is not its last one"
    if waiting:
        yield f"there are items of no queue: {waiting}"


def _wrong_names(tx: Any) -> Iterator[str]:
    names, blocks, header = tx.names, tx.blocks, tx.header
    pointed = _pointed(tx)
    for name_row, row in pointed.items():
        word = names.word[name_row]
        if blocks.state[row] != LIVE:
            yield f"name row {name_row} points to block row {row}, which is not live"
        elif word >> 24 != blocks.version[row]:
            yield f"name row {name_row} means version {word >> 24} of block row {row}, which is {blocks.version[row]}"
        elif blocks.name[row] != name_row + 1:
            yield f"block row {row} has name row {blocks.name[row] - 1}, but name row {name_row} points to it"
        if names.version[name_row] != blocks.version[row]:
            yield f"name row {name_row} is at {names.version[name_row]}, its block at {blocks.version[row]}"
    for row, count in Counter(pointed.values()).items():
        if count > 1:
            yield f"{count} names point to block row {row}"
    queued = 0
    for name_row in range(header.names_high[0]):
        if names.length[name_row]:
            if tx.index.find(names.text.read(name_row, names.length[name_row])) != name_row:
                yield f"the index does not find name row {name_row}"
        if not names.word[name_row] and not names.queued[name_row]:
            yield f"name row {name_row} has no block and is not among the tombstones"
        queued += bool(names.queued[name_row])
    chain = list(_chain(header.tombstones_head[0], names.next_tombstone, names.rows))
    if not len(chain) == len(set(chain)) == header.tombstones[0] == queued:
        yield f"{len(chain)} tombstones in the chain, {header.tombstones[0]} counted, {queued} marked"
    if header.tombstones_tail[0] != (chain[-1] + 1 if chain else 0):
        yield "the tail of the tombstones is not their last one"
    if header.live_names[0] != len(pointed):
        yield f"live_names is {header.live_names[0]}, there are {len(pointed)}"


def _wrong_segments(tx: Any) -> Iterator[str]:
    segments, blocks, header = tx.segments, tx.blocks, tx.header
    alone: Counter[int] = Counter()
    cells: Counter[int] = Counter()
    for row in range(header.blocks_high[0]):
        if blocks.state[row] != FREE:
            (cells if blocks.cell[row] else alone)[blocks.segment[row] - 1] += 1
    used = recycled = spilled = 0
    for row in range(header.segments_high[0]):
        state, nbytes, slab = segments.state[row], segments.nbytes[row], segments.slab[row]
        if segments.place[row] and state != FREE:
            spilled += nbytes
            lie_there = cells[row] if slab else alone[row]
            if state == WARM or (state == USED and not (lie_there if slab else lie_there == 1)):
                yield f"the spilled segment {row} is in state {state} with {lie_there} blocks"
            if slab and segments.cells[row] != cells[row]:
                yield f"the spilled slab {row} counts {segments.cells[row]} cells in use, there are {cells[row]}"
            if state == MAKING and (slab or not alone[row]):
                yield f"the spilled segment {row} is still being made"
        elif state == USED and slab:
            if segments.cells[row] != cells[row]:
                yield f"slab {row} counts {segments.cells[row]} cells in use, there are {cells[row]}"
            used, recycled = (used + nbytes, recycled) if cells[row] else (used, recycled + nbytes)
        elif state == USED:
            used += nbytes
            if alone[row] != 1:
                yield f"segment {row} is in use by {alone[row]} blocks"
        elif state == MAKING:
            used += nbytes
            if not slab and alone[row] != 1:
                yield f"segment {row} is being made for {alone[row]} blocks"
        elif state == WARM:
            recycled += nbytes
        elif state == DOOMED:
            yield f"segment {row} is still doomed"
        if state in (FREE, WARM, DOOMED) and (alone[row] or cells[row]):
            yield f"{alone[row] + cells[row]} blocks lie in segment {row}, which is in state {state}"
    capacity = header.capacity[0]
    if (header.used_nbytes[0], header.recycled_nbytes[0]) != (used, recycled):
        yield (
            f"used and recycled are {header.used_nbytes[0]:,} and {header.recycled_nbytes[0]:,} B, a recount gives "
            f"{used:,} and {recycled:,}"
        )
    if header.spilled_nbytes[0] != spilled:
        yield f"spilled_nbytes is {header.spilled_nbytes[0]:,}, a recount gives {spilled:,}"
    if header.spiller[0]:
        yield f"slot {header.spiller[0] - 1} is said to move segments"
    if used + recycled > capacity:
        yield f"{used + recycled:,} B of {capacity:,} in use"


def _wrong_chains(tx: Any) -> Iterator[str]:
    segments, blocks, header = tx.segments, tx.blocks, tx.header
    free = {row for row in range(header.blocks_high[0]) if blocks.state[row] == FREE}
    seen: Counter[int] = Counter(_chain(header.free_blocks[0], blocks.next, blocks.rows))
    for row in seen:
        if blocks.cell[row]:
            yield f"block row {row} owns a cell and is among those without"
    places: Counter[tuple[int, int]] = Counter()
    for row in range(header.blocks_high[0]):
        if blocks.state[row] != FREE and blocks.cell[row]:
            places[blocks.segment[row] - 1, blocks.offset[row]] += 1
    for index, first in enumerate(tx.manifest.classes.free.tolist()):
        for row in _chain(first, blocks.next, blocks.rows):
            seen[row] += 1
            slab = blocks.segment[row] - 1
            places[slab, blocks.offset[row]] += 1
            if blocks.cell[row] != CELL_NBYTES[index] or segments.slab[slab] != index + 1:
                yield f"block row {row} is in the chain of another class than its cell"
            if segments.state[slab] != USED or segments.place[slab]:
                yield f"block row {row} owns a cell of segment {slab}, which is in state {segments.state[slab]}"
    if set(seen) != free or any(count > 1 for count in seen.values()):
        yield f"free block rows {sorted(free)}, in chains {sorted(seen.elements())}"
    for (slab, offset), count in places.items():
        cell = CELL_NBYTES[segments.slab[slab] - 1]
        if (
            count > 1
            or offset % cell
            or offset + cell > segments.bump[slab]
            or segments.bump[slab] > segments.nbytes[slab]
        ):
            yield f"cell {offset} of slab {slab} is owned {count} times, or lies outside"
    yield from _lost_cells(tx, Counter(slab for slab, _ in places))
    free_segments = [row for row in range(header.segments_high[0]) if segments.state[row] == FREE]
    chained = sorted(_chain(header.free_segments[0], segments.next, segments.rows))
    if chained != free_segments:
        yield f"free segment rows {free_segments}, in the chain {chained}"
    warm = [row for row in range(header.segments_high[0]) if segments.state[row] == WARM]
    buckets = sorted(
        row for first in tx.manifest.recycled.first.tolist() for row in _chain(first, segments.next, segments.rows)
    )
    if buckets != warm:
        yield f"warm segment rows {warm}, in buckets {buckets}"


def _lost_cells(tx: Any, owned: Counter[int]) -> Iterator[str]:
    segments, classes = tx.segments, tx.manifest.classes
    slabs: Counter[int] = Counter()
    for slab in range(tx.header.segments_high[0]):
        if segments.state[slab] == USED and segments.slab[slab] and not segments.place[slab]:
            index = segments.slab[slab] - 1
            slabs[index] += 1
            cut = segments.bump[slab] // CELL_NBYTES[index]
            if cut != owned[slab] + segments.orphans[slab]:
                yield f"slab {slab}: {cut} cells cut, {owned[slab]} owned, {segments.orphans[slab]} orphans"
    for index, count in enumerate(classes.slabs.tolist()):
        if count != slabs[index]:
            yield f"class {index} counts {count} slabs, there are {slabs[index]}"
        slab = classes.slab[index] - 1
        if slab >= 0 and (segments.state[slab] != USED or segments.slab[slab] != index + 1):
            yield f"the open slab of class {index} is not one"


def wrong_groups(tx: Any) -> list[str]:
    """Every evictable block is in one queue of its group, and what the group counts is what they are."""
    return list(_wrong_groups(tx))


def _wrong_groups(tx: Any) -> Iterator[str]:
    blocks, segments, groups = tx.blocks, tx.segments, tx.manifest.groups
    members: dict[int, set[int]] = {}
    for row in range(tx.header.blocks_high[0]):
        if blocks.state[row] == LIVE and blocks.group[row]:
            members.setdefault(blocks.group[row] - 1, set()).add(row)
        elif blocks.queue[row]:
            yield f"block row {row} is in a queue, in state {blocks.state[row]} and of group {blocks.group[row]}"
    for group, state in enumerate(groups.state.tolist()):
        expected = members.pop(group, set())
        if expected and not state:
            yield f"{len(expected)} blocks are of group {group}, which there is not"
        if not state:
            continue
        found: Counter[int] = Counter()
        small = 0
        for queue, (heads, tails) in enumerate(zip(groups.heads, groups.tails, strict=True)):
            if not heads[group] and not tails[group]:
                continue
            rows = list(_chain(heads[group], blocks.after, blocks.rows))
            if list(reversed(rows)) != list(_chain(tails[group], blocks.before, blocks.rows)):
                yield f"queue {queue} of group {group} is not the same from both ends"
            if any(blocks.queue[row] != queue + 1 for row in rows):
                yield f"queue {queue} of group {group} has rows that say otherwise"
            small += sum(_taken(blocks, segments, row) for row in rows) if not queue else 0
            found.update(rows)
        if set(found) != expected or any(count > 1 for count in found.values()):
            yield f"group {group} has the blocks {sorted(expected)}, its queues {sorted(found.elements())}"
        taken = sum(_taken(blocks, segments, row) for row in expected)
        if (groups.blocks[group], groups.used_nbytes[group]) != (len(expected), taken):
            yield (
                f"group {group} counts {groups.blocks[group]} blocks and {groups.used_nbytes[group]:,} B, there are "
                f"{len(expected)} and {taken:,}"
            )
        if groups.policy[group] == 0 and state and groups.small_nbytes[group] != small:
            yield f"group {group} counts {groups.small_nbytes[group]:,} B in its small queue, there are {small:,}"
    for group, strangers in members.items():
        yield f"blocks {sorted(strangers)} are of group {group}, which cannot be"


def _taken(blocks: Any, segments: Any, row: int) -> int:
    nbytes: int = blocks.cell[row] or segments.nbytes[blocks.segment[row] - 1]
    return nbytes


def _wrong_processes(tx: Any, plane: Any) -> Iterator[str]:
    header = tx.header
    for slot in tx.manifest.slots_in_use():
        if not token_of(plane).is_held(slot):
            yield f"slot {slot} is in use and its process is dead"
    for row in _leased_rows(tx):
        if row >= header.blocks_high[0] or tx.blocks.state[row] != LIVE:
            yield f"block row {row} is leased and not live"


def _wrong_files(tx: Any, directory: Path | None, place: int) -> Iterator[str]:
    segments = tx.segments
    there = [row for row in range(tx.header.segments_high[0]) if segments.place[row] == place]
    rows = {f"s{segments.id[row]}": row for row in there if segments.state[row] in (USED, WARM)}
    making = {f"s{segments.id[row]}" for row in there if segments.state[row] == MAKING}
    directory = directory or Path("/nowhere")
    found = os.listdir(directory) if directory.exists() else []
    files = {name for name in found if name not in ("lock", "tokens", "manifest", "spill", "owner")}
    for name in sorted(files - set(rows) - making):
        yield f"the file {name} belongs to no segment"
    for name in sorted(set(rows) - files):
        yield f"the file {name} of segment row {rows[name]} is gone"
    for name in sorted(files & set(rows)):
        if os.stat(directory / name).st_size != segments.nbytes[rows[name]]:
            yield f"the file {name} is of another size than its row says"


def _chain(following: int, column: Any, most: int) -> Iterator[int]:
    for _ in range(most + 1):
        if not following:
            return
        yield following - 1
        following = column[following - 1]
    yield -1  # it loops: no row is -1, so every comparison fails
