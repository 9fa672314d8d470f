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

__all__ = ["expire", "expire_lingering", "expire_names"]

_ROWS_AT_ONCE = 256
_MOST_AT_ONCE = 64


def expire(tx: Transaction) -> tuple[Freed, bool]:
    """Whatever goes at a time, as far as one transaction may take; whether there are more such names."""
    tx.header.expiry_hand[0] = 0
    names = expire_names(tx, rows=tx.manifest.blocks_high)
    has_more = tx.header.expiry_hand[0] < tx.manifest.blocks_high and tx.header.expiring[0] > 0
    return Freed.total((expire_lingering(tx), names)), has_more


def expire_names(tx: Transaction, *, rows: int = _ROWS_AT_ONCE, most: int = _MOST_AT_ONCE) -> Freed:
    """Remove names whose time has come: ``most`` of those among the next ``rows`` rows."""
    header, blocks = tx.header, tx.blocks
    if not header.expiring[0]:
        return NOTHING
    high, hand, now = tx.manifest.blocks_high, header.expiry_hand[0], time.monotonic_ns()
    start = hand if hand < high else 0
    end = min(start + rows, high)
    due = [row for row, until in enumerate(blocks.until[start:end].tolist(), start) if 0 < until <= now]
    if len(due) > most:
        end = due[most]
        del due[most:]
    header.expiry_hand[0] = end
    return Freed.total(tx.expire_name(row) for row in due if blocks.state[row] == LIVE)


def expire_lingering(tx: Transaction) -> Freed:
    """Free blocks whose linger time has passed."""
    if not tx.header.lingering[0]:
        return NOTHING
    blocks, high, now = tx.blocks, tx.manifest.blocks_high, time.monotonic_ns()
    return Freed.total(
        tx.free_unless_kept(row)
        for row, linger in enumerate(blocks.linger[:high].tolist())
        if linger and blocks.state[row] == LIVE and blocks.expires[row] <= now
    )
