"""Claims on the permits of a semaphore, and how one is ended so that no signal's exception can come in between.

Rule 1. A permit that this process holds has its claim in ``ready``, from before it is taken. Any claim is as good as any
other, since permits belong to the process.
Rule 2. A release takes a claim out of ``ready`` and puts it into the attachment's ``owed``, in C code: nothing that a signal
handler raises arrives in it. Python code, in which it may, comes after that and only carries out what is owed; what it does
not come to is done by the next call of the plane or by the drain timer, which looks by itself while there are permits.
Rule 3. A call that acquires and fails ends its claim; when another thread's release has taken that one already, then any.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import filterfalse
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import ClosedError
from ...manifest import NO_TICKET, Transaction
from ..process.registry import Registry
from .waiting import Closing, WaitInLine, settle

if TYPE_CHECKING:
    from ...core._core import Core
    from ..process.attachment import Attachment

__all__ = ["Claim", "LocalPermits", "Permits", "permits_of"]

#: at the bottom of ``ready``, for as many releases of nothing at once
_REFUSALS = 8


class Line(Protocol):
    """A semaphore, as its claims see it."""

    _attachment: Attachment
    _closing: Closing
    _local: LocalPermits
    _look: Callable[[Claim], int | None]

    def _part(self, tx: Transaction) -> LocalPermits: ...


class LocalPermits:
    """What this process holds of one semaphore, and who waits for it here. Changed under the host-wide lock only.

    Attributes:
        held: what stands in shared memory for this process.
        ready: the claims that can be released, above refusals for whoever releases more.
        release: takes a claim, says that it is owed, and calls it with whatever arguments; all but the call is C code.
        release_later: the same, which returns what can be awaited.
    """

    __slots__ = ("__weakref__", "name", "numbers", "ready", "release", "release_later", "waiters")

    def __init__(self, attachment: Attachment, name: bytes, title: str) -> None:
        self.name = name
        #: row, generation and what is held, where the core finds and changes them as well
        self.numbers: memoryview = memoryview(bytearray(3 * 8)).cast("q")
        self.place(-1, -1)
        self.waiters: deque[Claim] = deque()
        refusal = _Refusal(attachment, self, title)
        self.ready: list[Any] = [refusal] * _REFUSALS
        source = iter(self.ready.pop, None)
        self.release: Any = _Release(attachment.owed.append, source)
        self.release_later: Any = _ReleaseLater(attachment.owed.append, source)

    @property
    def row(self) -> int:
        return self.numbers[0]

    @property
    def generation(self) -> int:
        return self.numbers[1]

    @property
    def held(self) -> int:
        return self.numbers[2]

    @property
    def is_idle(self) -> bool:
        return not self.numbers[2] and not self.waiters

    def by_core(self, core: Core | None, opens: set[Any]) -> tuple[Callable[[Claim], int | None], Any, Any]:
        """What does ``look`` or returns None, and what releases: by the core, where that can be."""
        if core is None:
            return _by_python, self.release, self.release_later
        return core.permits(
            self.numbers, self.ready, self.waiters, Claim, opens, self.release, self.release_later, _DONE
        )

    def place(self, row: int, generation: int) -> None:
        """Under the lock: the semaphore's row, which may be another one after a time in which nobody used it."""
        self.numbers[0], self.numbers[1], self.numbers[2] = row, generation, 0

    def forget(self) -> None:
        """In a forked child, or when the plane has ended: nothing is held, and nobody waits."""
        self.place(-1, -1)
        self.waiters.clear()
        self.ready[:] = [one for one in self.ready if isinstance(one, _Refusal)]


class Permits(Registry):
    """What this process holds of each semaphore, and who waits for it here, by the semaphore's key."""

    def __init__(self, _: Attachment) -> None:
        self.parts: dict[bytes, LocalPermits] = {}

    @property
    def is_idle(self) -> bool:
        # A plain loop: this is asked at the end of every wait.
        for part in list(self.parts.values()):  # noqa: SIM110
            if not part.is_idle:
                return False
        return True

    @property
    def ends_silently(self) -> bool:
        return not self.is_idle

    def audit(self, tx: Transaction) -> None:
        for part in self.parts.values():
            if tx.coordination.is_current(part.row, part.generation):
                tx.coordination.set_held(part.row, part.held)
                tx.coordination.show_ticket(part.row, part.waiters[0].ticket if part.waiters else 0)

    def begin_again_in_child(self) -> None:
        for part in self.parts.values():
            part.forget()

    def end(self) -> None:
        for part in list(self.parts.values()):
            part.forget()
        self.parts.clear()


def permits_of(attachment: Attachment) -> Permits:
    """This process's permits and places in lines."""
    return attachment.registry(Permits)


def _by_python(_: Claim) -> None:
    """Leave it to ``look``."""


class _Release(filterfalse):  # type: ignore[type-arg]
    """``filterfalse(owed.append, ready)``: its next is the next claim, which is owed by then. Calling it calls that one."""

    __call__ = property(next)


class _ReleaseLater(filterfalse):  # type: ignore[type-arg]
    _taken = property(next)
    __call__ = property(attrgetter("_taken.later"))


