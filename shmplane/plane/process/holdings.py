"""What this process holds in a plane: its leases and creations, and how they are given back when they are garbage.

The base of ``Attachment``; apart from it because it is the half that knows blocks.

Rule 1. A word is set before its object exists; what an exception leaves without one is found by the audit.
Rule 2. What is garbage queues itself, by C code alone; the next call of the plane drains the queue, or within 50 ms the
drain timer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from os import getpid
from typing import TYPE_CHECKING, Any, Protocol, cast

from ...errors import ClosedError, ShmplaneError
from ...system import NOT_HAD, Busy, HostLock, Lost, own
from .drain import DrainTimer
from .leases import Creation, Lease, Tracked

if TYPE_CHECKING:
    from ...manifest import BlockFacts, Manifest, Place, Transaction
    from .attachment import Attachment

__all__ = ["Holdings"]

#: how long the drain timer waits for the lock before it looks again whether it is to end
_PATIENCE_S = 0.04


class Owed(Protocol):
    """What a call has left to be undone."""

    def undo(self, tx: Transaction) -> None:
        """Give it back. Again: does nothing."""


class Holdings:
    """Leases and creations by row. What takes a transaction runs under the lock."""

    lock: HostLock
    manifest: Manifest
    ended: str | None
    exiting: bool

    if TYPE_CHECKING:

        def change(self, operation: Callable[..., Any], *args: Any) -> Any: ...
        def look(self, operation: Callable[..., Any], *args: Any) -> Any: ...
        def try_look(self, seconds: float, operation: Callable[..., Any], *args: Any) -> Any: ...
        def _inside(self, writes: bool, operation: Callable[..., Any], args: Any, options: Any) -> Any: ...
        def follow_up(self) -> None: ...
        def leave_if_idle(self) -> None: ...
        @property
        def is_coordinating(self) -> bool: ...

    def __init__(self) -> None:
        self.leases: dict[int, Tracked] = {}
        self.creations: dict[int, Tracked] = {}
        self.queue: deque[Tracked] = deque()
        #: what calls that failed, or could not have the lock, have still to give back
        self.owed: deque[Owed] = deque()
        self.timer: DrainTimer = DrainTimer(self)

    def lease(self, tx: Transaction, row: int, facts: BlockFacts | None = None) -> Lease:
        """The lease of a live block, taken or shared. ``facts``: what is known of it already."""
        known = self.leases.get(row)
        lease: Lease | None = known() if known is not None else None
        if lease is None:
            if facts is None:
                facts = tx.facts(row)
            # The word is set before the object exists; an exception in between leaves it to the audit.
            tx.lease(row)
            lease = self.new_lease(facts)
        elif lease.facts.version != tx.blocks.version[row] or lease.facts.name_row != tx.blocks.name[row]:
            lease.facts = tx.facts(row)  # renamed since it was leased
        return lease

    def new_lease(self, facts: BlockFacts) -> Lease:
        """The object for a word that is set already; under the lock."""
        lease = Lease(cast("Attachment", self), facts)
        self.leases[facts.row] = Tracked(lease, self.queue.append, self.timer.ring, key=facts.row)
        return lease

    def new_creation(self, row: int, place: Place) -> Creation:
        """The object for a row that is CREATING, or a slab that is MAKING; under the lock."""
        creation = Creation(row, place)
        self.creations[creation.key] = Tracked(
            creation, self.queue.append, self.timer.ring, key=creation.key, segment_row=place.segment_row
        )
        return creation

    def check_own(self, creation: Creation) -> None:
        """``ClosedError`` in a child that was forked in the middle: it is the parent's to publish."""
        known = self.creations.get(creation.key)
        if known is None or known() is not creation:
            raise self.manifest.refuse(
                ClosedError("the block belongs to the process that this one was forked from; put it here again")
            )

    def give_up(self, creation: Creation) -> None:
        """Take back what was to become a block."""
        self.change(self._give_up, creation.key, creation.place.segment_row)

    def _give_up(self, tx: Transaction, key: int, segment_row: int) -> None:
        if self.creations.pop(key, None) is None:
            return
        if key >= 0:
            tx.abandon(key)
        else:
            tx.space.give_up(segment_row)

    def revive(self, known: Tracked, facts: BlockFacts, *, name_row: int, word: int) -> Lease | None:
        """The lease of a block that we held a moment ago: while its word still stands, no lock of the host is needed.

        None when the word was given back, the name moved on, or we are inside a transaction.
        """
        if self.lock.owned() or getpid() != self.lock.pid:
            return None
        with self.lock.mutex:
            if self.leases.get(facts.row) is not known or self.manifest.names.word[name_row] != word:
                return None
            lease: Lease | None = known()
            return lease if lease is not None else self.new_lease(facts)

    def find_garbage(self) -> None:
        """Queue what is garbage and not in the queue: the drain that had taken it out came to no end."""
        self.queue.extend(known for known in [*self.leases.values(), *self.creations.values()] if known() is None)

    def drain(self, tx: Transaction) -> None:
        """Give back the rows of objects that are garbage."""
        queue = self.queue
        while queue:
            known = queue[0]
            if known.is_lease:
                # A newer lease of the same row may have been taken since: then the row stays.
                if self.leases.get(known.key) is known:
                    tx.release(known.key)
                    del self.leases[known.key]
            elif self.creations.get(known.key) is known:
                self._give_up(tx, known.key, known.segment_row)
            queue.popleft()

    def undo_owed(self, tx: Transaction) -> None:
        """Give back what calls left behind. After an interrupt, what was under way is done again."""
        owed = self.owed
        while owed:
            owed[0].undo(tx)
            owed.popleft()

    def settle(self, seconds: float) -> None:
        """Undo what is owed, now if the lock is to be had within ``seconds``, else soon."""
        try:
            if self.lock.owned() or self.try_look(seconds, _nothing) is NOT_HAD:
                self.timer.start()
        except own(ClosedError):
            if self.ended is None:
                raise
            self.owed.clear()  # what ended has given everything back

    def try_drain(self) -> None:
        """Drain now if nobody is in the way, else within 50 ms. Never waits."""
        try:
            if self.ended is None and not self.lock.owned():
                self.lock.run(None, self._inside, False, _nothing, (), {})
                self.follow_up()
                self.leave_if_idle()
                return
        except own(Busy, Lost, ShmplaneError, OSError, MemoryError):
            pass
        self.timer.start()

    def tidy(self) -> bool:
        """What the drain timer does: give back what is due, and leave when nothing needs the plane; whether it could."""
        if (self.queue or self.owed) and self.try_look(_PATIENCE_S, _nothing) is NOT_HAD:
            return False
        self.leave_if_idle()
        return True


def _nothing(_: Transaction) -> None:
    """The empty transaction: what it does is drain the queue."""
