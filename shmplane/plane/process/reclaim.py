"""What returns the things of the dead, and of the living whose work was interrupted. Runs under the host-wide lock.

* ``recover``: a transaction was left unfinished. Judge everything from the facts.
* ``reap_dead``: a token is free. Give back what its holder's row says.
* ``audit``: an exception left one of our own transactions, so a row may stand without its Python object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ...manifest import (
    DOOMED,
    Transaction,
    held_rows,
    reap,
    rebuild,
    release_slot,
    rows_of_owner,
)

if TYPE_CHECKING:
    from ...system import Token
    from .registry import Registry

__all__ = ["NOTHING", "Counts", "audit", "count", "dead_slots", "reap_dead", "recover"]


class Counts(NamedTuple):
    """What there is, to be subtracted from what there was."""

    processes: int
    leases: int
    permits: int
    blocks: int
    nbytes: int

    def plus(self, before: Counts, after: Counts) -> Counts:
        """With what went between two counts; never less, since others may have put meanwhile."""
        return Counts(*(had + max(0, b - a) for had, b, a in zip(self, before, after, strict=True)))


NOTHING = Counts(0, 0, 0, 0, 0)


def count(tx: Transaction) -> Counts:
    """Totals over all processes; proportional to the rows ever used."""
    slots = tx.space.slots_in_use()
    leases = sum(len(held_rows(tx, slot)) for slot in slots)
    return Counts(len(slots), leases, tx.coordination.count_held(), tx.header.live_blocks[0], tx.header.used_nbytes[0])


class Living(Protocol):
    """An attachment, as far as the dead, and its own interrupted work, concern it."""

    token: Token
    slot: int
    reclaimed: Counts
    registries: dict[type[Registry], Registry]


def dead_slots(tx: Transaction, attachment: Living) -> list[int]:
    """Slots in use whose token nobody holds."""
    return [slot for slot in tx.space.slots_in_use() if not attachment.token.is_held(slot)]


def reap_dead(tx: Transaction, attachment: Living) -> int:
    """Return what dead processes held; how many they were."""
    dead = dead_slots(tx, attachment)
    if dead:
        before = count(tx)
        for slot in dead:
            reap(tx, slot)
        attachment.reclaimed = attachment.reclaimed.plus(before, count(tx))
    _remove_ownerless(tx)
    return len(dead)


def _remove_ownerless(tx: Transaction) -> None:
    """Doomed segments whose remover has no row: killed when it had recovered and not yet joined, or gone too early."""
    segments, slots = tx.segments, set(tx.space.slots_in_use())
    for row, state in enumerate(segments.state[: tx.manifest.segments_high].tolist()):
        if state == DOOMED and segments.owner[row] - 1 not in slots:
            tx.space.doom(row)


def recover(tx: Transaction, attachment: Living) -> None:
    """Bring a plane whose last transaction was left unfinished to a state that every fact agrees with."""
    dead = dead_slots(tx, attachment)
    before = count(tx)
    rebuild(tx, set(tx.space.slots_in_use()) - set(dead))
    for slot in dead:
        release_slot(tx, slot)
    attachment.reclaimed = attachment.reclaimed.plus(before, count(tx))
    if attachment.slot >= 0:
        audit(tx, attachment)


def audit(tx: Transaction, attachment: Living) -> None:
    """Give back every row of ours that no Python object stands for."""
    for row in rows_of_owner(tx.segments.owner, tx.manifest.segments_high, attachment.slot):
        if tx.segments.state[row] == DOOMED:
            tx.space.doom(row)
    for registry in list(attachment.registries.values()):
        registry.audit(tx)
        registry.queue_garbage()
