"""What this process puts into queues and takes from them: its callers' wishes, and the items that it has taken.

Rule 1. An item that this process has taken has an ``Item``, held weakly; when that is garbage, or the audit finds none, it
waits again.
Rule 2. A value is copied in before its place in the line is taken, and becomes an item under the lock that found room.
Rule 3. Small items may lie in a ring (see ``ring_claims``); what is leased out of it becomes a block first.
Rule 4. What a call that fails has taken waits again, where it was. A value that it has put stays. Whether it has taken it says
the claim alone: what others may do between its exception and its undo changes all the rest.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from ...errors import ClosedError
from ...manifest import NO_TICKET, NeedSlab
from ...system import NOT_HAD, own
from ..blocks.block import Block
from ..blocks.claims import Lease, claims_of
from ..blocks.publish import Prepared, publish_in
from ..process.registry import Registry
from .ring_claims import EntryClaim, entry_as_block
from .waiting import Closing, WaitInLine, settle

if TYPE_CHECKING:
    from types import TracebackType

    from ...manifest import Entry, Ring, Transaction
    from ..process.attachment import Attachment
    from .lines import LocalLine
    from .ring_ends import RingEnds

__all__ = ["Item", "PutClaim", "TakeClaim"]

#: when somebody was in the ring
_SLICE_HELD_UP_S = 0.001


class Line(Protocol):
    """A queue, as its claims see it."""

    _attachment: Attachment
    _closing: Closing

    def _row(self, tx: Transaction) -> int:
        """The row of the queue."""

    def _ends(self, tx: Transaction) -> RingEnds | None:
        """Its ring, if it has one."""

    def _line(self, tx: Transaction, *, of_puts: bool) -> LocalLine:
        """Who waits for items, or for room, in this process."""

    def _offer_room(self, tx: Transaction) -> None:
        """An item was taken."""


class _Taken(Registry):
    """The items that this process has taken, by block row."""

    def __init__(self, attachment: Attachment) -> None:
        self.known: dict[int, _KnownItem] = {}
        self.queue = attachment.garbage.append

    @property
    def is_idle(self) -> bool:
        return not any(known() is not None for known in list(self.known.values()))

    @property
    def ends_silently(self) -> bool:
        return bool(self.known)

    def audit(self, tx: Transaction) -> None:
        for row in tx.items.taken_by(tx.slot):
            known = self.known.get(row)
            if known is None or known() is None:
                _put_back(tx, row)

    def begin_again_in_child(self) -> None:
        self.known.clear()

    def end(self) -> None:
        self.known.clear()


class _KnownItem(weakref.ref["Item"]):
    """An item that was taken, which says that it is garbage by queueing itself; before it is told, it means none."""

    row: int = -1
    generation: int = -1
    taken: Callable[[], _Taken | None] = staticmethod(lambda: None)

    def free(self, tx: Transaction) -> None:
        """Nobody has it any more: it waits again. Again: does nothing."""
        taken = self.taken()
        if taken is not None and taken.known.get(self.row) is self:
            if tx.is_current(self.row, self.generation) and tx.items.is_ours(self.row):
                _put_back(tx, self.row)
            del taken.known[self.row]


def _put_back(tx: Transaction, row: int) -> None:
    tx.items.put_back(tx.items.queue_of(row), row)


class Item:
    """A value taken from a queue, for as long as its work lasts: ``with queue.lease() as item``.

    At a clean end of the block it is done and gone; after an exception, or when its process is killed, it comes back to the
    front of the queue. An item that is garbage without either comes back as well.

    Attributes:
        attempts: how often it was taken, with this time.
    """

    __slots__ = ("__weakref__", "_attachment", "_block", "_due", "_generation", "_open", "_row", "_title", "attempts")

    def __init__(self, attachment: Attachment, title: str, block: Block, *, row: int, attempts: int) -> None:
        self._attachment, self._title, self._block = attachment, title, block
        self._row, self._generation = row, block._facts.generation
        self.attempts: int = attempts
        self._due: bool | None = None
        #: emptied by whoever ends it, in C code
        self._open = [self._row]

    def value(self) -> Any:
        """The value as the kind that was put; arrays and buffers zero-copy, and valid also after the item's end.

        ``ClosedError`` after its ``with`` block.
        """
        if self._block.closed:
            raise ClosedError(f"this item of {self._title} has ended with its block: take its value inside of that")
        return self._block.value()

    def done(self) -> None:
        """Its work is done: it is gone from the queue. ``RuntimeError`` when it has ended already."""
        self._end(done=True)

    def put_back(self) -> None:
        """It comes back to the front of the queue. ``RuntimeError`` when it has ended already."""
        self._end(done=False)

    def _end(self, *, done: bool) -> None:
        attachment = self._attachment
        try:
            self._open.pop()
        except own(IndexError):
            raise RuntimeError(f"this item of {self._title} is done or was put back already") from None
        self._due = done
        attachment.owed.append(self)
        settle(attachment)
        if attachment.ended is not None:
            raise ClosedError(attachment.ended, plane=attachment.name)

    def undo(self, tx: Transaction) -> None:
        """Carry out its end. Again: does nothing."""
        due = self._due
        if due is None:
            return
        row = self._row
        if tx.is_current(row, self._generation):
            if tx.items.is_ours(row):
                if due:
                    tx.items.end(row)
                else:
                    _put_back(tx, row)
            # Its lease may have ended before, when the lock was not to be had at once: then nobody else frees it.
            tx.free_unless_kept(row)
        self._due = None
        self._attachment.registry(_Taken).known.pop(row, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open:
            self._end(done=kind is None)
        self._block.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, value, traceback)

    def __repr__(self) -> str:
        return f"<item of {self._title}, attempt {self.attempts}>"


class _Claim(WaitInLine):
    """One caller's wish. What it is to get, and when there is enough of it, subclasses say.

    Attributes:
        needed: B of a cell that no slab has; one has to be made, and the claim made anew.
    """

    of_puts = False
    amount = 0.0

    def __init__(self, queue: Line, *, waits: bool) -> None:
        self.queue, self.waits = queue, waits
        self.attachment, self.closing = queue._attachment, queue._closing
        self.ticket = 0
        self.failed = self.is_done = False
        self.needed = 0
        self._known_line: LocalLine | None = None
        self._is_held_up = False

    @property
    def has_left(self) -> bool:
        return self.ticket > 0

    @property
    def line(self) -> Sequence[object]:
        return () if self._known_line is None else self._known_line.waiters

    def slice(self) -> float:
        return _SLICE_HELD_UP_S if self._is_held_up else super().slice()

    def look(self, tx: Transaction) -> int:
        """Go on if it is our turn, else stand in line; returns the wake word to watch."""
        line = self._known_line = self.queue._line(tx, of_puts=self.of_puts)
        self._is_held_up = False
        if self.ticket:
            self.attachment.reclaim_if_due(tx)
            if self not in line.waiters:
                self.ticket = 0  # forked meanwhile
        ahead = line.waiters.index(self) if self.ticket else len(line.waiters)
        if tx.items.is_turn(line.row, self.ticket or NO_TICKET, ahead, self.free(tx)) and self._try(tx):
            self.is_done = True
            if self.ticket:
                self._leave_line(tx, line)
            tx.coordination.has_line(line.row)  # so that others find out that nobody stands there any more
            return 0
        if self.waits and not self.ticket:
            self.ticket = tx.coordination.new_ticket()
            line.waiters.append(self)
            line.say_wishes(tx)
            if self.free(tx) > 0:
                return self.look(tx)  # it came meanwhile, through the ring: who brought it has not seen us
        elif self.ticket and not ahead:
            tx.coordination.show_ticket(line.row, self.ticket)  # it may have been passed over
        self.attachment.timer.tick()
        return tx.coordination.sequence()

    @abstractmethod
    def free(self, tx: Transaction) -> int:
        """For how many there is enough."""

    def _try(self, tx: Transaction) -> bool:
        """Do what is wished for, under the lock of that end of the ring if there is one; False: it cannot be done yet."""
        ends = self.queue._ends(tx)
        if ends is None:
            return self.go_on(tx)
        end = ends.putting if self.of_puts else ends.getting
        done = self.attachment.lock.run_beneath(end, self.go_on, tx)
        self._is_held_up = done is NOT_HAD
        return done is True

    @abstractmethod
    def go_on(self, tx: Transaction) -> bool:
        """Do what is wished for; False: there is nothing, or no room, any more."""

    def _leave_line(self, tx: Transaction, line: LocalLine) -> None:
        line.waiters.remove(self)
        self.ticket = 0
        line.say_wishes(tx)
        # It may have been woken for what it does not take, or there is enough for the next one too.
        if self.free(tx) > 0:
            tx.coordination.offer(line.row)

    def undo(self, tx: Transaction) -> None:
        """Leave the line."""
        line = self._known_line
        if self.ticket and line is not None and self in line.waiters:
            self._leave_line(tx, line)


class PutClaim(_Claim):
    """A value that is to become an item.

    Attributes:
        wants_ring: so many items went through the queue that a ring is worth its memory.
    """

    of_puts = True

    def __init__(self, queue: Line, prepared: Prepared, *, waits: bool) -> None:
        super().__init__(queue, waits=waits)
        self.prepared = prepared
        self.wants_ring = False

    def free(self, tx: Transaction) -> int:
        return tx.items.room(self.queue._row(tx))

    def go_on(self, tx: Transaction) -> bool:
        queue = self.queue._row(tx)
        if tx.items.room(queue) <= 0:
            return False
        try:
            row = publish_in(tx, self.attachment, -1, self.prepared)
        except own(NeedSlab) as need:
            self.needed = need.nbytes
            return True
        tx.items.add(queue, row)
        tx.release(row)
        self.wants_ring = self.prepared.creation is None and tx.items.wants_ring(queue)
        return True


class TakeClaim(_Claim):
    """An item that is to be taken: for good, or for as long as its work lasts.

    Attributes:
        block: what was got, and ``entry`` when it was in the ring.
        item: the same, when it is to be put back if its work fails. Kept from before it is taken: it must not be garbage, and
            put back for that, before ``undo`` has put it back.
        is_taken: ``block`` or ``item`` is in the queue no longer (see ``Taker``).
    """

    def __init__(self, queue: Line, *, waits: bool, keeps: bool, title: str, trust_pickle: bool) -> None:
        super().__init__(queue, waits=waits)
        self._keeps, self._title, self._trust_pickle = keeps, title, trust_pickle
        self.block: Block | None = None
        self.entry: EntryClaim | None = None
        self.item: Item | None = None
        self.is_taken = False
        self._lease: Lease | None = None
        self._known: _KnownItem | None = None

    def free(self, tx: Transaction) -> int:
        return tx.items.count(self.queue._row(tx))

    def go_on(self, tx: Transaction) -> bool:
        queue, ends = self.queue._row(tx), self.queue._ends(tx)
        first = None if ends is None else ends.ring.first()
        if ends is not None and first is not None:
            if self._keeps:
                return self._keep_entry(tx, ends.ring, first, queue)
            claim = self.entry = EntryClaim(self.attachment, ends, queue)
            claim.entry = first
            ends.ring.take_first(first, claim)
        else:
            row = tx.items.first(queue)
            if row < 0:
                return False
            self._take_block(tx, queue, row)
        self.queue._offer_room(tx)
        return True

    def _take_block(self, tx: Transaction, queue: int, row: int) -> None:
        lease = self._lease = claims_of(self.attachment).lease(tx, self.attachment, row)
        block = Block(lease, trust_pickle=self._trust_pickle)
        if self._keeps:
            self.item = self._know(block, attempts=tx.blocks.cost[row] + 1)
            tx.items.take(queue, row, self)
        else:
            tx.items.remove(queue, row, self)
        self.block = block

    def _keep_entry(self, tx: Transaction, ring: Ring, entry: Entry, queue: int) -> bool:
        """What is in the ring becomes a block, which can be put back whoever is killed."""
        try:
            row = publish_in(tx, self.attachment, -1, entry_as_block(entry))
        except own(NeedSlab) as need:
            self.needed = need.nbytes
            return True
        lease = self._lease = claims_of(self.attachment).new_lease(self.attachment, tx.facts(row))
        self.item = self._know(Block(lease, trust_pickle=self._trust_pickle), attempts=1)
        tx.items.take_entry(queue, row, ring, entry, self)
        self.queue._offer_room(tx)
        return True

    def _know(self, block: Block, *, attempts: int) -> Item:
        """The object for an item that is about to be taken."""
        row, taken = block._facts.row, self.attachment.registry(_Taken)
        item = Item(self.attachment, self._title, block, row=row, attempts=attempts)
        known = _KnownItem(item, taken.queue)
        known.row, known.generation, known.taken = row, block._facts.generation, weakref.ref(taken)
        taken.known[row] = self._known = known
        return item

    def undo(self, tx: Transaction) -> None:
        """Leave the line; what a call has taken that fails waits again, where it was."""
        super().undo(tx)
        lease, taken = self._lease, self.attachment.registry(_Taken)
        if self.failed and self.entry is not None:
            self.entry.undo(tx)
        if not self.failed or lease is None:
            return
        row = lease.facts.row
        if self.is_taken and tx.is_current(row, lease.facts.generation):
            tx.items.put_back(self.queue._row(tx), row, self)
        # Another call may have taken the same item since.
        if self._known is not None and taken.known.get(row) is self._known:
            del taken.known[row]
