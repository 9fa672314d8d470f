"""Host-wide semaphores and locks, in the order of arrival, safe against the death of whoever holds them.

The shared part (permits and tickets as rows of processes) is in the manifest; here is this process's part: its waiters in
their order, and how many permits it knows it holds. All ``Semaphore`` objects of a name share one such part.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Self

from ...errors import ClosedError, LockTimeout, PlaneFull, PlaneMismatch
from ...manifest import NO_TICKET
from ...system import NOT_HAD, own
from ..process.patience import is_in_event_loop, moment, patience
from ..process.reclaim import reap_dead
from .waiting import SLICE_S, check_timeout, give_back, wait_for, wait_for_async

if TYPE_CHECKING:
    from types import TracebackType

    from ...manifest import Transaction
    from ..process.attachment import Attachment
    from .waiting import Closing

__all__ = ["LocalPart", "Semaphore", "check_permits", "open_semaphore"]

#: the longest sleep without a look at who is still alive, of those who are not the first of their process
_SLICE_BEHIND_S = 0.5
_MOST_PARTS = 1024


class LocalPart:
    """What this process holds of one semaphore, and who waits for it here. Changed under the host-wide lock only."""

    name: bytes
    row: int
    generation: int

    def __init__(self, name: bytes, row: int, generation: int) -> None:
        self.name, self.row, self.generation = name, row, generation
        self.held = 0
        self.waiters: deque[_Claim] = deque()

    @property
    def is_idle(self) -> bool:
        return not self.held and not self.waiters


def open_semaphore(attachment: Attachment, name: bytes, permits: int, *, title: str, closing: Closing) -> Semaphore:
    """A semaphore of this name; ``PlaneMismatch`` when it is in use with another count."""
    semaphore = Semaphore(attachment, name, permits, title=title, closing=closing)
    semaphore.check()
    return semaphore


def _open_row(tx: Transaction, attachment: Attachment, name: bytes, permits: int) -> int:
    """The row of a semaphore; when all are in use, what dead processes held comes back first."""
    coordination = tx.coordination
    try:
        return coordination.open(name, permits)
    except own(PlaneFull):
        if not reap_dead(tx, attachment):
            raise
        return coordination.open(name, permits)


def _part(tx: Transaction, attachment: Attachment, name: bytes, permits: int) -> LocalPart:
    """This process's part; the row may have been given to another name while nobody used it."""
    coordination = tx.coordination
    part = attachment.semaphores.get(name)
    if part is None or not coordination.is_current(part.row, part.generation):
        coordination.take_part()
        row = coordination.find(name)
        if row < 0:
            row = _open_row(tx, attachment, name, permits)
        if len(attachment.semaphores) > _MOST_PARTS:
            _forget_parts(tx, attachment)
        part = attachment.semaphores[name] = LocalPart(name, row, coordination.generation(row))
    return part


def _forget_parts(tx: Transaction, attachment: Attachment) -> None:
    """Forget idle parts whose row has gone to another name since."""
    coordination = tx.coordination
    for name, part in list(attachment.semaphores.items()):
        if part.is_idle and not coordination.is_current(part.row, part.generation):
            del attachment.semaphores[name]


