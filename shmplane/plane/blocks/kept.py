"""Blocks that are kept for a process: no name, no lease, no time limit; they go when it has taken them, or has ended.

So a result waits for the process that asked for it, also when its maker is gone, and nothing is left when either dies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import StaleHandle
from ...manifest import KEPT, LIVE, Transaction, rows_of_owner
from .claims import Lease, claims_of
from .putting import put
from .target import Target

if TYPE_CHECKING:
    from ...codecs import Encoded
    from ..process.attachment import Attachment

__all__ = ["drop_kept", "keep_for", "lease_at", "lease_kept", "put_kept", "take_kept"]


def lease_at(attachment: Attachment, row: int, generation: int) -> Lease:
    """Lease the very block that the caller knows to be there; ``StaleHandle`` when it is gone.

    Cost: where this process leases it already, a look; else one short hold of the lock.
    """
    known = claims_of(attachment).leases.get(row)
    lease: Lease | None = None if known is None else known()
    # A row is not used again while it is leased, so that of an object which lives says what it said.
    if lease is None or lease.facts.generation != generation:
        lease = attachment.add(_lease_at, attachment, row, generation)
    return lease


def put_kept(attachment: Attachment, encoded: Encoded, slot: int) -> Lease:
    """Publish a value without a name, kept for the process of ``slot``; the lease on it is the caller's.

    Where no process has the slot, it goes with the lease.
    """
    return put(attachment, encoded, Target(None, kept_for=slot))


def take_kept(attachment: Attachment, row: int, generation: int) -> Lease:
    """Lease a block that was kept for this process, which it is no longer; ``StaleHandle`` when it is gone."""
    return attachment.change(_take, attachment, row, generation)


def drop_kept(attachment: Attachment, row: int, generation: int) -> None:
    """This process does not want it any more. Again: does nothing."""
    attachment.change(_drop, row, generation)


def keep_for(attachment: Attachment, lease: Lease, slot: int) -> bool:
    """Keep a block that is there already for the process of ``slot``; False when it is kept for somebody, or that is gone."""
    return attachment.change(_keep, lease.facts.row, slot)


def lease_kept(attachment: Attachment) -> list[Lease]:
    """Leases on all that is kept for this process, which it still is."""
    return attachment.change(_lease_kept, attachment)


def _keep(tx: Transaction, row: int, slot: int) -> bool:
    if tx.blocks.owner[row] > KEPT or not tx.manifest.processes.state[slot]:
        return False
    tx.keep_for(row, slot)
    return True


def _lease_kept(tx: Transaction, attachment: Attachment) -> list[Lease]:
    if not tx.header.kept[0]:
        return []
    claims, rows = claims_of(attachment), rows_of_owner(tx.blocks.owner, tx.manifest.blocks_high, KEPT + tx.slot)
    return [claims.lease(tx, attachment, row) for row in rows if tx.blocks.state[row] == LIVE]


def _lease_at(tx: Transaction, attachment: Attachment, row: int, generation: int) -> Lease:
    if not tx.is_current(row, generation):
        raise tx.manifest.refuse(StaleHandle(f"block {row} of generation {generation} was given up and is gone"))
    return claims_of(attachment).lease(tx, attachment, row)


def _take(tx: Transaction, attachment: Attachment, row: int, generation: int) -> Lease:
    lease = _lease_at(tx, attachment, row, generation)
    tx.release_kept(row, tx.slot)
    return lease


def _drop(tx: Transaction, row: int, generation: int) -> None:
    if tx.is_current(row, generation):
        tx.release_kept(row, tx.slot)
