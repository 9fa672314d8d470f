"""Host-wide queues of values: first in, first out, over all processes and threads.

An item waits, or a living process has taken it, or it is gone. It is a block without a name that a queue keeps (see
``manifest.items``), which is copied in once and shown where it lies; or, when it is small and the queue is busy, an entry of
the queue's ring (see ``ring_claims``), which is copied in and out. Whoever waits, for an item or for room, stands in a line
and is woken.
"""

from __future__ import annotations

import queue
from collections.abc import Generator
from operator import index
from typing import TYPE_CHECKING, Any

from ...codecs import Encoded, TableStream, encode
from ...errors import PlaneMismatch, UnsupportedValue
from ...names import check_block_name
from ..blocks import unwrapped
from ..blocks.publish import Prepared, abandon, contents_of, prepare, retry_after_reclaim
from ..blocks.slabs import make_slab
from ..process.patience import is_in_event_loop, patience
from ..process.reclaim import load_for_recovery, reclaim_dead
from .in_threads import call_in_thread
from .lines import Lines, LocalLine
from .queue_claims import Item, PutClaim, TakeClaim
from .ring_claims import MISSING, get_entry, make_ring, put_entry
from .ring_ends import RingEnds, ring_ends
from .waiting import Closing, cannot_travel, check_timeout, open_row, settle, wait_for, wait_for_async

if TYPE_CHECKING:
    from types import TracebackType

    from ...manifest import Transaction
    from ..process.attachment import Attachment

__all__ = ["Item", "Queue", "open_queue"]

_LARGE_NBYTES = 64 << 10
_LARGEST_SIZE = 2**63 - 1  #: that a word has room for


def open_queue(attachment: Attachment, name: str, maxsize: int, *, closing: Closing, trust_pickle: bool) -> Queue:
    """The queue ``name``; ``PlaneMismatch`` when it is in use with another size."""
    if not attachment.is_ready:
        attachment.is_ready = load_for_recovery()  # the modules of what is opened are among them
    if isinstance(maxsize, bool):
        raise TypeError("maxsize is an int, not bool")
    size = max(0, index(maxsize))
    if size > _LARGEST_SIZE:
        raise ValueError(f"maxsize is at most 2**63 - 1, not {size:,}; 0 stands for any number of items")
    opened = Queue(attachment, name, size, closing=closing, trust_pickle=trust_pickle)
    if is_in_event_loop():
        # What cannot be had at once, the first who looks at it finds out.
        attachment.try_change(patience(attachment), opened._check)
    else:
        attachment.change(opened._check)
    return opened