class _Claim:
    """One caller's wish for a permit, and what has come of it: a ``Wait``."""

    __slots__ = ("semaphore", "taken", "ticket", "waits", "was_held")

    def __init__(self, semaphore: Semaphore, *, taken: bool = False, waits: bool = True) -> None:
        self.semaphore, self.taken, self.waits = semaphore, taken, waits
        self.ticket = 0
        #: whether there was a permit to give back; None: not known yet
        self.was_held: bool | None = None

    @property
    def attachment(self) -> Attachment:
        return self.semaphore._attachment

    @property
    def closing(self) -> Closing:
        return self.semaphore._closing

    @property
    def is_done(self) -> bool:
        return self.taken

    @property
    def has_left(self) -> bool:
        return self.taken or self.ticket > 0

    def slice(self) -> float:
        return SLICE_S if self.is_next() else _SLICE_BEHIND_S

    def is_next(self) -> bool:
        """Whether it is first in this process's line. Who leaves the line wakes the next one."""
        part = self.semaphore._find_part()
        try:
            return part is None or part.waiters[0] is self
        except own(IndexError):
            return True

    def look(self, tx: Transaction) -> int:
        """Take a permit if it is this claim's turn, else stand in line; returns the wake word to watch."""
        coordination = tx.coordination
        part = self.semaphore._part(tx)
        ahead = len(part.waiters)
        if self.ticket:
            self.attachment.reap_if_due(tx)
            if self in part.waiters:
                ahead = part.waiters.index(self)
            else:
                self.ticket = 0
        if coordination.try_take(part.row, self.ticket or NO_TICKET, ahead):
            # These two stores are what this process knows, also when Ctrl-C comes next.
            part.held += 1
            self.taken = True
            if self.ticket:
                self._leave_line(tx, part)
            return 0
        if self.waits and not self.ticket:
            self.ticket = coordination.new_ticket()
            part.waiters.append(self)
        if self.waits and part.waiters[0] is self:
            coordination.show_ticket(part.row, self.ticket)
        return coordination.sequence()

    def undo(self, tx: Transaction) -> None:
        """Leave the line and give the permit back, whichever applies."""
        part = self.semaphore._find_part()
        if part is not None and self.ticket and self in part.waiters:
            self._leave_line(tx, part)
        if not self.taken:
            return
        self.taken = False
        self.was_held = part is not None and part.held > 0
        if part is not None and self.was_held:
            # With the stores above no call lies in between, so that Ctrl-C finds all of them or none.
            part.held -= 1
            tx.coordination.give(part.row)

    def gives_back(self, name: bytes) -> bool:
        """Whether a permit of that semaphore comes back with ``undo``."""
        return self.taken and self.semaphore._name == name

    def _leave_line(self, tx: Transaction, part: LocalPart) -> None:
        coordination = tx.coordination
        part.waiters.remove(self)
        self.ticket = 0
        coordination.show_ticket(part.row, part.waiters[0].ticket if part.waiters else 0)
        # It may have been woken for a permit that it does not take, or the next one has a permit waiting too.
        if coordination.free(part.row) > 0:
            coordination.offer(part.row)


