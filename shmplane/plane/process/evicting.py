"""Room in a full plane, by evicting: decided and done under the lock, a bounded number of blocks a transaction.

It is loaded when the first plane of this process is full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ...errors import PlaneFull
from ...manifest import STEPS, Need, evict, evict_in_group, expire_all
from ...system import own
from .upkeep import reclaim_for, resize

if TYPE_CHECKING:
    from ...manifest import Evicted, Transaction
    from .attachment import Attachment

__all__ = ["once_there_is_room", "shrink"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")
_MOST_ATTEMPTS = 32  #: while others take the room that was made
_MOST_ROWS_AT_ONCE = 3  #: that one call takes: of pages or rows, of a table's description, of the block itself


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
