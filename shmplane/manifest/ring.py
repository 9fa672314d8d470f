"""Rings: the small items of a queue, one behind the other in a block of its own, under two locks of their own.

An entry is ``[number][body, frame: B; kind][body][frame]``, at a multiple of 8; a number of 0 says that the next one is at
the start. Two words of the queue's row say which entries there are: ``tail`` is stored by who puts one in, ``head`` by who
takes one out. Each is how many there have been and where the next one is, packed: so a kill leaves an entry that is there,
or is not.

Rule 1. ``tail``, and the number of the last item, are stored by who has the lock of the ring's put end; ``head`` by who has
that of its get end. Neither of them needs the plane's lock; who has that one takes the end's as well.
Rule 2. There is always room for two of the largest entries before the head: what was taken last can be put back by one
store, until the next one is taken.
Rule 3. What an entry claims is compared with the ring before it is read.

``earliest`` is the number of the first item that is a block: what is in the ring with a higher one has to wait for it.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import PlaneCorrupt

if TYPE_CHECKING:
    from .store import Manifest

__all__ = [
    "AWAITED", "DONE", "EMPTY_RING", "LARGEST_PAYLOAD_NBYTES", "NOTHING_THERE", "NOT_OURS", "RING_NBYTES", "Entry", "Ring",
    "count_in",
]  # fmt: skip

_now, _pause = time.perf_counter, time.sleep
RING_NBYTES = 512 << 10
_ENTRY = struct.Struct("<QIHH")
_HEAD_NBYTES = _ENTRY.size
_pack_into, _unpack_from = _ENTRY.pack_into, _ENTRY.unpack_from
_LARGEST_ENTRY_NBYTES = 8 << 10
#: body and frame of what a ring takes; anything larger is a block
LARGEST_PAYLOAD_NBYTES = _LARGEST_ENTRY_NBYTES - _HEAD_NBYTES
_ORDINAL_SHIFT, _HALF = 32, 0xFFFF_FFFF
_RESERVED_NBYTES = 2 * _LARGEST_ENTRY_NBYTES
#: head and tail of a ring in which nothing was yet
EMPTY_RING = 1 << _ORDINAL_SHIFT


#: what a look at a ring comes to: no entry or no room; done; done, and somebody waits for it; the plane's lock is needed
NOTHING_THERE, DONE, AWAITED, NOT_OURS = range(4)


def count_in(head: int, tail: int) -> int:
    """How many entries there are between two words."""
    return (tail >> _ORDINAL_SHIFT) - (head >> _ORDINAL_SHIFT) & _HALF


def _next_word(word: int, end: int) -> int:
    return ((word >> _ORDINAL_SHIFT) + 1 & _HALF) << _ORDINAL_SHIFT | end % RING_NBYTES


class Entry(NamedTuple):
    """An entry, copied out, and the words of the ring's head before it was taken and after."""

    number: int
    kind: int
    body: bytes
    frame: bytes
    before: int
    after: int


_entry = Entry._make


class Taker(Protocol):
    """Who takes an item.

    Attributes:
        is_taken: it was, and was not put back. Set by who stores the word that says so, with no call in between.
    """

    is_taken: bool


class EntryTaker(Taker, Protocol):
    """Who takes an entry, which is copied out before."""

    entry: Entry | None


