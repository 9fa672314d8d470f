"""Taking a slot, under the lock: the token first, then the row, so that a row in use always has a holder or a dead one."""

from __future__ import annotations

import os
import time

from ...errors import PlaneFull
from ...manifest import Transaction, held_rows
from ...system import Token, own

__all__ = ["take_slot"]


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
        processes.coordinates[slot] = 0
        processes.watching[slot] = 0
        processes.metered[slot] = 0
        processes.pid[slot] = os.getpid()
        processes.namespace[slot] = _pid_namespace()
        processes.joined[slot] = time.time_ns()
        processes.state[slot] = 1
        tx.header.membership[0] += 1
        return slot
    raise tx.manifest.refuse(
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
