"""Which processes are in a plane: taking a slot, giving it back, and the end of the plane for all. Under the lock.

The token is taken first, then the row, so that a row in use always has a holder or a dead one. The row's state is stored last
when it is taken, and last when it is given back.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..errors import PlaneFull
from ..system import Token, own
from .reading import held_rows

if TYPE_CHECKING:
    from .segments import Doomed
    from .store import Manifest
    from .transaction import Transaction

__all__ = ["copy_leases", "destroy", "destroy_unread", "release_slot", "say_pid", "take_slot"]


def take_slot(tx: Transaction, token: Token) -> int:
    """Take a free slot's token through ``token`` and publish the row; ``PlaneFull`` when there is none."""
    processes, manifest = tx.manifest.processes, tx.manifest
    for slot, state in enumerate(processes.state.tolist()):
        if state or not token.try_take(slot):
            continue
        manifest.reserve_lease_row(slot, manifest.blocks_reserved)
        leases = manifest.lease_row(slot)
        for row in held_rows(tx, slot):
            leases[row] = 0
        tx.counting.begin(slot)
        processes.coordinates[slot] = 0
        processes.watching[slot] = 0
        processes.metered[slot] = 0
        processes.pid[slot] = os.getpid()
        processes.namespace[slot] = _pid_namespace()
        processes.joined[slot] = time.time_ns()
        processes.state[slot] = 1
        tx.header.membership[0] += 1
        return slot
    raise manifest.refuse(
        PlaneFull(
            f"all {processes.rows} process slots of the plane are in use. End some, or make the plane with a larger "
            f"max_processes=.",
            max_processes=processes.rows,
        )
    )


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except own(OSError):
        return 0


def copy_leases(tx: Transaction, slot: int, to: int) -> None:
    """What the process of ``slot`` leases, that of ``to`` leases as well: its child, before it is forked."""
    theirs = tx.manifest.lease_row(to)
    for row in held_rows(tx, slot):
        theirs[row] = 1


def say_pid(manifest: Manifest, slot: int) -> None:
    """Our slot was taken by our parent. For display only, so it needs no lock."""
    manifest.processes.pid[slot] = os.getpid()


def release_slot(tx: Transaction, slot: int) -> None:
    """The row of a process is free again; the last store of its clean-up."""
    if tx.header.spiller[0] == slot + 1:
        tx.header.spiller[0] = 0
    tx.manifest.processes.state[slot] = 0
    tx.header.membership[0] += 1


def destroy(tx: Transaction) -> list[Doomed]:
    """Set the word that ends the plane; returns the segments that nobody reads any more."""
    tx.header.destroyed[0] = 1
    tx.coordination.wake_everybody()
    # Who holds a block compares its name's word and nothing else: make it differ.
    for name_row in range(tx.manifest.names_high):
        if tx.names.word[name_row]:
            tx.names.word[name_row] = 0
    return tx.unleased_segments()


def destroy_unread(manifest: Manifest) -> None:
    """The same when the tables cannot be believed: the files go as they are, and mappings keep their memory."""
    header, names = manifest.header, manifest.names
    header.destroyed[0] = 1
    for name_row in range(min(header.names_reserved[0], names.rows)):
        names.word[name_row] = 0
