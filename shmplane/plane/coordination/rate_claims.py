"""What this process wishes for and has been granted of each rate: its waiters in their order, and its grants.

A grant is a fact of the past and is not held: only places in the line have to be given up, and those of a killed process
are cleared with its row.

Rule 1. The first of the line sleeps until what it wishes for can be granted, the others until somebody leaves the line.
Rule 2. Who cannot be served in time is told so at once, from what is granted and wished for by then; and again whenever it
looks, since others may have been granted more meanwhile.
Rule 3. An exception that a signal handler raises in the middle of a grant may cost its units, as if they had been used;
never are more granted than the terms allow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Protocol

from ...errors import ClosedError
from ...manifest import NO_TICKET, cost_ns, is_payable
from ...system import own
from ..process.reclaim import reclaim_dead
from .lines import LocalLine
from .waiting import SLICE_S, Closing, WaitInLine, settle

if TYPE_CHECKING:
    from ...manifest import Paid, Terms, Transaction
    from ..process.attachment import Attachment

__all__ = ["Grant", "RateClaim", "check_units"]

_clock = time.monotonic_ns


class Line(Protocol):
    """A limiter, as its claims see it."""

    _attachment: Attachment
    _closing: Closing
    _part: LocalLine
    _title: str

    def _placed(self, tx: Transaction) -> LocalLine: ...


def check_units(amount: object, what: str, *, least: str = "above 0") -> float:
    """A finite number above 0, or ``least`` "of 0 or more"."""
    if isinstance(amount, bool) or not isinstance(amount, Real):
        raise TypeError(f"{what} is a number, not {type(amount).__name__}")
    try:
        units = float(amount)
    except own(OverflowError):
        units = math.inf
    if not (units > 0 or (units == 0 and least != "above 0")) or units == math.inf:
        raise ValueError(f"{what} is a finite number {least}, not {units:g}")
    return units


class RateClaim(WaitInLine):
    """One caller's wish for units, and what has come of it.

    Attributes:
        ready: monotonic_ns at which it can be granted, as known when it looked last.
        terms: as they were then; None: it could not look yet.
        is_done: it has its grant, or cannot have it in time.
    """

    __slots__ = ("amount", "deadline", "grant", "is_too_large", "limiter", "ready", "terms", "waits")

    def __init__(self, limiter: Line, amount: float, deadline: int | None, *, waits: bool) -> None:
        self.limiter, self.amount, self.deadline, self.waits = limiter, amount, deadline, waits
        self.attachment, self.closing = limiter._attachment, limiter._closing
        self.grant: Grant | None = None
        self.terms: Terms | None = None
        self.ticket = self.ready = 0
        self.failed = self.is_done = self.is_too_large = False

    @property
    def has_left(self) -> bool:
        return self.ticket > 0 or (self.failed and self.grant is not None)

    @property
    def line(self) -> Sequence[object]:
        return self.limiter._part.waiters

    def slice(self) -> float:
        if not (self.ready and self.is_next()):
            return super().slice()
        return max(1e-6, min(SLICE_S, (self.ready - _clock()) / 1e9))

    def look(self, tx: Transaction) -> int:
        """Have it granted if it is our turn and time, else stand in line; returns the wake word to watch."""
        rates, part = tx.rates, self.limiter._placed(tx)
        if not (self.ticket or part.waiters):
            paid = rates.grant_at_once(part.row, self.amount)
            if paid is not None:
                self.grant = Grant(self.attachment, self.limiter._title, self.amount, part, paid)
                self.is_done = True
                return 0
        terms = self.terms = rates.terms(part.row)
        if self.ticket and self not in part.waiters:
            self.ticket = 0  # forked meanwhile
        ahead = part.waiters.index(self) if self.ticket else len(part.waiters)
        if self.ticket:
            self.attachment.reclaim_if_due(tx)
        is_first = rates.is_first(part.row, self.ticket or NO_TICKET, ahead)
        self.ready = 0
        # Who has all the time there is waits until it is first: so many looks would each look at all who stand before.
        if is_first or self.deadline is not None or not self.ticket:
            self.ready = rates.ready_at(part.row, terms, self.amount, self._cost_ahead(tx, part, terms, ahead=ahead))
        if self._is_late() and not self.ticket and reclaim_dead(tx, self.attachment):
            return self.look(tx)  # what the dead wished for counted
        if is_first and self.ready <= _clock():
            self.grant = Grant(
                self.attachment, self.limiter._title, self.amount, part, rates.grant(part.row, terms, self.amount)
            )
            self._leave(tx, part)
            return 0
        self.is_too_large = self.amount > terms.burst
        if self.is_too_large or self._is_late():
            self._leave(tx, part)
        elif self.waits and not self.ticket:
            self.ticket = tx.coordination.new_ticket()
            part.waiters.append(self)
            part.say_wishes(tx)
        elif self.ticket and not ahead:
            tx.coordination.show_ticket(part.row, self.ticket)  # it may have been passed over
        if not (is_first or self.is_done):
            self.ready = 0  # it is not known when those before it leave
        self.attachment.timer.tick()
        return tx.coordination.sequence()

    def _is_late(self) -> bool:
        return self.deadline is not None and self.ready > self.deadline

    def _cost_ahead(self, tx: Transaction, part: LocalLine, terms: Terms, *, ahead: int) -> int:
        """What those who come before wish for, in ns. Who has a ticket knows it of its own process only."""
        if not self.ticket:
            return tx.rates.wished(part.row)
        return cost_ns(terms, part.units_before(ahead))

    def _leave(self, tx: Transaction, part: LocalLine) -> None:
        """It is decided: out of the line."""
        if self.ticket:
            self._leave_line(tx, part)
        self.is_done = True

    def _leave_line(self, tx: Transaction, part: LocalLine) -> None:
        part.waiters.remove(self)
        self.ticket = 0
        part.say_wishes(tx)
        tx.coordination.offer(part.row)

    def undo(self, tx: Transaction) -> None:
        """Leave the line; what a call has got that fails is as if it had not been used."""
        part = self.limiter._part
        if self.ticket and self in part.waiters:
            self._leave_line(tx, part)
        if self.failed and self.grant is not None:
            grant, self.grant = self.grant, None
            grant._settle(tx, 0.0)


class Grant:
    """Units that a rate has granted. Nothing has to be done with it; ``settle`` corrects it once the true cost is known.

    Attributes:
        amount: units, as asked for.
    """

    __slots__ = ("_actual", "_attachment", "_due", "_generation", "_open", "_paid", "_row", "_title", "amount")

    def __init__(self, attachment: Attachment, title: str, amount: float, part: LocalLine, paid: Paid) -> None:
        # Not of the limiter: a grant that somebody keeps does not keep the rate in use.
        self.amount: float = amount
        self._attachment, self._title, self._paid = attachment, title, paid
        self._row, self._generation = part.row, part.generation
        self._actual = amount
        #: what is to be carried out
        self._due: float | None = None
        #: emptied by whoever settles it, in C code
        self._open = [self]

    def settle(self, actual: float) -> None:
        """Say what it has cost: units that were not needed go to those who wait, more than granted delay them.

        Once the rate has recovered from the grant there is nothing left to give back: it is as good as new by then. Nor is
        there after a change of its terms.

        Args:
            actual: units, 0 or more; also above the burst.

        Raises:
            RuntimeError: it is settled already.
            ValueError: it takes more than a year to pay for, at the terms of the grant; nothing was changed.

        Cost: a short hold of the plane's lock; when that is not to be had in a moment, it is done a little later.
        """
        units = check_units(actual, "actual", least="of 0 or more")
        terms, attachment = self._paid.terms, self._attachment
        if not is_payable(terms, units):
            raise ValueError(
                f"actual is {units:g} units of {self._title}, which take more than a year to pay for at {terms.limit:g} in "
                f"{terms.per:g} s: say what it has cost"
            )
        if attachment.ended is not None:
            raise ClosedError(attachment.ended, plane=attachment.name)
        try:
            self._open.pop()
        except own(IndexError):
            raise RuntimeError(f"this grant of {self._title} is settled already, at {self._actual:g} units") from None
        self._actual = self._due = units
        attachment.owed.append(self)
        settle(attachment)

    @property
    def settled(self) -> float | None:
        """What it was settled at; None: not yet."""
        return None if self._open else self._actual

    def undo(self, tx: Transaction) -> None:
        """Carry out what ``settle`` said. Again: does nothing."""
        if self._due is None:
            return
        if self._due > self.amount:
            self._settle(tx, self._due)
            self._due = None
        else:
            # In this order: what is interrupted gives less back, and nothing twice.
            actual, self._due = self._due, None
            self._settle(tx, actual)

    def _settle(self, tx: Transaction, actual: float) -> None:
        if tx.coordination.is_current(self._row, self._generation):
            tx.rates.settle(self._row, self._paid, self.amount, actual)

    def __repr__(self) -> str:
        said = "" if self._open else f", settled at {self._actual:g}"
        return f"<{self.amount:g} units of {self._title}{said}>"
