"""Groups of blocks: opened by name, each with one policy and one limit for all processes. Under the lock.

A group stays as long as its plane, so its row means the same group for whoever has opened it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from ..errors import PlaneFull, PlaneMismatch
from ..system import own
from .limits import MAX_GROUPS
from .policies import POLICIES

if TYPE_CHECKING:
    from .transaction import Transaction

__all__ = ["open_group"]


def policy_number(policy: str) -> int:
    """The word of a policy; ``ValueError`` that says which there are."""
    if policy not in POLICIES:
        raise ValueError(f"there is no policy {policy!r}; there are {', '.join(POLICIES)}")
    return list(POLICIES).index(policy)


def open_group(tx: Transaction, name: bytes, policy: str, limit_nbytes: int) -> int:
    """Row + 1 of the group of a name, made when it is missing: what its blocks say in their word ``group``.

    Args:
        limit_nbytes: of the cells and segments of its blocks; 0: as much as the plane has.

    Raises:
        PlaneMismatch: it has blocks, and another policy or limit.
        PlaneFull: there are as many groups as there can be.
    """
    groups, number = tx.manifest.groups, policy_number(policy)
    row = _find(tx, name)
    if row < 0:
        row = _new_row(tx, name)
    found = groups.policy[row], groups.limit_nbytes[row]
    if found != (number, limit_nbytes):
        if groups.blocks[row]:
            raise tx.manifest.refuse(
                PlaneMismatch(
                    f"the group {name.decode()!r} has the policy {list(POLICIES)[found[0] % len(POLICIES)]!r} and a limit "
                    f"of {found[1]:,} B, not {policy!r} and {limit_nbytes:,} B. Open it with those, or empty it first.",
                    name=name.decode(),
                    expected=limit_nbytes,
                    found=found[1],
                )
            )
        groups.limit_nbytes[row], groups.policy[row] = limit_nbytes, number
    _reserve_ghosts(tx)
    return row + 1


def _find(tx: Transaction, name: bytes) -> int:
    groups, hashed = tx.manifest.groups, crc32(name)
    for row, state in enumerate(groups.state.tolist()):
        if state and groups.hash[row] == hashed and groups.text.read(row, groups.length[row]) == name:
            return row
    return -1


def _new_row(tx: Transaction, name: bytes) -> int:
    groups = tx.manifest.groups
    row = next((row for row, state in enumerate(groups.state.tolist()) if not state), -1)
    if row < 0:
        raise tx.manifest.refuse(
            PlaneFull(
                f"the plane has {MAX_GROUPS:,} groups of blocks, which is all it can have; use fewer names, or another plane",
                limit=MAX_GROUPS,
            )
        )
    groups.hash[row] = crc32(name)
    groups.length[row] = len(name)
    groups.text.write(row, name)
    groups.state[row] = 1
    return row


def _reserve_ghosts(tx: Transaction) -> None:
    """Back the table of ghosts with memory, once; without it policies remember nothing that went."""
    header, ghosts = tx.header, tx.manifest.ghosts
    if header.ghosts_reserved[0] != ghosts.rows:
        try:
            tx.manifest.reserve(ghosts, ghosts.rows)
        except own(PlaneFull):
            return
        header.ghosts_reserved[0] = ghosts.rows
