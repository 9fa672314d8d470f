"""Eviction: which blocks go when the plane, or a group of blocks with a limit of its own, is full. Under the lock.

Every evictable block is in a queue of its group from its publication until it is freed; the group's policy says which goes
next (``policies``, over the words of the manifest). Nothing here grows with the number of blocks: a victim costs a few
words, blocks in use are passed by, and one transaction lets a bounded number go. Who needs more asks again.

A block that lost its name and is still leased counts for its group until it is freed: a limit is one of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .states import EVICTABLE, LIVE

if TYPE_CHECKING:
    from .transaction import Transaction

__all__ = ["Evicted", "Need", "evict", "evict_in_group", "group_room"]

#: blocks that one transaction evicts at most
MAX_EVICTED = 64
#: one more than is needed is evicted for each so many blocks there are, so that the next put finds room
_BLOCKS_PER_SPARE = 128
_MOST_SPARE = 32


class Need(NamedTuple):
    """What somebody has no room for."""

    nbytes: int = 0  #: in a segment of its own
    rows: int = 0  #: of blocks
    cell: int = -1  #: class of the cell that would do as well; -1: none


class Evicted(NamedTuple):
    """What one transaction evicted.

    Attributes:
        is_enough: there is room now.
        left: evictable blocks that there still are, in use or not.
    """

    blocks: int
    is_enough: bool
    left: int


def evict(tx: Transaction, need: Need) -> Evicted:
    """Let evictable blocks go until there is room, and a few more: those without a group of their own first."""
    spare, evicted = min(tx.header.live_blocks[0] // _BLOCKS_PER_SPARE, _MOST_SPARE), 0
    for group in _in_order(tx):
        evicted = _evict_from(tx, group, partial(_has_room, tx, need), evicted=evicted, spare=spare)
    left = min(sum(tx.manifest.groups.blocks.tolist()), tx.blocks.rows)
    return Evicted(evicted, _has_room(tx, need), left)


def evict_in_group(tx: Transaction, group: int, nbytes: int) -> Evicted:
    """The same within the limit of one group: until ``nbytes`` more fit, and a little besides."""
    blocks = tx.manifest.groups.blocks

    def has_room() -> bool:
        return group_room(tx, group) >= nbytes

    evicted = _evict_from(tx, group, has_room, evicted=0, spare=min(blocks[group] // _BLOCKS_PER_SPARE, _MOST_SPARE))
    return Evicted(evicted, has_room(), min(blocks[group], tx.blocks.rows))


def group_room(tx: Transaction, group: int) -> int:
    """B that a group may still take; as much as there is when it has no limit."""
    groups = tx.manifest.groups
    limit = groups.limit_nbytes[group]
    return limit - groups.used_nbytes[group] if limit else tx.header.capacity[0]


def _evict_from(tx: Transaction, group: int, has_room: Callable[[], bool], *, evicted: int, spare: int) -> int:
    """Evict from one group until there is room and some to spare, or it has no more; how many went by then."""
    while evicted < MAX_EVICTED and not (has_room() and (not evicted or evicted >= spare)):
        if not tx.manifest.groups.blocks[group] or not _evict_next(tx, group):
            break
        evicted += 1
    return evicted


def _in_order(tx: Transaction) -> list[int]:
    """Groups with blocks: what was put as evictable, then the largest."""
    groups = tx.manifest.groups
    named = [group for group, blocks in enumerate(groups.blocks.tolist()) if blocks and group != EVICTABLE - 1]
    return [EVICTABLE - 1, *sorted(named, key=lambda group: -groups.used_nbytes[group])]


def _has_room(tx: Transaction, need: Need) -> bool:
    header = tx.header
    if need.rows and tx.blocks.rows - header.live_blocks[0] < need.rows:
        return False
    if need.cell >= 0 and tx.space.has_cell(need.cell):
        return True
    return need.nbytes <= tx.space.free_nbytes() + header.recycled_nbytes[0]


def _evict_next(tx: Transaction, group: int) -> bool:
    """Evict the block that the policy chooses; False when all that it looked at are in use."""
    queues, groups = tx.eviction.of(group), tx.manifest.groups
    row = queues.victim(partial(_may_go, tx, group))
    if row is None:
        return False
    name_row = tx.blocks.name[row] - 1
    queues.evicted(row, tx.names.hash[name_row])
    groups.blocks[group] -= 1
    groups.evictions[group] += 1
    tx.counting.evicted()
    tx.drop_name(row)
    return True


def _may_go(tx: Transaction, group: int, row: int) -> bool:
    """Whether a block has a name and nothing else that keeps it."""
    blocks = tx.blocks
    return (
        blocks.state[row] == LIVE
        and blocks.group[row] == group + 1
        and not blocks.referenced[row]
        and tx.is_named(row)
        and not tx.is_kept(row)
        and not tx.is_leased(row)
    )
