"""What goes at a time: names with a time to live, and blocks that lingered long enough. Under the lock.

A name whose time has come is not found from that moment on, whoever asks (``Reader.current``). What is left of it is
removed in passing: each put looks at the next rows, from where the last look ended, and removes a bounded number.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .freed import NOTHING, Freed
from .states import LIVE

if TYPE_CHECKING:
    from .transaction import Transaction

__all__ = ["expire_all", "expire_some"]

_ROWS_AT_ONCE = 64
_MOST_NAMES_AT_ONCE = 64


def expire_some(tx: Transaction, rows: int = _ROWS_AT_ONCE) -> Freed:
    """Remove what is over of the next ``rows`` rows, and 64 names at most."""
    header = tx.header
    if not (header.expiring[0] or header.lingering[0]):
        return NOTHING
    high, hand = tx.manifest.blocks_high, header.expiry_hand[0]
    start = hand if hand < high else 0
    return _expire(tx, start, min(start + rows, high))


def expire_all(tx: Transaction) -> tuple[Freed, bool]:
    """Remove what is over, as far as one transaction may; whether there is more."""
    header, high = tx.header, tx.manifest.blocks_high
    if not (header.expiring[0] or header.lingering[0]):
        return NOTHING, False
    freed = _expire(tx, 0, high)
    return freed, header.expiry_hand[0] < high


def _expire(tx: Transaction, start: int, end: int) -> Freed:
    header, blocks, now = tx.header, tx.blocks, time.monotonic_ns()
    parts: list[Freed] = []
    if header.expiring[0]:
        times = blocks.until[start:end].tolist()
        due = [row for row, until in enumerate(times, start) if 0 < until <= now and blocks.state[row] == LIVE]
        if len(due) > _MOST_NAMES_AT_ONCE:
            end = due[_MOST_NAMES_AT_ONCE]
            del due[_MOST_NAMES_AT_ONCE:]
        parts += [_expire_name(tx, row) for row in due]
    if header.lingering[0]:
        waiting = [row for row, linger in enumerate(blocks.linger[start:end].tolist(), start) if linger]
        over = [row for row in waiting if blocks.state[row] == LIVE and blocks.expires[row] <= now]
        parts += [tx.free_unless_kept(row) for row in over]
    header.expiry_hand[0] = end
    return Freed.total(parts)


def _expire_name(tx: Transaction, row: int) -> Freed:
    """The time of the name of a live block has come. Again: does nothing more."""
    tx.counting.expired()
    freed = tx.drop_name(row)
    if tx.blocks.until[row]:
        tx.blocks.until[row] = 0
        tx.header.expiring[0] -= 1
    return freed
