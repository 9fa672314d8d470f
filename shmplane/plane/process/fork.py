"""Fork: a child gets a slot, descriptors and leases of its own before it runs its first instruction.

Before the fork the parent takes its mutex, so no thread is inside a transaction and no lease comes or goes. It opens new
descriptions of the lock and token files, takes a free slot through them with a copy of its own leases, and keeps the mutex
until the fork is over. The child drops the parent's descriptors and adopts the prepared ones; the parent closes its
copies. If the fork failed, or the child died at once, the token is free and the row is reclaimed like any other.

A hook that fails leaves the fork alone: that child has no slot, what it inherited is covered while its parent lives, and
its calls raise ``ClosedError``.

Each hook is called twice (see ``system.forking``), since Ctrl-C may end the first call between any two bytecodes. So every
step says that it will be done before it is, and is done once: the second call finds the rest.
"""

from __future__ import annotations

import os
import weakref
from threading import get_ident
from typing import TYPE_CHECKING

from ...errors import PlaneFull, ShmplaneError
from ...manifest import Transaction, copy_leases, say_pid, take_slot
from ...system import Lost, Token, join_forks, own, reopen
from .fast import drop_core
from .reclaim import reclaim_dead

if TYPE_CHECKING:
    from .attachment import Attachment

__all__ = ["Forks"]

_TIMEOUT_S = 10.0


class Prepared:
    """What one fork of one attachment holds."""

    def __init__(self) -> None:
        self.token: Token | None = None
        self.lock_fd: int = -1
        self.ready = False
        self.failed = False

    def close(self) -> None:
        """Close the parent's copies. Idempotent."""
        if self.token is not None:
            self.token.close()
            self.token = None
        if self.lock_fd >= 0:
            lock_fd, self.lock_fd = self.lock_fd, -1
            os.close(lock_fd)


class Forks:
    """What an attachment does at every fork; it keeps this, which refers to it weakly."""

    def __init__(self, attachment: Attachment) -> None:
        self._known = weakref.ref(attachment)
        self._prepared: Prepared | None = None
        #: threads inside a fork, which hold the mutex or wait for it
        self._forking: set[int] = set()
        self._adopted_in: int = os.getpid()
        join_forks(self)

    def before_fork(self) -> None:
        """Take the mutex and prepare a slot for the child."""
        attachment = self._known()
        if attachment is None:
            return
        if not attachment.lock.owned():
            attachment.timer.pause()
        if get_ident() not in self._forking:
            if attachment.ended is not None or attachment.lock.owned():
                return
            self._forking.add(get_ident())
        if not attachment.lock.owned() and not attachment.lock.mutex.acquire(timeout=_TIMEOUT_S):
            self._forking.discard(get_ident())
            return
        prepared = self._prepared
        if prepared is not None and (prepared.ready or prepared.failed):
            return
        if prepared is not None:
            prepared.close()  # interrupted: its slot, if it had one, is that of a dead process now
        self._prepared = prepared = Prepared()
        try:
            prepared.token = attachment.token.reopened()
            prepared.lock_fd = reopen(attachment.lock.fd)
            ready, attachment.is_ready = attachment.is_ready, True
            # NotReady would leave the child without a part; what the dead need is imported here, if ever.
            try:
                attachment.change_holding_mutex(_prepare_child, attachment, prepared.token)
            finally:
                attachment.is_ready = ready
            prepared.ready = True
        except own(ShmplaneError, OSError, Lost):
            prepared.failed = True

    def after_fork_in_parent(self) -> None:
        """Close the child's descriptors; its own copies keep its token."""
        attachment = self._known()
        if attachment is None:
            return
        self._release(attachment)
        attachment.timer.resume()

    def _release(self, attachment: Attachment) -> None:
        if get_ident() not in self._forking:
            return  # what is prepared, if anything, is another thread's
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None
        # An interrupted call leaves the mark for a mutex that is free already.
        if attachment.lock.owned():
            attachment.lock.leave()
        self._forking.discard(get_ident())

    def after_fork_in_child(self) -> None:
        """Become the process of the prepared slot; without one, have no part in the plane."""
        attachment = self._known()
        if attachment is None:
            return
        prepared = self._prepared if get_ident() in self._forking else None
        if self._adopted_in != os.getpid():
            _leave_parent_behind(attachment, prepared)
            if prepared is not None and prepared.ready and prepared.token is not None:
                _adopt(attachment, prepared.token, prepared.lock_fd)
            else:
                _take_no_part(attachment)
            self._adopted_in = os.getpid()
        self._prepared = None
        attachment.lock.free_mutex_in_child()
        self._forking.clear()
        attachment.timer.start()


def _prepare_child(tx: Transaction, attachment: Attachment, token: Token) -> None:
    try:
        slot = take_slot(tx, token)
    except own(PlaneFull):
        if not reclaim_dead(tx, attachment):
            raise
        slot = take_slot(tx, token)
    copy_leases(tx, attachment.slot, slot)


def _take_no_part(attachment: Attachment) -> None:
    """Nothing that this process still does reaches the plane: it may have been forked inside one of its calls."""
    attachment.manifest.make_private()
    attachment.memory.bar()
    if attachment.ended is None:
        attachment.ended = (
            f"plane {attachment.name!r}: this forked process has no part in it, since its parent could not prepare "
            f"one (it was inside a call to the plane, or slots or descriptors ran out). Open the plane again."
        )


def _leave_parent_behind(attachment: Attachment, prepared: Prepared | None) -> None:
    """Drop what is the parent's: descriptors, work in progress, permits and places in a line."""
    if prepared is None or attachment.token is not prepared.token:
        attachment.token.close()
    if prepared is None or attachment.lock.fd != prepared.lock_fd:
        attachment.lock.close()
    attachment.memory.after_fork()
    for memory in attachment.open_memory.living():
        memory.make_private(attachment.memory.path(memory.place.segment_id, memory.place.is_spilled))
        # Once: a child of this child has its copy from here.
        attachment.open_memory.discard(memory)
    for registry in list(attachment.registries.values()):
        registry.begin_again_in_child()
    attachment.kept.forget_all()
    attachment.owed.clear()
    attachment.gone.clear()
    attachment.suspect = False
    drop_core(attachment)
    attachment.timer.after_fork()


def _adopt(attachment: Attachment, token: Token, lock_fd: int) -> None:
    attachment.token = token
    if attachment.lock.pid != os.getpid():
        attachment.lock.adopt(lock_fd)
    attachment.take_slot(token.slot)
    say_pid(attachment.manifest, attachment.slot)
