"""Upkeep of a plane, under the lock: its capacity, what the dead held, what is warm; and room in a full one, by evicting.

Evicting is decided and done a bounded number of blocks a transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ...errors import PlaneFull
from ...manifest import NOTHING, STEPS, Freed, Need, evict, evict_in_group, expire_all, expire_some
from ...system import own
from .reclaim import reclaim_dead

if TYPE_CHECKING:
    from ...manifest import Evicted, Transaction
    from .attachment import Attachment

__all__ = ["once_there_is_room", "reclaim", "reclaim_expired", "reclaim_unheld", "resize", "shrink", "trim"]

_SHARE_TRIMMED_FOR_ROWS = 8
_ROWS_LOOKED_AT = 4096  #: at once: of a full plane for what goes at a time, and for what nothing holds
_MOST_ATTEMPTS = 32  #: while others take the room that was made
_MOST_ROWS_AT_ONCE = 3  #: that one call takes: of pages or rows, of a table's description, of the block itself

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def resize(tx: Transaction, attachment: Attachment, capacity: int) -> None:
    """Warm memory goes first, then what the dead held; ``PlaneFull`` when more is in use."""
    if capacity < tx.header.used_nbytes[0]:
        reclaim_dead(tx, attachment)
        expire_all(tx)
    used = tx.header.used_nbytes[0]
    if capacity < used:
        raise tx.manifest.refuse(
            PlaneFull(
                f"capacity cannot become {capacity:,} B: {used:,} B are in use. Delete blocks first.",
                needed=used,
                capacity=capacity,
            )
        )
    excess = used + tx.header.recycled_nbytes[0] - capacity
    if excess > 0:
        tx.space.trim(excess)
    tx.set_capacity(capacity)


def reclaim(tx: Transaction, attachment: Attachment) -> Freed:
    """Give back what dead processes held and what has lingered long enough; how much that was since last asked.

    Whatever this process reclaimed in passing, by joining or by its look once a second, counts as well.
    """
    for registry in list(attachment.registries.values()):
        registry.queue_garbage()
    attachment.free_garbage(tx)
    _remove_again(tx, attachment)
    reclaim_dead(tx, attachment)
    (expired, _), reclaimed = expire_all(tx), attachment.reclaimed
    attachment.reclaimed = NOTHING
    return Freed.total([reclaimed, expired])


def reclaim_unheld(tx: Transaction, attachment: Attachment, start: int) -> int:
    """Free what nothing holds, of a bounded number of rows from ``start`` on; where to go on, or -1 at the end.

    There is none as long as whoever lets go last frees it; what a fault has left goes here, instead of filling the plane.
    """
    high = tx.manifest.blocks_high
    end = min(start + _ROWS_LOOKED_AT, high)
    freed = Freed.total(tx.free_unless_kept(row) for row in range(start, end))
    attachment.reclaimed = Freed.total([attachment.reclaimed, freed])
    return end if end < high else -1


def reclaim_expired(tx: Transaction, attachment: Attachment) -> bool:
    """More of what goes at a time; whether there is more still."""
    expired, has_more = expire_all(tx)
    attachment.reclaimed = Freed.total([attachment.reclaimed, expired])
    return has_more


def _remove_again(tx: Transaction, attachment: Attachment) -> None:
    """Segments whose file this process could not remove."""
    removed = {segment_id for _, segment_id in attachment.gone}
    for segment_row, segment_id in tx.space.doomed_segments():
        if tx.segments.owner[segment_row] == attachment.slot + 1 and segment_id not in removed:
            tx.space.remove_segment(segment_row)


def reclaim_for(tx: Transaction, attachment: Attachment, full: PlaneFull) -> None:
    """Make room for what was refused by giving back what nobody needs: what dead processes held, what is over, warm memory."""
    reclaim_dead(tx, attachment)
    expire_some(tx, _ROWS_LOOKED_AT)
    if "errno" in full.facts:
        # The file system is full although the capacity is not: what is warm helps more as free memory.
        tx.space.trim(tx.space.recycled_nbytes())
    if "max_segments" in full.facts:
        _free_segment_rows(tx, attachment)


def _free_segment_rows(tx: Transaction, attachment: Attachment) -> None:
    """All segment rows are taken: warm ones go, and rows whose remover has not come back to say so are free."""
    space = tx.space
    for segment_row, segment_id in space.doomed_segments():
        # Ids are never used again and a doomed file is never made again: one that is not there is gone for good.
        if attachment.memory.is_gone(segment_id, tx.segments.place[segment_row] > 0):
            space.forget_segment(segment_row, segment_id)
    space.trim(space.recycled_nbytes() // _SHARE_TRIMMED_FOR_ROWS + 1)


def trim(tx: Transaction, keep: int) -> int:
    """Give warm memory back until at most ``keep`` bytes are; how many bytes that was."""
    excess = tx.header.recycled_nbytes[0] - keep
    return tx.space.trim(excess) if excess > 0 else 0


def once_there_is_room(
    attachment: Attachment, refused: PlaneFull, attempt: Callable[..., R], args: tuple[Any, ...]
) -> R:
    """Try again what was refused: after what nobody needs has come back, and for as long as anything can be evicted."""
    attachment.change(reclaim_for, attachment, refused)
    for _ in range(_MOST_ATTEMPTS):
        has_more = _make_room(attachment, refused)
        try:
            return attempt(*args)
        except own(PlaneFull) as full:
            if not has_more:
                raise
            refused = full
    return attempt(*args)


def _make_room(attachment: Attachment, full: PlaneFull) -> bool:
    """Evict what is in the way of what was refused, or at last look at all that goes at a time; whether anything went."""
    facts = full.facts
    if "group" in facts:
        return _evict_until(attachment, evict_in_group, facts["group"], facts["needed"]) > 0
    if facts.get("needed", 0) > attachment.manifest.header.capacity[0]:
        return False
    if "max_blocks" in facts:
        need = Need(rows=_MOST_ROWS_AT_ONCE)
    elif "errno" in facts:
        need = Need(facts.get("needed", 0) + attachment.look(_unused_nbytes))
    else:
        need = Need(facts.get("needed", 0), cell=facts.get("cell", -1))
    evicted = _evict_until(attachment, _evict, need, "errno" in facts)
    return evicted > 0 or attachment.change(expire_all)[0].blocks > 0


def _evict_until(attachment: Attachment, evict_some: Callable[[Transaction, *Ts], Evicted], *args: *Ts) -> int:
    """Evict until there is room, in as many transactions as it takes, or until all that is left is in use; how many."""
    evicted = fruitless = 0
    while True:
        found = attachment.change(evict_some, *args)
        evicted += found.blocks
        fruitless = 0 if found.blocks else fruitless + 1
        if found.is_enough or fruitless > 1 + found.left // STEPS:
            return evicted


def _evict(tx: Transaction, need: Need, to_system: bool) -> Evicted:
    found = evict(tx, need)
    if to_system and found.blocks:
        tx.space.trim(tx.space.recycled_nbytes())
    return found


def _unused_nbytes(tx: Transaction) -> int:
    return tx.space.free_nbytes() + tx.space.recycled_nbytes()


def shrink(attachment: Attachment, capacity: int) -> None:
    """``resize``, for which what is evictable goes as well."""
    try:
        attachment.change(resize, attachment, capacity)
    except own(PlaneFull):
        _evict_until(attachment, evict, Need(attachment.manifest.header.capacity[0] - capacity))
        attachment.change(resize, attachment, capacity)
