"""Permits of host-wide semaphores, tickets of those who wait for them, and who is to be woken.

A permit is counted in a word of its holder's row, so a killed holder's permits come back when its row is cleared; no shared
counter can be left wrong. Waiters are served in the order of their tickets: a process shows the ticket of its oldest waiter,
the others wait behind it inside the process.

A waiter that does not take its turn (its process is stopped) is passed over, one more for each second that a permit has
been free. Its ticket is marked, so that it holds up nobody again; when its process goes on, it shows its ticket as it was
and is first in line. Waking is a hint: waiters look again every 100 ms by themselves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from zlib import crc32

from ..errors import PlaneFull

if TYPE_CHECKING:
    from ..tables import Column
    from .store import Manifest

__all__ = ["NO_TICKET", "Coordination", "watch_bit"]

#: for somebody who does not wait: behind all tickets, before those that were passed over
NO_TICKET = 1 << 62
#: added to the ticket of a process that did not take its turn
_PASSED_OVER = 1 << 63
_PASSED_OVER_AFTER_NS = 1_000_000_000
_clock = time.monotonic_ns


class Coordination:
    """Everything here runs under the lock. ``woken`` collects the slots to be woken after it is released."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._header, self._processes = manifest.header, manifest.processes
        self._semaphores, self._wakes = manifest.semaphores, manifest.wakes
        self.slot = -1
        self.woken: set[int] = set()
        self._membership = -1
        self._rows_in_use: list[tuple[int, Column, Column]] = []

    # Semaphores

    def open(self, name: bytes, permits: int) -> int:
        """The row of a semaphore, made when it is missing; one that nobody uses takes the new count."""
        row = self.find(name)
        if row < 0:
            row = self.new_row(name)
        elif self._semaphores.permits[row] == permits or self.is_used(row):
            return row
        self._semaphores.permits[row] = permits
        self._semaphores.freed[row] = _clock()
        self._semaphores.state[row] = 1
        return row

    def find(self, name: bytes) -> int:
        """The row of a semaphore's name, or -1."""
        semaphores, hashed = self._semaphores, crc32(name)
        for row, found in enumerate(semaphores.hash[: self._manifest.semaphores_high].tolist()):
            if found == hashed and semaphores.state[row] and semaphores.text.read(row, semaphores.length[row]) == name:
                return row
        return -1

    def is_current(self, row: int, generation: int) -> bool:
        """Whether the row still stands for the semaphore that it stood for at ``generation``; -1: it never had one."""
        # No row of those without memory behind them is read: on a full file system that is SIGBUS.
        return row >= 0 and self._semaphores.generation[row] == generation

    def new_row(self, name: bytes) -> int:
        """A row for a name that has none; not in use until its state says so."""
        semaphores = self._semaphores
        row = self._free_row()
        # First, so that whoever knows the row by its generation finds out.
        semaphores.generation[row] += 1
        semaphores.state[row] = 0
        semaphores.era[row] = semaphores.numbered[row] = semaphores.ring[row] = 0
        semaphores.head[row] = semaphores.tail[row] = semaphores.awaited[row] = 0
        semaphores.hash[row] = crc32(name)
        semaphores.length[row] = len(name)
        semaphores.text.write(row, name)
        return row

    def _free_row(self) -> int:
        header, semaphores = self._header, self._semaphores
        high = self._manifest.semaphores_high
        if high == header.semaphores_reserved[0] and high < semaphores.rows:
            reserved = min(semaphores.rows, max(16, 2 * high))
            self._manifest.reserve(semaphores, reserved)
            header.semaphores_reserved[0] = reserved
        if high < semaphores.rows:
            header.semaphores_high[0] = high + 1
            return high
        for row in range(high):
            if not (self.is_used(row) or semaphores.ring[row]):
                return row
        raise self._manifest.refuse(
            PlaneFull(
                f"all {semaphores.rows} locks and semaphores of the plane, rates and queues included, are in use at once; "
                f"release some",
                limit=semaphores.rows,
            )
        )

    def is_used(self, row: int) -> bool:
        """Whether anybody holds, waits or has a limiter, or a rate or queue has what must not be forgotten."""
        if any(permits[row] or tickets[row] for _, permits, tickets in self.rows()):
            return True
        era = self._semaphores.era[row]
        if not (era or self._semaphores.numbered[row]):
            return False
        if self._semaphores.items[row] or self._semaphores.head[row] != self._semaphores.tail[row]:
            return True
        if era and self._semaphores.arrival[era & 1][row] > _clock():
            return True
        return any(wishes[row] for _, wishes in self.wishes())

    def has_spare(self, count: int) -> bool:
        """Whether so many more semaphores can be in use at once."""
        high, rows = self._manifest.semaphores_high, self._semaphores.rows
        if rows - high >= count:
            return True
        words = [column[:high].tolist() for _, permits, tickets in self.rows() for column in (permits, tickets)]
        words += [self._semaphores.era[:high].tolist(), self._semaphores.numbered[:high].tolist()]
        return rows - sum(map(any, zip(*words, strict=True))) >= count

    @property
    def is_idle(self) -> bool:
        """Nobody holds a permit of any semaphore or waits for one."""
        high = self._manifest.semaphores_high
        return not any(
            any(permits[:high].tolist()) or any(tickets[:high].tolist()) for _, permits, tickets in self.rows()
        )

    def wishes(self) -> list[tuple[int, Column]]:
        """Slot and wishes of every process that uses semaphores, rates or queues."""
        return [(slot, self._manifest.wish_row(slot)) for slot, _, _ in self.rows()]

    def rows(self) -> list[tuple[int, Column, Column]]:
        """Slot, permits and tickets of every process that uses semaphores, rates or queues."""
        processes, membership = self._processes, self._header.membership[0]
        if membership != self._membership:
            self._rows_in_use = [
                (slot, *self._manifest.permit_rows(slot))
                for slot, state in enumerate(processes.state.tolist())
                if state and processes.coordinates[slot]
            ]
            self._membership = membership
        return self._rows_in_use

    def holders(self, row: int) -> dict[int, int]:
        """Permits by slot, of those who hold any."""
        return {slot: permits[row] for slot, permits, _ in self.rows() if permits[row]}

    def waiting_elsewhere(self, row: int) -> int:
        """How many other processes have somebody in the line."""
        return sum(1 for slot, _, tickets in self.rows() if slot != self.slot and tickets[row])

    def generation(self, row: int) -> int:
        return self._semaphores.generation[row]

    def permits(self, row: int) -> int:
        return self._semaphores.permits[row]

    def free(self, row: int) -> int:
        """Permits that nobody holds; negative after a ``resize`` below what is held."""
        return self._semaphores.permits[row] - sum(self.holders(row).values())

    # Taking and giving

    def back_rows(self) -> None:
        """This process's rows are about to be used."""
        if not self._processes.coordinates[self.slot]:
            self._manifest.reserve_permit_rows(self.slot)
            for column in (*self._manifest.permit_rows(self.slot), self._manifest.wish_row(self.slot)):
                for row in range(len(column)):
                    if column[row]:
                        column[row] = 0
            # In this order: if Ctrl-C comes in between, it is done again, and nobody goes on without our rows.
            self._header.membership[0] += 1
            self._processes.coordinates[self.slot] = 1

    def try_take(self, row: int, ticket: int, ahead: int) -> bool:
        """Take a permit if it is our turn.

        Args:
            ticket: ours, or ``NO_TICKET``.
            ahead: how many wait before us inside this process.
        """
        free, slow = self._semaphores.permits[row], []
        ours = None
        for slot, permits, tickets in self.rows():
            free -= permits[row]
            if slot == self.slot:
                ours = permits
            elif 0 < tickets[row] < ticket:
                slow.append(tickets)
        if free <= 0 or ours is None:
            return False
        if (ahead or slow) and not self._is_turn(row, ahead, slow, free):
            return False
        ours[row] += 1
        return True

    def is_turn(self, row: int, ticket: int, ahead: int, free: int) -> bool:
        """Whether somebody in line, or with ``NO_TICKET``, can go on when there is enough for ``free``, one or more.

        Args:
            ahead: how many wait before us inside this process.
        """
        slow = [tickets for slot, _, tickets in self.rows() if slot != self.slot and 0 < tickets[row] < ticket]
        return self._is_turn(row, ahead, slow, free)

    def _is_turn(self, row: int, ahead: int, slow: list[Column], free: int) -> bool:
        """Processes that are as ``slow`` as that are passed over after a time, of which they find out."""
        before = ahead + len(slow)
        if before >= free:
            if before >= free + (_clock() - self._semaphores.freed[row]) // _PASSED_OVER_AFTER_NS:
                return False
            for tickets in slow:
                tickets[row] |= _PASSED_OVER
        return True

    def give(self, row: int) -> None:
        """Give one of our permits back and wake whose turn it is."""
        permits, _ = self._manifest.permit_rows(self.slot)
        permits[row] -= 1
        self.offer(row)

    def has_line(self, row: int) -> bool:
        """Whether anybody waits, which is then known to those without the lock as well."""
        for _, _, tickets in self.rows():
            if tickets[row]:
                return True
        if self._semaphores.awaited[row]:
            self._semaphores.awaited[row] = 0
        return False

    def offer(self, row: int) -> None:
        """Permits may be free: wake those who are next."""
        if not self.has_line(row):
            return  # most often nobody waits
        self._semaphores.freed[row] = _clock()
        waiting = sorted((tickets[row], slot) for slot, _, tickets in self.rows() if tickets[row])
        # Of a rate or queue the first one finds out for itself what it can have, and wakes the next one.
        has_permits = not (self._semaphores.era[row] or self._semaphores.numbered[row])
        for _, slot in waiting[: max(0, self.free(row)) if has_permits else 1]:
            self.wake(slot)

    def resize(self, row: int, permits: int) -> None:
        self._semaphores.permits[row] = permits
        self.offer(row)

    def new_ticket(self) -> int:
        ticket = self._header.next_ticket[0] + 1
        self._header.next_ticket[0] = ticket
        return ticket

    def show_ticket(self, row: int, ticket: int) -> None:
        """The ticket of our oldest waiter; 0 when nobody waits."""
        if ticket and not self._semaphores.awaited[row]:
            self._semaphores.awaited[row] = 1
        self._manifest.permit_rows(self.slot)[1][row] = ticket

    def set_held(self, row: int, count: int) -> None:
        """Set what we hold to what this process knows it holds, after an interrupted call."""
        permits, _ = self._manifest.permit_rows(self.slot)
        if permits[row] != count:
            permits[row] = count
            self.offer(row)

    def clear(self, slot: int) -> int:
        """Permits and tickets of a dead process come back; how many permits that were. Proportional to what is in use."""
        processes, returned = self._processes, 0
        if processes.watching[slot]:
            processes.watching[slot] = 0
            self.count_watchers()
        if not processes.coordinates[slot]:
            return 0
        high = self._manifest.semaphores_high
        permits, tickets = self._manifest.permit_rows(slot)
        wishes = self._manifest.wish_row(slot)
        for row in range(high):
            if tickets[row] or permits[row] or wishes[row]:
                returned += permits[row]
                wishes[row] = tickets[row] = permits[row] = 0
                self.offer(row)
        processes.coordinates[slot] = 0
        self._header.membership[0] += 1
        return returned

    # Waking

    def wake(self, slot: int) -> None:
        """Something that the process waits for may have come."""
        self._wakes.sequence[slot] = self._wakes.sequence[slot] + 1 & 0xFFFF_FFFF
        self.woken.add(slot)

    def sequence(self) -> int:
        """Our wake word as it is now; waiting is for it to change."""
        return self._wakes.sequence[self.slot]

    def watch(self, mask: int) -> None:
        """Which names this process waits for, a bit per hash."""
        self._processes.watching[self.slot] = mask
        self.count_watchers()

    def count_watchers(self) -> None:
        states = zip(self._processes.state.tolist(), self._processes.watching.tolist(), strict=True)
        self._header.watchers[0] = sum(1 for state, mask in states if state and mask)

    def wake_watchers(self, hashed: int) -> None:
        """A name with this hash has a new version."""
        bit = watch_bit(hashed)
        for slot, mask in enumerate(self._processes.watching.tolist()):
            if mask & bit:
                self.wake(slot)

    def wake_everybody(self) -> None:
        for slot, state in enumerate(self._processes.state.tolist()):
            if state:
                self.wake(slot)


def watch_bit(hashed: int) -> int:
    return 1 << (hashed & 63)
