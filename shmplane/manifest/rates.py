"""Rates in shared memory: rows of the table of semaphores, with the tickets that semaphores have.

The facts of a rate are its arrival (see ``cell_rate``) and its terms, which stand twice: a word says which of the two count,
so that a change of all of them is one store. A grant is one store as well, and nothing is held by whoever got it: a killed
process gives back its place in the line and nothing else.

A rate is in use while a process says so in its row of wishes, and until its arrival: so long its row goes to no other name.

The first of the line says that it lives whenever it looks, in the word ``freed``. When that is a second ago (its process is
stopped), it is passed over as with semaphores.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from ..errors import PlaneCorrupt
from .cell_rate import Paid, Terms, after_grant, after_new_terms, cost_ns, is_sound, ready_at, refundable_ns
from .coordination import NO_TICKET, Coordination

if TYPE_CHECKING:
    from ..tables import Column
    from .store import Manifest

__all__ = ["Rates"]

_clock = time.monotonic_ns
#: terms that are not decoded anew
_MOST_KNOWN = 64


class Rates:
    """Everything here runs under the lock."""

    def __init__(self, manifest: Manifest, coordination: Coordination) -> None:
        self._manifest, self._coordination = manifest, coordination
        self._rows = manifest.semaphores
        self._known: dict[tuple[int, int, int], Terms] = {}

    # Terms

    def open(self, name: bytes, terms: Terms) -> int:
        """The row of a rate, made when it is missing; one that no process uses takes the new terms."""
        row = self._coordination.find(name)
        if row < 0:
            row = self._coordination.new_row(name)
            self._rows.returned[row] = 0
            self._write_terms(row, terms, 0)
            self._rows.permits[row] = 0
            self._rows.freed[row] = _clock()
            self._rows.state[row] = 1
        elif not self.is_used(row) and self.terms(row) != terms:
            self.change_terms(row, terms)
        return row

    def is_used(self, row: int) -> bool:
        """Whether any process has a limiter of it."""
        return any(wishes[row] for _, wishes in self._coordination.wishes())

    def terms(self, row: int) -> Terms:
        """What counts now."""
        rows = self._rows
        which = rows.era[row] & 1
        words = rows.limit[which][row], rows.per[which][row], rows.burst[which][row]
        known = self._known.get(words)
        if known is not None:
            return known
        terms = Terms(*struct.unpack("<3d", struct.pack("<3Q", *words)))
        if not is_sound(terms):
            raise PlaneCorrupt(
                f"a rate of the plane has the terms {tuple(terms)}, which nobody can have given it: somebody wrote over "
                f"them. Save what can still be read and remove the plane.",
                row=row,
            )
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[words] = terms
        return terms

    def change_terms(self, row: int, terms: Terms) -> None:
        """Other terms for everybody, at once; as many units as were granted are still to be paid for."""
        arrival = self._arrival(row)[row]
        self._write_terms(row, terms, after_new_terms(arrival, _clock(), self.terms(row), terms))
        self._coordination.offer(row)

    def _write_terms(self, row: int, terms: Terms, arrival: int) -> None:
        rows = self._rows
        era = rows.era[row] + 1
        which = era & 1
        limit, per, burst = struct.unpack("<3Q", struct.pack("<3d", *terms))
        rows.limit[which][row], rows.per[which][row], rows.burst[which][row] = limit, per, burst
        rows.arrival[which][row] = arrival
        rows.era[row] = era

    # Waiting

    def wish(self, row: int, cost: int) -> None:
        """This process uses the rate, and what its waiters wish for costs so many ns."""
        self._manifest.wish_row(self._coordination.slot)[row] = 1 + cost

    def forget(self, row: int) -> None:
        """This process does not use it any more."""
        self._manifest.wish_row(self._coordination.slot)[row] = 0

    def wished(self, row: int) -> int:
        """What all who stand in line wish for, in ns; without those who are passed over."""
        total = 0
        for slot, _, tickets in self._coordination.rows():
            if 0 < tickets[row] < NO_TICKET:
                total += self._manifest.wish_row(slot)[row] - 1
        return max(0, total)

    def is_first(self, row: int, ticket: int, ahead: int) -> bool:
        """Whether it is our turn, be it in a while; then others know that we live.

        Args:
            ticket: ours, or ``NO_TICKET``.
            ahead: how many wait before us inside this process.
        """
        if ahead or not self._coordination.is_turn(row, ticket, 0, 1):
            return False
        if ticket != NO_TICKET:
            self._rows.freed[row] = _clock()
        return True

    def ready_at(self, row: int, terms: Terms, amount: float, ahead: int) -> int:
        """The monotonic_ns at which so many units can be granted, after others that cost ``ahead``."""
        cost, burst = cost_ns(terms, amount), cost_ns(terms, terms.burst)
        return ready_at(self._arrival(row)[row], _clock(), ahead=ahead, cost=cost, burst=burst)

    def _arrival(self, row: int) -> Column:
        """The column in which its arrival stands."""
        return self._rows.arrival[self._rows.era[row] & 1]

    # Granting

    def grant(self, row: int, terms: Terms, amount: float) -> Paid:
        """Grant it: one store."""
        rows, arrivals = self._rows, self._arrival(row)
        arrival = after_grant(arrivals[row], _clock(), cost_ns(terms, amount))
        arrivals[row] = arrival
        return Paid(arrival, rows.returned[row], rows.era[row], terms)

    def grant_at_once(self, row: int, amount: float) -> Paid | None:
        """The same for somebody new when nobody stands in line and it can be granted now: what most often is so; else None."""
        rows = self._rows
        if rows.awaited[row]:
            return None
        era, terms, now = rows.era[row], self.terms(row), _clock()
        arrivals = rows.arrival[era & 1]
        start, cost = max(arrivals[row], now), cost_ns(terms, amount)
        if start + cost - cost_ns(terms, terms.burst) > now:
            return None
        arrivals[row] = start + cost
        return Paid(start + cost, rows.returned[row], era, terms)

    def settle(self, row: int, paid: Paid, amount: float, actual: float) -> None:
        """A grant of ``amount`` has needed ``actual``."""
        rows, arrivals, terms, now = self._rows, self._arrival(row), self.terms(row), _clock()
        unused = cost_ns(terms, amount) - cost_ns(terms, actual)
        if unused < 0:
            arrivals[row] = after_grant(arrivals[row], now, -unused)
            return
        if paid.era != rows.era[row]:
            return
        refund = refundable_ns(paid, rows.returned[row], now, unused)
        if refund:
            # First: whoever is killed in between has got less back, and never more.
            rows.returned[row] += refund
            arrivals[row] -= refund
            self._coordination.offer(row)

    def available(self, row: int, terms: Terms) -> float:
        """How many units could be granted now."""
        debt = max(0, self._arrival(row)[row] - _clock())
        return max(0.0, terms.burst - debt * terms.limit / terms.per / 1e9)
