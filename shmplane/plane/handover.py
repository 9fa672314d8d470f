"""Fork: a child gets a slot, descriptors and leases of its own before it runs its first instruction.

Before the fork the parent takes its mutex, so no thread is inside a transaction and no lease comes or goes. It opens new
descriptions of the lock and token files, takes a free slot through them with a copy of its own leases, and keeps the mutex
until the fork is over. The child drops the parent's descriptors and adopts the prepared ones; the parent closes its
copies. If the fork failed, or the child died at once, the token is free and the row is reaped like any other.

A hook that fails leaves the fork alone: that child has no slot, what it inherited is covered while its parent lives, and
its calls raise ``ClosedError``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import ShmplaneError
from ..manifest import Transaction, held_rows
from ..system import Lost, Token, reopen
from .joining import take_slot

if TYPE_CHECKING:
    from .attachment import Attachment

__all__ = ["after_fork_in_child", "after_fork_in_parent", "before_fork"]

_TIMEOUT_S = 10.0


class Prepared:
    """What one fork of one attachment holds."""

    def __init__(self, token: Token, lock_fd: int) -> None:
        self.token, self.lock_fd = token, lock_fd
        self.ready = False


def before_fork(attachment: Attachment) -> None:
    """Take the mutex and prepare a slot for the child."""
    attachment.prepared = None
    if attachment.ended is not None or attachment.lock.owned():
        return
    if not attachment.lock.mutex.acquire(timeout=_TIMEOUT_S):
        return
    attachment.mutex_held_for_fork = True
    try:
        token = attachment.token.reopened()
        attachment.prepared = prepared = Prepared(token, -1)
        prepared.lock_fd = reopen(attachment.lock.fd)
        attachment.run_holding_mutex(_prepare_child, attachment, token)
        prepared.ready = True
    except (ShmplaneError, OSError, Lost):
        pass


def _prepare_child(attachment: Attachment, token: Token) -> None:
    slot = take_slot(attachment.tx, token)
    theirs = attachment.manifest.lease_row(slot)
    for row in held_rows(attachment.tx, attachment.slot):
        theirs[row] = 1


def after_fork_in_parent(attachment: Attachment) -> None:
    """Close the child's descriptors; its own copies keep its token."""
    prepared, attachment.prepared = attachment.prepared, None
    if prepared is not None:
        prepared.token.close()
        if prepared.lock_fd >= 0:
            os.close(prepared.lock_fd)
    _let_mutex_go(attachment)


def after_fork_in_child(attachment: Attachment) -> None:
    """Become the process of the prepared slot; without one, have no part in the plane."""
    prepared, attachment.prepared = attachment.prepared, None
    attachment.token.close()
    attachment.lock.close()
    attachment.memory.after_fork()
    for memory in list(attachment.open_memory):
        memory.make_private(attachment.memory.path(memory.place.segment_id))
    attachment.creations.clear()
    # Permits and places in a line are the parent's.
    attachment.semaphores.clear()
    attachment.watches.clear()
    attachment.waker.after_fork()
    attachment.gone.clear()
    attachment.suspect = attachment.draining = False
    if prepared is not None and prepared.ready:
        attachment.token = prepared.token
        attachment.lock.adopt(prepared.lock_fd)
        attachment.tx = Transaction(attachment.manifest)
        attachment.take_part(prepared.token.slot)
        # For display only, so it needs no lock.
        attachment.manifest.processes.pid[attachment.slot] = os.getpid()
    elif attachment.ended is None:
        attachment.ended = (
            f"plane {attachment.name!r}: this forked process has no part in it, since its parent could not prepare one "
            f"(it was inside a call to the plane, or slots or descriptors ran out). Open the plane again."
        )
    _let_mutex_go(attachment)


def _let_mutex_go(attachment: Attachment) -> None:
    if attachment.mutex_held_for_fork:
        attachment.mutex_held_for_fork = False
        attachment.lock.mutex.release()