class Queue:
    """A first-in, first-out queue of values of any kind, for all processes and threads of the host.

    Each item is delivered once. Items of one thread keep their order. An item that a producer was killed over never appears;
    one that a consumer holds with ``lease`` comes back to the front when it fails or is killed. Items stay in the plane when
    no process uses it.

    Cost: a copy of the value in, and a short hold of the plane's lock; nothing is copied on the way out. Through a busy queue
    what has less than 8 KiB goes without that lock, and is copied out as well.
    """

    def __init__(
        self, attachment: Attachment, name: str, maxsize: int, *, closing: Closing, trust_pickle: bool
    ) -> None:
        self._attachment, self._closing, self._trust_pickle = attachment, closing, trust_pickle
        self.name: str = name
        self.maxsize: int = maxsize  #: how many items fit; 0: any number
        encoded = check_block_name(name)
        self._keys = b"q:" + encoded, b"Q:" + encoded
        self._title = f"queue {name!r} of plane {attachment.name!r}"
        self._lines = attachment.registry(Lines)
        self._takers, self._putters = LocalLine(), LocalLine()
        self._is_checked = False

    # Putting

    def put(self, value: Any, timeout: float | None = None) -> None:
        """Copy ``value`` in, behind all others, waiting in line for room.

        Args:
            value: of any kind that a plane stores.
            timeout: seconds; None: for ever; 0: not at all.

        Raises:
            queue.Full: there was no room in time.
            PlaneFull: the plane has no memory for it.
            UnsupportedValue: no codec stores such a value.
            ClosedError: the plane was destroyed, or the ``Plane`` object of this queue closed, meanwhile.
        """
        self._check_wait(timeout)
        encoded = value if type(value) is bytes else self._encoded(value)
        if put_entry(self, encoded, waits=timeout != 0):
            return
        encoded = self._encoded(value) if encoded is value else encoded
        prepared = retry_after_reclaim(self._attachment, self._prepare, encoded)
        try:
            claim = self._put_once(prepared, timeout)
            while claim.needed:
                claim = self._put_once(prepared, timeout)
        except BaseException:
            abandon(self._attachment, prepared)
            raise
        if claim.wants_ring:
            make_ring(self)

    def put_nowait(self, value: Any) -> None:
        """``put`` that does not wait: ``queue.Full`` when there is no room now, or others wait for it.

        As well when the plane's own lock, or that of the queue's ring, was not to be had in a moment.
        """
        self.put(value, 0)

    async def put_async(self, value: Any, timeout: float | None = None) -> None:
        """``put`` for asyncio; a cancelled one puts nothing. What is large is copied in a thread."""
        self._check_wait(timeout)
        encoded = self._encoded(value)
        if put_entry(self, encoded, waits=False):
            return
        if encoded.nbytes > _LARGE_NBYTES:
            prepared = await call_in_thread(
                retry_after_reclaim, self._attachment, self._prepare, encoded, to_its_end=True
            )
        else:
            prepared = self._prepare(encoded)
        try:
            while True:
                claim = PutClaim(self, prepared, waits=timeout != 0)
                done = await wait_for_async(claim, timeout)
                if not done:
                    raise self._in_vain(timeout, queue.Full)
                if not claim.needed:
                    break
                await call_in_thread(retry_after_reclaim, self._attachment, make_slab, self._attachment, claim.needed)
        except BaseException:
            abandon(self._attachment, prepared)
            raise
        if claim.wants_ring:
            await call_in_thread(make_ring, self, to_its_end=True)

    def _encoded(self, value: Any) -> Encoded:
        encoded = encode(unwrapped(value), None)
        if isinstance(encoded, TableStream):
            raise UnsupportedValue(f"{self._title} takes whole values: read the stream into a table, and put that")
        return encoded

    def _prepare(self, encoded: Encoded) -> Prepared:
        return prepare(self._attachment, contents_of(encoded), encoded)

    def _put_once(self, prepared: Prepared, timeout: float | None) -> PutClaim:
        """One try; when it ``needed`` a slab, that is there now."""
        claim = PutClaim(self, prepared, waits=timeout != 0)
        if not wait_for(claim, timeout):
            raise self._in_vain(timeout, queue.Full)
        if claim.needed:
            retry_after_reclaim(self._attachment, make_slab, self._attachment, claim.needed)
        return claim

    # Taking

    def get(self, timeout: float | None = None) -> Any:
        """The oldest item's value, which is no item any more; waits in line for it. One that cannot be shown stays the first.

        Args:
            timeout: seconds; None: for ever; 0: not at all.

        Raises:
            queue.Empty: none came in time.
            ClosedError: the plane was destroyed, or the ``Plane`` object of this queue closed, meanwhile.
        """
        self._check_wait(timeout)
        value = get_entry(self, waits=timeout != 0)
        if value is not MISSING:
            return value
        claim = self._take_claim(timeout, keeps=False)
        if not wait_for(claim, timeout):
            raise self._in_vain(timeout, queue.Empty)
        try:
            return self._value_of(claim)
        except BaseException:
            # Without a call before the append, which is C code: a second interrupt finds it done.
            claim.failed = True
            self._attachment.owed.append(claim)
            settle(self._attachment)
            raise

    def get_nowait(self) -> Any:
        """``get`` that does not wait: ``queue.Empty`` when there is no item now, or others wait for it.

        As well when the plane's own lock, or that of the queue's ring, was not to be had in a moment.
        """
        return self.get(0)

    async def get_async(self, timeout: float | None = None) -> Any:
        """``get`` for asyncio; a cancelled one takes nothing."""
        self._check_wait(timeout)
        value = get_entry(self, waits=False)
        if value is not MISSING:
            return value
        claim = self._take_claim(timeout, keeps=False)
        if not await wait_for_async(claim, timeout):
            raise self._in_vain(timeout, queue.Empty)
        try:
            return self._value_of(claim)
        except BaseException:
            # Without a call before the append, which is C code: a second interrupt finds it done.
            claim.failed = True
            self._attachment.owed.append(claim)
            settle(self._attachment)
            raise

    def lease(self, timeout: float | None = None) -> Item:
        """Take the oldest item for as long as its work lasts: ``with queue.lease() as item: work(item.value())``.

        At a clean end of the block it is done; after an exception, or when this process is killed, it comes back to the
        front of the queue, and ``item.attempts`` counts on.

        Raises:
            queue.Empty: none came within ``timeout`` seconds.
        """
        self._check_wait(timeout)
        while True:
            claim = self._take_claim(timeout, keeps=True)
            if not wait_for(claim, timeout):
                raise self._in_vain(timeout, queue.Empty)
            if not claim.needed:
                return self._item_of(claim)
            retry_after_reclaim(self._attachment, make_slab, self._attachment, claim.needed)

    def lease_async(self, timeout: float | None = None) -> AsyncLease:
        """``lease`` for asyncio: ``async with queue.lease_async() as item``, or ``item = await queue.lease_async()``."""
        self._check_wait(timeout)
        return AsyncLease(self, timeout)

    async def _lease_async(self, timeout: float | None) -> Item:
        while True:
            claim = self._take_claim(timeout, keeps=True)
            if not await wait_for_async(claim, timeout):
                raise self._in_vain(timeout, queue.Empty)
            if not claim.needed:
                return self._item_of(claim)
            await call_in_thread(retry_after_reclaim, self._attachment, make_slab, self._attachment, claim.needed)

    def _take_claim(self, timeout: float | None, *, keeps: bool) -> TakeClaim:
        return TakeClaim(self, waits=timeout != 0, keeps=keeps, title=self._title, trust_pickle=self._trust_pickle)

    @staticmethod
    def _value_of(claim: TakeClaim) -> Any:
        block = claim.block
        if claim.entry is not None:
            return claim.entry.value()
        assert block is not None  # noqa: S101 - the wait was done
        return block.value()

    @staticmethod
    def _item_of(claim: TakeClaim) -> Item:
        item = claim.item
        assert item is not None  # noqa: S101 - the wait was done
        return item

    def _check_wait(self, timeout: float | None) -> None:
        if timeout is not None:
            check_timeout(timeout)
        if self._closing.closed:
            raise self._closing.error()

    def _in_vain(self, timeout: float | None, kind: type[Exception]) -> Exception:
        if self._closing.closed or timeout is None:
            return self._closing.error()
        missing = "no room" if kind is queue.Full else "no item"
        return kind(f"{self._title} had {missing} within {timeout:g} s, or its lock was not to be had in that time")

    # Looking

    def qsize(self) -> int:
        """How many items wait now; those that are leased do not count."""
        return self._attachment.change(self._count)

    def empty(self) -> bool:
        """Whether no item waits now."""
        return not self.qsize()

    def full(self) -> bool:
        """Whether there is no room now."""
        return 0 < self.maxsize <= self.qsize()

    def _count(self, tx: Transaction) -> int:
        return tx.items.count(self._row(tx))

    # This process's part

    def _check(self, tx: Transaction) -> None:
        """``PlaneMismatch`` when others use it with another size."""
        tx.coordination.back_rows()
        row = self._open_row(tx, self._keys[0])
        if tx.items.maxsize(row) != self.maxsize and reclaim_dead(tx, self._attachment):
            row = self._open_row(tx, self._keys[0])  # whoever used it with another size may have been killed
        found = tx.items.maxsize(row)
        if found != self.maxsize:
            raise self._attachment.manifest.refuse(
                PlaneMismatch(
                    f"{self._title} has a maxsize of {found} and is in use; asked for {self.maxsize}. Use the same, or "
                    f"empty it first.",
                    asked=self.maxsize,
                    found=found,
                )
            )
        self._takers = self._lines.part(self._keys[0])
        self._lines.place(tx, self._keys[0], self._takers, row)
        if self.maxsize:
            self._putters = self._lines.part(self._keys[1])
            self._lines.place(tx, self._keys[1], self._putters, self._open_row(tx, self._keys[1]))
        self._is_checked = True
        self._ends(tx)

    def _open_row(self, tx: Transaction, key: bytes) -> int:
        return open_row(tx, self._attachment, tx.items.open, key, self.maxsize)

    def _row(self, tx: Transaction) -> int:
        return self._line(tx, of_puts=False).row

    def _line(self, tx: Transaction, *, of_puts: bool) -> LocalLine:
        """Who waits for items, or for room. Without a maxsize nobody waits for room."""
        if not self._is_checked:
            self._check(tx)
        is_bounded = of_puts and self.maxsize > 0
        line, key = (self._putters, self._keys[1]) if is_bounded else (self._takers, self._keys[0])
        if not tx.coordination.is_current(line.row, line.generation):
            tx.coordination.back_rows()
            self._lines.place(tx, key, line, self._open_row(tx, key))  # in a forked child
        return line

    def _ends(self, tx: Transaction) -> RingEnds | None:
        """Its ring, if it has one by now."""
        line, ends = self._takers, self._takers.ends
        if ends is None or not ends.ring.is_current:
            ends = line.ends = ring_ends(tx, self._attachment, line.row)
        return ends

    def _wake_next(self, *, of_puts: bool) -> None:
        """Somebody waits for what was done without the plane's lock. Who cannot be told looks soon by himself."""
        self._attachment.try_change(patience(self._attachment), self._offer, of_puts)

    def _offer(self, tx: Transaction, of_puts: bool) -> None:
        tx.coordination.offer(self._line(tx, of_puts=of_puts).row)

    def _offer_room(self, tx: Transaction) -> None:
        """An item was taken: there may be room for whoever waits for it."""
        if self.maxsize:
            tx.coordination.offer(self._line(tx, of_puts=True).row)

    def __reduce__(self) -> tuple[Any, ...]:
        raise cannot_travel(self._title, "plane.queue(name, maxsize)")

    def __repr__(self) -> str:
        return f"<{self._title}>"


class AsyncLease:
    """What ``lease_async`` returns: to be awaited, or entered."""

    __slots__ = ("_item", "_queue", "_timeout")

    def __init__(self, opened: Queue, timeout: float | None) -> None:
        self._queue, self._timeout = opened, timeout
        self._item: Item | None = None

    def __await__(self) -> Generator[Any, None, Item]:
        return self._queue._lease_async(self._timeout).__await__()

    async def __aenter__(self) -> Item:
        self._item = await self
        return self._item

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        item, self._item = self._item, None
        if item is not None:
            item.__exit__(kind, value, traceback)