class Ring:
    """The ring of a queue, as this process sees it: one that is not its queue's any more ``is_current`` no longer.

    Whoever puts and takes without the plane's lock is told ``NOT_OURS`` when somebody stands in line before him.
    """

    __slots__ = (
        "_awaited", "_destroyed", "_dirty", "_earliest", "_heads", "_items", "_numbered", "_rings", "_row", "_tails", "_view",
        "_word",
    )  # fmt: skip

    def __init__(self, manifest: Manifest, row: int, view: memoryview) -> None:
        queues, self._row, self._view = manifest.semaphores, row, view
        self._destroyed, self._dirty = manifest.header.destroyed, manifest.header.dirty
        self._rings, self._heads, self._tails, self._items = queues.ring, queues.head, queues.tail, queues.items
        self._awaited, self._earliest, self._numbered = queues.awaited, queues.earliest, queues.numbered
        self._word = queues.ring[row]

    @property
    def is_current(self) -> bool:
        """Whether it is the queue's, in a plane that has not ended."""
        return self._rings[self._row] == self._word and not self._destroyed[0]

    def put(self, kind: int, body: bytes, frame: bytes, maxsize: int, putters: int) -> int:
        """Put an entry in. By who has the put end.

        Args:
            maxsize: how many items fit; 0: any number.
            putters: the row of the line for room.
        """
        row, tails = self._row, self._tails
        if self._rings[row] != self._word or self._destroyed[0] or (maxsize and self._awaited[putters]):
            return NOT_OURS
        head, tail = self._heads[row], tails[row]
        if maxsize and count_in(head, tail) + self._items[row] >= maxsize:
            return NOTHING_THERE
        end, body_nbytes, frame_nbytes = tail & _HALF, len(body), len(frame)
        size = _HEAD_NBYTES + body_nbytes + frame_nbytes + 7 & ~7
        wraps = end + size > RING_NBYTES
        used = (end - (head & _HALF)) % RING_NBYTES + size + (RING_NBYTES - end if wraps else 0)
        if used > RING_NBYTES - _RESERVED_NBYTES:
            return NOTHING_THERE
        view, start = self._view, 0 if wraps else end
        number = self._numbered[row] + 1
        self._numbered[row] = number
        _pack_into(view, start, number, body_nbytes, frame_nbytes, kind)
        middle = start + _HEAD_NBYTES + body_nbytes
        view[start + _HEAD_NBYTES : middle] = body
        if frame_nbytes:
            view[middle : middle + frame_nbytes] = frame
        if wraps:
            view[end : end + 8] = bytes(8)
        tails[row] = _next_word(tail, start + size)
        return AWAITED if self._awaited[row] else DONE

    def take(self, claim: EntryTaker, putters: int) -> int:
        """Take the next entry out. By who has the get end.

        Args:
            putters: the row of the line for room; -1: there is always room.
        """
        row, heads = self._row, self._heads
        if self._rings[row] != self._word or self._destroyed[0] or self._awaited[row]:
            return NOT_OURS
        # While a transaction is under way, or was left so, the first one may be half taken (``Items.take_entry``).
        if heads[row] == self._tails[row] or self._dirty[0]:
            return NOTHING_THERE
        entry = self.first()
        if entry is None:
            return NOTHING_THERE
        claim.entry = entry
        # No call stands between these two: so the claim knows it, whatever interrupts.
        heads[row] = entry.after
        claim.is_taken = True
        return AWAITED if putters >= 0 and self._awaited[putters] else DONE

    def first(self) -> Entry | None:
        """The next entry, which is not taken by this; None: there is none, or a block comes first. By who has the get end."""
        row, view = self._row, self._view
        head = self._heads[row]
        if head == self._tails[row]:
            return None
        start = head & _HALF
        if start > RING_NBYTES - _HEAD_NBYTES:
            start = 0
        number, body_nbytes, frame_nbytes, kind = _unpack_from(view, start)
        if not number:
            number, body_nbytes, frame_nbytes, kind = _unpack_from(view, start := 0)
        if 0 < self._earliest[row] < number:
            return None
        start += _HEAD_NBYTES
        middle = start + body_nbytes
        end = middle + frame_nbytes
        if end > RING_NBYTES or start & 7:
            raise _written_over(row)
        frame = bytes(view[middle:end]) if frame_nbytes else b""
        return _entry((number, kind, bytes(view[start:middle]), frame, head, _next_word(head, end + 7 & ~7)))

    def take_first(self, entry: Entry, claim: Taker) -> None:
        """What is ``first`` is in the ring no longer: one store. By who has the plane's lock and the get end."""
        self._heads[self._row] = entry.after
        claim.is_taken = True

    def restore(self, entry: Entry, claim: Taker) -> bool:
        """It is the first one again, unless another one was taken since. By who has the get end."""
        if self._heads[self._row] != entry.after or not self.is_current:
            return False
        self._heads[self._row] = entry.before
        claim.is_taken = False
        return True

    def changes_soon(self, seconds: float) -> bool:
        """Whether an entry comes or goes within so few µs; others run meanwhile."""
        row, heads, tails = self._row, self._heads, self._tails
        head, tail = heads[row], tails[row]
        deadline = _now() + seconds
        while tails[row] == tail and heads[row] == head:
            if _now() > deadline:
                return False
            _pause(0)
        return True


def _written_over(row: int) -> PlaneCorrupt:
    return PlaneCorrupt(
        "the ring of a queue claims an entry that lies outside of it: somebody wrote over its memory. Remove the plane "
        "(shmplane rm --plane --force).",
        row=row,
    )