class Semaphore:
    """At most ``permits`` holders over all processes of the host; a lock is one with a single permit.

    Waiters of all processes and threads are served in the order in which they came. Permits belong to the process: any of
    its threads may release them. A killed process's permits come back by themselves. Not re-entrant.

    Cost: acquiring a free permit and releasing it is one short hold of the plane's lock each.
    """

    def __init__(self, attachment: Attachment, name: bytes, permits: int, *, title: str, closing: Closing) -> None:
        self._attachment, self._name, self._permits = attachment, name, permits
        self._title, self._closing = title, closing
        self._is_checked = False

    # Taking

    def try_acquire(self) -> bool:
        """Take a permit if one is free and nobody waits; never blocks.

        False as well when the plane's own lock was not to be had within 20 ms (in an event loop 4 ms).
        """
        self._refuse_if_closed()
        return self.take_if_free()

    def take_if_free(self) -> bool:
        """``try_acquire``, whether or not the ``Plane`` object is open."""
        claim = _Claim(self, waits=False)
        try:
            self._attachment.try_change(patience(self._attachment), claim.look)
        except BaseException:
            give_back(self._attachment, claim)
            raise
        return claim.taken

    def acquire(self, timeout: float | None = None) -> None:
        """Take a permit, waiting in line for it.

        Args:
            timeout: seconds; None: for ever; 0: not at all.

        Raises:
            LockTimeout: none came free in time; it names who holds them, or who has held the plane's own lock for so long.
            ClosedError: the plane was destroyed, or the ``Plane`` object of this semaphore closed, meanwhile.
        """
        check_timeout(timeout)
        self._refuse_if_closed()
        claim = _Claim(self)
        if not wait_for(claim, timeout):
            raise self._in_vain(timeout)

    def take_in_time(self, timeout: float) -> bool:
        """``acquire`` that returns False when time is over or what it waits through was closed."""
        return wait_for(_Claim(self), timeout)

    async def acquire_async(self, timeout: float | None = None) -> None:
        """``acquire`` for asyncio: waits without a thread of its own; a cancelled wait leaves its place in the line.

        Raises:
            RuntimeError: this is another event loop than asyncio's.
        """
        check_timeout(timeout)
        self._refuse_if_closed()
        claim = _Claim(self)
        if not await wait_for_async(claim, timeout):
            raise self._in_vain(timeout)

    def _refuse_if_closed(self) -> None:
        if self._closing.closed:
            raise self._closing.error()

    def _in_vain(self, timeout: float | None) -> Exception:
        """What to raise for a wait that has come to nothing."""
        if self._closing.closed or timeout is None:
            return self._closing.error()
        found = self._attachment.try_look(moment(self._attachment), self._holders)
        if found is NOT_HAD:
            return self._attachment.lock.timed_out(timeout)
        pids, is_ours = found
        holders = ", ".join(map(str, pids)) or "(nobody any more)"
        hint = "Wait longer, or have it released earlier."
        if is_ours:
            hint = "It is held by this process, not re-entrant: release it before it is acquired again."
        return LockTimeout(
            f"{self._title} was not free within {timeout:g} s; held by process {holders}. {hint}",
            timeout=timeout,
            holders=pids,
        )

    def _holders(self, tx: Transaction) -> tuple[list[int], bool]:
        """The pids of those who hold permits; whether that is this process and nobody else."""
        attachment = self._attachment
        row = tx.coordination.find(self._name)
        holders = tx.coordination.holders(row) if row >= 0 else {}
        return [attachment.manifest.processes.pid[slot] for slot in holders], set(holders) == {attachment.slot}

    # This process's part

    def check(self) -> None:
        """``PlaneMismatch`` when it is in use with another count.

        In an event loop that cannot have the plane's lock at once, the first who looks at it finds that out.
        """
        if is_in_event_loop():
            self._attachment.try_change(patience(self._attachment), self._check)
        else:
            self._attachment.change(self._check)

    def _check(self, tx: Transaction) -> None:
        attachment, permits = self._attachment, self._permits
        coordination = tx.coordination
        coordination.take_part()
        row = _open_row(tx, attachment, self._name, permits)
        if coordination.permits(row) != permits and reap_dead(tx, attachment):
            # Whoever used it with the other count may have been killed.
            row = coordination.open(self._name, permits)
        if coordination.permits(row) != permits:
            raise attachment.manifest.refuse(
                PlaneMismatch(
                    f"{self._title} has {coordination.permits(row)} permits and is in use, asked for {permits}. Use the "
                    f"same count, or change it with resize().",
                    asked=permits,
                    found=coordination.permits(row),
                )
            )
        self._is_checked = True

    def _find_part(self) -> LocalPart | None:
        return self._attachment.semaphores.get(self._name)

    def _part(self, tx: Transaction) -> LocalPart:
        """This process's part."""
        if not self._is_checked:
            self._check(tx)
        return _part(tx, self._attachment, self._name, self._permits)

    # Giving back

    def release(self) -> None:
        """Give a permit of this process back, from any thread; ``RuntimeError`` when it holds none.

        Never blocks: when the plane's own lock is not to be had within 20 ms (in an event loop 4 ms), the permit is given
        back a little later.
        """
        claim = _Claim(self, taken=True)
        give_back(self._attachment, claim)
        if claim.was_held is None and self._attachment.ended is not None:
            raise ClosedError(self._attachment.ended, plane=self._attachment.name)
        if claim.was_held is False or (claim.was_held is None and self._is_too_much(claim)):
            raise RuntimeError(f"{self._title} is not held by this process, so it cannot be released")

    def _is_too_much(self, claim: _Claim) -> bool:
        """Whether a release that is still queued is one of nothing, as far as can be known without the lock; forget it."""
        part = self._find_part()
        owed = sum(claim.gives_back(self._name) for claim in list(self._attachment.owed) if isinstance(claim, _Claim))
        if claim.taken and owed > (0 if part is None else part.held):
            claim.taken = False
            return True
        return False

    def resize(self, permits: int) -> None:
        """Change the count for everybody; a smaller one takes effect as permits come back."""
        check_permits(permits)
        self._attachment.change(self._resize, permits)
        self._permits = permits

    def _resize(self, tx: Transaction, permits: int) -> None:
        part = self._part(tx)
        tx.coordination.resize(part.row, permits)

    # Looking

    @property
    def permits(self) -> int:
        """How many may be held in all."""
        return self._attachment.look(self._count, "permits")

    @property
    def available(self) -> int:
        """How many are free now, over all processes."""
        return max(0, self._attachment.look(self._count, "free"))

    def waiting_elsewhere(self) -> int | None:
        """How many other processes wait for a permit now; None when the plane's lock was not to be had at once."""
        attachment = self._attachment
        found = attachment.try_look(moment(attachment), self._count_waiting)
        return None if found is NOT_HAD else found

    def _count_waiting(self, tx: Transaction) -> int:
        coordination = tx.coordination
        row = coordination.find(self._name)
        return 0 if row < 0 else coordination.waiting_elsewhere(row)

    def _count(self, tx: Transaction, what: str) -> int:
        coordination = tx.coordination
        row = coordination.find(self._name)
        return self._permits if row < 0 else int(getattr(coordination, what)(row))

    def __repr__(self) -> str:
        return f"<{self._title}>"

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def check_permits(permits: object) -> None:
    if isinstance(permits, bool) or not isinstance(permits, int):
        raise TypeError(f"permits is an int, not {type(permits).__name__}")
    if not 1 <= permits < 2**31:
        raise ValueError(f"a semaphore has at least 1 permit, not {permits}")
