"""Reclaims what dead processes held, and what interrupted work of this one left. Runs under the host-wide lock.

* ``recover``: a transaction was left unfinished. Judge everything from the facts.
* ``reclaim_dead``: a token is free. Give back what its holder's row says.
* ``audit``: an exception left one of our own transactions, so a row may stand without its Python object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...errors import ShmplaneError
from ...manifest import (
    DOOMED,
    Freed,
    Transaction,
    expire_some,
    load_rare_modules,
    may_need_rare_modules,
    rebuild,
    reclaim_slot,
    rows_of_owner,
)

if TYPE_CHECKING:
    from ...system import Token
    from .registry import Registry

__all__ = ["NotReady", "audit", "check_ready", "load_for_recovery", "reclaim_dead", "reclaim_due", "recover"]

#: that are looked at for what goes at a time
_ROWS_A_SECOND = 65_536


class NotReady(ShmplaneError):
    """Modules have to be imported first, without the lock; raised before anything was done for the dead."""


def check_ready(tx: Transaction) -> None:
    """``NotReady`` when what is about to be done may need modules that are not loaded with the others.

    They are not imported under the lock: an import that a signal handler ends there leaves its module locked, and the next
    one waiting for it with the lock in hand.
    """
    if may_need_rare_modules(tx):
        raise tx.manifest.refuse(NotReady())


def load_for_recovery() -> bool:
    """Load them."""
    load_rare_modules()
    return True


class Living(Protocol):
    """An attachment, as far as the dead, and its own interrupted work, concern it."""

    token: Token
    slot: int
    reclaimed: Freed
    is_ready: bool
    registries: dict[type[Registry], Registry]


def dead_slots(tx: Transaction, attachment: Living) -> list[int]:
    """Slots in use whose token nobody holds."""
    return [slot for slot in tx.manifest.slots_in_use() if not attachment.token.is_held(slot)]


def reclaim_dead(tx: Transaction, attachment: Living) -> int:
    """Give back what dead processes held; how many they were."""
    dead = dead_slots(tx, attachment)
    if dead and not attachment.is_ready:
        check_ready(tx)
    for slot in dead:
        attachment.reclaimed = Freed.total([attachment.reclaimed, reclaim_slot(tx, slot)])
    _remove_ownerless(tx)
    return len(dead)


def reclaim_due(tx: Transaction, attachment: Living) -> None:
    """What somebody does once a second: give back what the dead held, and what goes at a time."""
    reclaim_dead(tx, attachment)
    expire_some(tx, _ROWS_A_SECOND)


def _remove_ownerless(tx: Transaction) -> None:
    """Doomed segments whose remover has no row: killed when it had recovered and not yet joined, or gone too early."""
    segments, slots = tx.segments, set(tx.manifest.slots_in_use())
    for row, state in enumerate(segments.state[: tx.manifest.segments_high].tolist()):
        if state == DOOMED and segments.owner[row] - 1 not in slots:
            tx.space.remove_segment(row)


def recover(tx: Transaction, attachment: Living) -> None:
    """Bring a plane whose last transaction was left unfinished to a state that every fact agrees with."""
    dead = dead_slots(tx, attachment)
    freed = rebuild(tx, set(tx.manifest.slots_in_use()) - set(dead))
    attachment.reclaimed = Freed.total([attachment.reclaimed, freed])
    if attachment.slot >= 0:
        audit(tx, attachment)


def audit(tx: Transaction, attachment: Living) -> None:
    """Give back every row of ours that no Python object stands for."""
    for row in rows_of_owner(tx.segments.owner, tx.manifest.segments_high, attachment.slot):
        if tx.segments.state[row] == DOOMED:
            tx.space.remove_segment(row)
    for registry in list(attachment.registries.values()):
        registry.audit(tx)
        registry.queue_garbage()
