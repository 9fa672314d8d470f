"""What this process puts into queues and takes from them: its callers' wishes, and the items that it has taken.

Rule 1. An item that this process has taken has an ``Item``, held weakly; when that is garbage, or the audit finds none, it
waits again.
Rule 2. A value is copied in before its place in the line is taken, and becomes an item under the lock that found room.
Rule 3. What a call that fails has taken waits again, where it was. A value that it has put stays.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol, Self

from ...errors import ClosedError
from ...manifest import NO_TICKET, NeedSlab
from ...system import own
from ..blocks.block import Block
from ..blocks.claims import claims_of
from ..blocks.publish import Prepared, publish_in
from ..process.registry import Registry
from .waiting import SLICE_S, settle

if TYPE_CHECKING:
    from types import TracebackType

    from ...manifest import Transaction
    from ..blocks.claims import Lease
    from ..process.attachment import Attachment
    from .lines import LocalLine
    from .waiting import Closing

__all__ = ["Item", "PutClaim", "TakeClaim"]

#: the longest sleep of those who are not the first of their process
_SLICE_BEHIND_S = 0.5


class Line(Protocol):
    """A queue, as its claims see it."""

    _attachment: Attachment
    _closing: Closing

    def _row(self, tx: Transaction) -> int:
        """The row of the queue."""

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
    """An item that was taken, which says that it is garbage by queueing itself."""

    __slots__ = ("generation", "row", "taken")

    row: int
    generation: int
    taken: weakref.ref[_Taken]

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
        """The value as the kind that was put; arrays and buffers zero-copy, and valid also after the item's end."""
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
        if tx.is_current(row, self._generation) and tx.items.is_ours(row):
            if due:
                tx.items.end(row)
            else:
                _put_back(tx, row)
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


class _Claim:
    """One caller's wish: a ``Wait``. What it is to get, and when there is enough of it, subclasses say."""

    of_puts = False

    def __init__(self, queue: Line, *, waits: bool) -> None:
        self.queue, self.waits = queue, waits
        self.attachment: Attachment = queue._attachment
        self.ticket = 0
        self.failed = self.is_done = False
        self._known_line: LocalLine | None = None

    @property
    def closing(self) -> Closing:
        return self.queue._closing

    @property
    def has_left(self) -> bool:
        return self.ticket > 0

    def wish_ns(self, _tx: Transaction, _row: int) -> int:
        return 0

    def slice(self) -> float:
        return SLICE_S if self.is_next() else _SLICE_BEHIND_S

    def is_next(self) -> bool:
        """Whether it is first in this process's line. Who leaves the line wakes the next one."""
        line = self._known_line
        try:
            return line is None or line.waiters[0] is self
        except own(IndexError):
            return True

    def look(self, tx: Transaction) -> int:
        """Go on if it is our turn, else stand in line; returns the wake word to watch."""
        line = self._known_line = self.queue._line(tx, of_puts=self.of_puts)
        if self.ticket:
            self.attachment.reclaim_if_due(tx)
            if self not in line.waiters:
                self.ticket = 0  # forked meanwhile
        ahead = line.waiters.index(self) if self.ticket else len(line.waiters)
        if tx.items.is_turn(line.row, self.ticket or NO_TICKET, ahead, self.free(tx)):
            self.go_on(tx)
            self.is_done = True
            if self.ticket:
                self._leave_line(tx, line)
            return 0
        if self.waits and not self.ticket:
            self.ticket = tx.coordination.new_ticket()
            line.waiters.append(self)
            line.say_wishes(tx)
        elif self.ticket and not ahead:
            tx.coordination.show_ticket(line.row, self.ticket)  # it may have been passed over
        self.attachment.timer.tick()
        return tx.coordination.sequence()

    def free(self, tx: Transaction) -> int:
        """For how many there is enough."""
        raise NotImplementedError

    def go_on(self, tx: Transaction) -> None:
        """Do what is wished for."""
        raise NotImplementedError

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
        needed: B of a cell that no slab has; one has to be made, and the claim made anew.
    """

    of_puts = True

    def __init__(self, queue: Line, prepared: Prepared, *, waits: bool) -> None:
        super().__init__(queue, waits=waits)
        self.prepared = prepared
        self.needed = 0

    def free(self, tx: Transaction) -> int:
        return tx.items.room(self.queue._row(tx))

    def go_on(self, tx: Transaction) -> None:
        try:
            row = publish_in(tx, self.attachment, -1, self.prepared)
        except own(NeedSlab) as need:
            self.needed = need.nbytes
            return
        tx.items.add(self.queue._row(tx), row)
        tx.release(row)


class TakeClaim(_Claim):
    """An item that is to be taken: for good, or for as long as its work lasts.

    Attributes:
        block: what was got.
        item: the same, when it is to be put back if its work fails.
    """

    def __init__(self, queue: Line, *, waits: bool, keeps: bool, title: str, trust_pickle: bool) -> None:
        super().__init__(queue, waits=waits)
        self._keeps, self._title, self._trust_pickle = keeps, title, trust_pickle
        self.block: Block | None = None
        self.item: Item | None = None
        self._lease: Lease | None = None

    @property
    def has_left(self) -> bool:
        return self.ticket > 0 or (self.failed and self._lease is not None)

    def free(self, tx: Transaction) -> int:
        return tx.items.count(self.queue._row(tx))

    def go_on(self, tx: Transaction) -> None:
        queue = self.queue._row(tx)
        row = tx.items.first(queue)
        lease = self._lease = claims_of(self.attachment).lease(tx, self.attachment, row)
        block = Block(lease, trust_pickle=self._trust_pickle)
        if self._keeps:
            item = Item(self.attachment, self._title, block, row=row, attempts=tx.blocks.cost[row] + 1)
            taken = self.attachment.registry(_Taken)
            known = _KnownItem(item, taken.queue)
            known.row, known.generation, known.taken = row, lease.facts.generation, weakref.ref(taken)
            taken.known[row] = known
            tx.items.take(queue, row)
            self.item = item
        else:
            tx.items.remove(queue, row)
        self.block = block
        self.queue._offer_room(tx)

    def undo(self, tx: Transaction) -> None:
        """Leave the line; what a call has taken that fails waits again, where it was."""
        super().undo(tx)
        lease, self._lease = self._lease, None
        if not self.failed or lease is None or not tx.is_current(lease.facts.row, lease.facts.generation):
            return
        row = lease.facts.row
        if not tx.items.is_waiting(row):
            tx.items.put_back(self.queue._row(tx), row)
        self.attachment.registry(_Taken).known.pop(row, None)