class _Done:
    """Can be awaited, and is over. A coroutine that an interrupt keeps from being awaited would warn of it."""

    __slots__ = ()

    def __await__(self) -> Iterator[None]:
        return iter(())


_DONE = _Done()


class Claim(WaitInLine):
    """One caller's wish for a permit, and what has come of it.

    Attributes:
        is_done: its caller has a permit, also when another thread's release has taken this claim by now.
        listed: it was put into ``ready``.
        taken: there is a permit to be given back for it.
    """

    __slots__ = ("listed", "semaphore", "since", "taken", "waits")

    def __init__(self, semaphore: Line, *, waits: bool = True) -> None:
        self.semaphore, self.waits = semaphore, waits
        self.attachment, self.closing = semaphore._attachment, semaphore._closing
        self.ticket = 0
        self.since = 0.0  #: time.monotonic when it began to wait
        self.listed = self.taken = self.is_done = self.failed = False

    @property
    def has_left(self) -> bool:
        return self.listed or self.taken or self.ticket > 0

    @property
    def line(self) -> deque[Claim]:
        return self.semaphore._local.waiters

    def look_at_once(self) -> int | None:
        attachment = self.attachment
        found = None if attachment.suspect else self.semaphore._look(self)
        if found is not None and not attachment.timer.is_ticking:
            attachment.timer.tick()
        return found

    def look(self, tx: Transaction) -> int:
        """Take a permit if it is this claim's turn, else stand in line; returns the wake word to watch."""
        attachment, coordination = self.attachment, tx.coordination
        part = self.semaphore._part(tx)
        ahead = len(part.waiters)
        if self.ticket:
            attachment.reclaim_if_due(tx)
            if self in part.waiters:
                ahead = part.waiters.index(self)
            else:
                self.ticket = 0
        if coordination.try_take(part.row, self.ticket or NO_TICKET, ahead):
            self._take(part)
            if self.ticket:
                self._leave_line(tx, part)
            tx.counting.permitted(self.since)
            return 0
        if self.waits and not self.ticket:
            self.ticket, self.since = coordination.new_ticket(), self.since or monotonic()
            part.waiters.append(self)
        if self.waits and part.waiters[0] is self:
            coordination.show_ticket(part.row, self.ticket)
        attachment.timer.tick()
        return coordination.sequence()

    def _take(self, part: LocalPermits) -> None:
        # Ctrl-C comes after a call: it finds this claim listed and not taken, or all of it.
        self.listed = True
        part.ready.append(self)
        part.numbers[2] += 1
        self.taken = self.is_done = True
        timer = self.attachment.timer
        if not timer.is_ticking:
            timer.tick()

    def undo(self, tx: Transaction) -> None:
        """Leave the line and give the permit back, whichever applies."""
        part, owed = self.semaphore._local, self.attachment.owed
        if self.ticket and self in part.waiters:
            self._leave_line(tx, part)
        # No call lies between a look and what it leads to, so neither Ctrl-C nor another thread comes in between.
        # A release has taken its claim out of ``ready``, before it was owed.
        if self.failed and self.listed:
            if self in part.ready:
                self.listed = False
                part.ready.remove(self)
            else:
                # Somebody released this one instead of his own: his goes instead of this one.
                self.listed = False
                owed.append(part.ready[-1])
        if self.taken:
            # After Ctrl-C behind these two the audit makes the shared word agree.
            self.taken = False
            part.numbers[2] -= 1
            tx.coordination.give(part.row)

    def _leave_line(self, tx: Transaction, part: LocalPermits) -> None:
        coordination = tx.coordination
        part.waiters.remove(self)
        self.ticket = 0
        coordination.show_ticket(part.row, part.waiters[0].ticket if part.waiters else 0)
        # It may have been woken for a permit that it does not take, or the next one has a permit waiting too.
        if coordination.free(part.row) > 0:
            coordination.offer(part.row)

    def __call__(self, *_: object) -> None:
        """Carry out its release, which has begun: it is owed."""
        attachment = self.attachment
        settle(attachment)
        if self.taken and attachment.ended is not None:
            raise ClosedError(attachment.ended, plane=attachment.name)

    def later(self, *_: object) -> _Done:
        self()
        return _DONE


class _Refusal:
    """What is released when nothing is held."""

    __slots__ = ("_attachment", "_part", "_title")

    def __init__(self, attachment: Attachment, part: LocalPermits, title: str) -> None:
        # Weakly: the attachment has the part, which has this.
        self._attachment, self._part, self._title = weakref.ref(attachment), weakref.ref(part), title

    def undo(self, tx: Transaction) -> None:
        """Nothing was taken."""

    def __call__(self, *_: object) -> None:
        attachment, part = self._attachment(), self._part()
        if attachment is None or part is None:
            return
        part.ready[:0] = [self] * (_REFUSALS - part.ready.count(self))
        if attachment.ended is not None:
            raise ClosedError(attachment.ended, plane=attachment.name)
        known = permits_of(attachment).parts.get(part.name)
        if known is None or known is part:
            raise RuntimeError(f"{self._title} is not held by this process, so it cannot be released")
        known.release()  # what was forgotten while nobody used it has come again

    def later(self, *_: object) -> _Done:
        self()
        return _DONE
