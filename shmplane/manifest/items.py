"""Queues: values in an order, each waiting, taken by a living process, or gone.

An item is a block without a name, or, as long as nobody leases it, an entry of the queue's ring (see ``ring``). A block's
owner word says which queue it is in and who has taken it. Putting it in is one store, as are taking it, putting it back and
ending it, so a kill between any two leaves an item that waits or is gone. The facts are this word and the item's number;
chains and counts are derived. What a dead process had taken waits again, before what is younger.

What is leased out of a ring becomes a block first, which says at which head of the ring: while the head is still there, the
entry counts and not the block.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..system import STORES_IN_ORDER
from .coordination import NO_TICKET, Coordination
from .ring import EMPTY_RING, Entry, Ring, Taker, count_in
from .states import LIVE, QUEUED, RING, ROW_MASK, queue_of, queued_in, ring_of, taker_of

if TYPE_CHECKING:
    from .store import Manifest

__all__ = ["Items"]

_clock = time.monotonic_ns
_WORTH_A_RING = 32


class Items:
    """Everything here runs under the lock. Queues are rows of the table of semaphores; ``permits`` is how many items fit."""

    def __init__(self, manifest: Manifest, coordination: Coordination) -> None:
        self._manifest, self._coordination = manifest, coordination
        self._blocks, self._queues = manifest.blocks, manifest.semaphores

    # Queues

    def open(self, name: bytes, maxsize: int) -> int:
        """The row of a queue, made when it is missing; one that is empty and that no process uses takes the new size."""
        queues, row = self._queues, self._coordination.find(name)
        if row < 0:
            row = self._coordination.new_row(name)
            queues.first[row] = queues.last[row] = queues.items[row] = queues.earliest[row] = 0
            queues.numbered[row] = 1
            queues.freed[row] = _clock()
            queues.permits[row] = maxsize
            queues.state[row] = 1
        elif queues.permits[row] != maxsize and not self._coordination.is_used(row):
            queues.permits[row] = maxsize
        return row

    def maxsize(self, queue: int) -> int:
        """How many items fit; 0: any number."""
        return self._queues.permits[queue]

    def count(self, queue: int) -> int:
        """How many items wait."""
        queues = self._queues
        return queues.items[queue] + count_in(queues.head[queue], queues.tail[queue])

    def room(self, queue: int) -> int:
        """How many more fit."""
        maxsize = self._queues.permits[queue]
        return maxsize - self.count(queue) if maxsize else NO_TICKET

    def first(self, queue: int) -> int:
        """The row of the first item that is a block; -1: none waits."""
        return self._queues.first[queue] - 1

    def is_turn(self, row: int, ticket: int, ahead: int, free: int) -> bool:
        """Whether somebody in line, or with ``NO_TICKET``, can go on when there is enough for ``free`` of them.

        Args:
            ahead: how many wait before us inside this process.
        """
        return free > 0 and self._coordination.is_turn(row, ticket, ahead, free)

    # Items

    def add(self, queue: int, row: int) -> None:
        """A live block that we lease is the queue's youngest item from now on. By who has the put end of its ring, if any."""
        queues, blocks = self._queues, self._blocks
        number = queues.numbered[queue] + 1
        queues.numbered[queue] = number
        # Not as somebody left it who was taking an entry out of a ring: it would say that this is no item.
        blocks.seen[row] = 0
        blocks.rank[row], blocks.cost[row] = number, 0
        blocks.owner[row] = queued_in(queue)
        self._link(queue, row)
        self._coordination.offer(queue)

    def take(self, queue: int, row: int, claim: Taker) -> None:
        """An item that waits is ours until ``put_back`` or ``end``."""
        self._blocks.cost[row] += 1
        self._blocks.owner[row] = queued_in(queue, self._coordination.slot)
        # No call stands between these two, here and below: so the claim knows it, whatever interrupts.
        claim.is_taken = True
        self._unlink(queue, row)

    def remove(self, queue: int, row: int, claim: Taker) -> None:
        """An item that waits, and that we lease, is none any more."""
        self._blocks.owner[row] = 0
        claim.is_taken = True
        self._unlink(queue, row)

    def is_ours(self, row: int) -> bool:
        """Whether this process has taken it."""
        return taker_of(self._blocks.owner[row]) == self._coordination.slot

    def put_back(self, queue: int, row: int, claim: Taker | None = None) -> None:
        """It waits again, where it was; a block that we lease, or an item that was taken.

        Args:
            claim: of a call that has taken it and fails.
        """
        self._blocks.owner[row] = queued_in(queue)
        if claim is not None:
            claim.is_taken = False
        self._link(queue, row)
        self._coordination.offer(queue)

    def queue_of(self, row: int) -> int:
        """The row of the queue that it was taken from."""
        return queue_of(self._blocks.owner[row])

    def end(self, row: int) -> None:
        """What was taken is done. Whoever calls it frees the block, unless a lease of it does."""
        self._blocks.owner[row] = 0

    def taken_by(self, slot: int) -> list[int]:
        """Block rows of the items that a process has taken."""
        owners = self._blocks.owner[: self._manifest.blocks_high].tolist()
        return [row for row, owner in enumerate(owners) if owner >= QUEUED and taker_of(owner) == slot]

    def put_back_all(self, slot: int) -> None:
        """What a dead process had taken waits again."""
        for row in self.taken_by(slot):
            self.put_back(queue_of(self._blocks.owner[row]), row)

    # Rings

    def has_ring(self, queue: int) -> bool:
        return self._queues.ring[queue] != 0

    def wants_ring(self, queue: int) -> bool:
        """Whether so many items went through it that a ring is worth its memory, on a machine that can have one."""
        return STORES_IN_ORDER and self._queues.numbered[queue] >= _WORTH_A_RING and not self._queues.ring[queue]

    def ring_row(self, queue: int) -> int:
        """The block row of its ring, if it has one."""
        return (self._queues.ring[queue] & ROW_MASK) - 1

    def ring(self, queue: int, view: memoryview) -> Ring:
        """Its ring, as this process sees it."""
        return Ring(self._manifest, queue, view)

    def give_ring(self, queue: int, row: int) -> None:
        """A live block that we lease is the queue's ring from now on."""
        queues, blocks = self._queues, self._blocks
        blocks.owner[row] = ring_of(queue)
        queues.head[queue] = queues.tail[queue] = EMPTY_RING
        queues.ring[queue] = row + 1 | blocks.generation[row] << 24

    def drop_ring(self, queue: int) -> int:
        """A queue that no process uses, and that is empty, needs none: its block row, for whoever frees it; -1: it stays."""
        queues, row = self._queues, self.ring_row(queue)
        if row < 0 or self._coordination.is_used(queue):
            return -1
        self._blocks.owner[row] = 0
        queues.ring[queue] = queues.head[queue] = queues.tail[queue] = 0
        return row

    def take_entry(self, queue: int, row: int, ring: Ring, entry: Entry, claim: Taker) -> None:
        """A live block that we lease, a copy of what is first in the ring, is an item that we have taken. By its get end."""
        blocks = self._blocks
        blocks.seen[row] = entry.before
        blocks.rank[row], blocks.cost[row] = entry.number, 1
        blocks.owner[row] = queued_in(queue, self._coordination.slot)
        ring.take_first(entry, claim)
        blocks.seen[row] = 0

    def add_returned(self, queue: int, row: int, number: int, claim: Taker) -> None:
        """A live block that we lease, a copy of what the claim took out of the ring, waits where that was."""
        self._blocks.rank[row], self._blocks.cost[row], self._blocks.seen[row] = number, 0, 0
        self.put_back(queue, row, claim)

    # Derived

    def _link(self, queue: int, row: int) -> None:
        """Into the chain, behind all with lower numbers; most often at one of its ends."""
        blocks, queues = self._blocks, self._queues
        number, after = blocks.rank[row], 0
        before = queues.last[queue]
        if before and blocks.rank[before - 1] > number:
            before, after = 0, queues.first[queue]
            while after and blocks.rank[after - 1] < number:
                before, after = after, blocks.after[after - 1]
        blocks.before[row], blocks.after[row] = before, after
        if before:
            blocks.after[before - 1] = row + 1
        else:
            queues.first[queue] = row + 1
        if after:
            blocks.before[after - 1] = row + 1
        else:
            queues.last[queue] = row + 1
        queues.items[queue] += 1
        queues.earliest[queue] = blocks.rank[queues.first[queue] - 1]

    def _unlink(self, queue: int, row: int) -> None:
        blocks, queues = self._blocks, self._queues
        before, after = blocks.before[row], blocks.after[row]
        if before:
            blocks.after[before - 1] = after
        else:
            queues.first[queue] = after
        if after:
            blocks.before[after - 1] = before
        else:
            queues.last[queue] = before
        blocks.before[row] = blocks.after[row] = 0
        queues.items[queue] -= 1
        first = queues.first[queue]
        queues.earliest[queue] = blocks.rank[first - 1] if first else 0

    def rebuild(self, living: Iterable[int], alive: set[int]) -> list[int]:
        """Chains and counts anew, from the facts; what the dead had taken waits. Rows of blocks that are no items after all."""
        blocks, queues = self._blocks, self._queues
        waiting, rings, lost = self._sorted_out(living, alive)
        for row in lost:
            blocks.owner[row] = 0
            blocks.seen[row] = 0
        for queue in range(self._manifest.semaphores_high):
            if queues.items[queue] or queues.first[queue] or queues.last[queue] or queues.earliest[queue]:
                queues.first[queue] = queues.last[queue] = queues.items[queue] = queues.earliest[queue] = 0
            if queues.ring[queue] and queue not in rings:
                queues.ring[queue] = queues.head[queue] = queues.tail[queue] = 0
        for queue, items in waiting.items():
            for number, row in sorted(items):
                if blocks.owner[row] != queued_in(queue):
                    blocks.owner[row] = queued_in(queue)
                self._link(queue, row)
                # Most often no store: who puts into the ring counts on meanwhile, without the plane's lock.
                if number > queues.numbered[queue]:  # noqa: PLR1730 - that is a store
                    queues.numbered[queue] = number
            self._coordination.offer(queue)
        return lost

    def _sorted_out(
        self, living: Iterable[int], alive: set[int]
    ) -> tuple[dict[int, list[tuple[int, int]]], set[int], list[int]]:
        """Numbers and rows of the items that wait, by queue; the queues that have a ring; rows that are of no queue."""
        blocks = self._blocks
        waiting: dict[int, list[tuple[int, int]]] = {}
        rings: set[int] = set()
        lost: list[int] = []
        for row in living:
            owner = blocks.owner[row]
            queue = queue_of(owner)
            if owner < QUEUED or blocks.state[row] != LIVE:
                continue
            if not (self._is_ring if owner >= RING else self._is_item)(row, queue):
                lost.append(row)
            elif owner >= RING:
                rings.add(queue)
            else:
                blocks.seen[row] = 0
                if taker_of(owner) not in alive:
                    waiting.setdefault(queue, []).append((blocks.rank[row], row))
        return waiting, rings, lost

    def _is_queue(self, queue: int) -> bool:
        return 0 <= queue < self._manifest.semaphores_high and self._queues.numbered[queue] > 0

    def _is_item(self, row: int, queue: int) -> bool:
        """Not when somebody wrote over it, nor when it is still an entry of the ring that it was to be taken out of."""
        return self._is_queue(queue) and not 0 < self._blocks.seen[row] == self._queues.head[queue]

    def _is_ring(self, row: int, queue: int) -> bool:
        return self._is_queue(queue) and self._queues.ring[queue] == row + 1 | self._blocks.generation[row] << 24
