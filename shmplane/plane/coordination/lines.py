"""Lines: who waits in this process for a rate or queue, in their order, and that the process uses it at all.

What stands in shared memory for a line of this process is one ticket, that of the first who waits, and one word that says
that it is in use. Both go when the last object of that rate or queue is garbage here, or with the process.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from ...manifest import Transaction, cost_ns, drop_idle_rings
from ..process.registry import Registry

if TYPE_CHECKING:
    from ..process.attachment import Attachment
    from .ring_ends import RingEnds

__all__ = ["Lines", "LocalLine", "Waiter"]


class Waiter(Protocol):
    """Who stands in a line.

    Attributes:
        amount: of a rate, how many units it wishes for; else 0.
    """

    amount: float
    ticket: int


class LocalLine:
    """One rate or queue in this process: shared by its objects, kept by them alone. Changed under the host-wide lock only."""

    __slots__ = ("__weakref__", "ends", "generation", "row", "waiters")

    def __init__(self) -> None:
        self.row: int = -1
        self.generation: int = -1
        self.ends: RingEnds | None = None  #: of a queue, once this process has found its ring
        self.waiters: deque[Waiter] = deque()

    def say_wishes(self, tx: Transaction) -> None:
        """Show in shared memory that it is used, who waits, and for how much."""
        units = self.units_before(len(self.waiters))
        tx.rates.wish(self.row, cost_ns(tx.rates.terms(self.row), units) if units else 0)
        tx.coordination.show_ticket(self.row, self.waiters[0].ticket if self.waiters else 0)

    def units_before(self, place: int) -> float:
        """How many units those before a place in the line wish for; 0 in that of a queue."""
        if not (self.waiters and self.waiters[0].amount):
            return 0.0
        return sum([waiter.amount for waiter in islice(self.waiters, place)])


class _Known(weakref.ref[LocalLine]):
    """A line of this process, which says that it is garbage by queueing itself; before it is told, it means none.

    Attributes:
        row, generation: where it is marked.
    """

    lines: Callable[[], Lines | None] = staticmethod(lambda: None)
    name: bytes = b""
    row: int = -1
    generation: int = -1

    def free(self, tx: Transaction) -> None:
        """Nobody here uses it any more. Again: does nothing."""
        lines = self.lines()
        if lines is not None and lines.parts.get(self.name) is self:
            if tx.coordination.is_current(self.row, self.generation):
                tx.rates.forget(self.row)
                drop_idle_rings(tx)
            del lines.parts[self.name]


class Lines(Registry):
    """What this process uses of rates and queues, by their keys."""

    def __init__(self, attachment: Attachment) -> None:
        self.parts: dict[bytes, _Known] = {}
        self._garbage = attachment.garbage

    def part(self, name: bytes) -> LocalLine:
        """That of a name."""
        known = self.parts.get(name)
        part = None if known is None else known()
        if part is None:
            part = LocalLine()
            made = _Known(part, self._garbage.append)
            made.lines, made.name = weakref.ref(self), name
            if known is not None:
                # Its mark is ours from now on.
                made.row, made.generation = known.row, known.generation
            self.parts[name] = made
        return part

    def place(self, tx: Transaction, name: bytes, part: LocalLine, row: int) -> None:
        """It has this row, and this process uses it."""
        part.row, part.generation = row, tx.coordination.generation(row)
        known = self.parts[name]
        known.row, known.generation = part.row, part.generation
        part.say_wishes(tx)

    @property
    def is_idle(self) -> bool:
        return not any(part.waiters for part in self._living())

    @property
    def ends_silently(self) -> bool:
        return not self.is_idle

    def audit(self, tx: Transaction) -> None:
        for known in list(self.parts.values()):
            part = known()
            if part is None:
                known.free(tx)
            elif tx.coordination.is_current(part.row, part.generation):
                part.say_wishes(tx)

    def begin_again_in_child(self) -> None:
        for known in self.parts.values():
            known.row = known.generation = -1
        for part in self._living():
            part.row = part.generation = -1
            part.ends = None
            part.waiters.clear()

    def end(self) -> None:
        self.begin_again_in_child()
        self.parts.clear()

    def _living(self) -> list[LocalLine]:
        return [part for part in [known() for known in list(self.parts.values())] if part is not None]
