"""Host-wide semaphores and locks, in the order of arrival, safe against the death of whoever holds them.

The shared part (permits and tickets as rows of processes) is in the manifest; here is this process's part: its waiters in
their order, and how many permits it knows it holds. All ``Semaphore`` objects of a name share one such part.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from ...errors import ClosedError, LockTimeout, PlaneFull, PlaneMismatch, ShmplaneError
from ...manifest import NO_TICKET
from ...system import wait_for_change
from ..process.reclaim import reap_dead
from ..process.waker import running_loop

if TYPE_CHECKING:
    from types import TracebackType

    from ..process.attachment import Attachment

__all__ = ["LocalPart", "Semaphore", "check_timeout", "finish", "open_semaphore"]

#: the longest sleep without a look at who is still alive
SLICE_S = 0.1
#: the same for those who are not the first of their process
_SLICE_BEHIND_S = 0.5
_MOST_PARTS = 1024


class _Claim:
    """One caller's wish for a permit, and what has come of it. Changed under the host-wide lock only."""

    __slots__ = ("taken", "ticket")

    def __init__(self, *, taken: bool = False) -> None:
        self.taken = taken
        self.ticket = 0


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


def open_semaphore(attachment: Attachment, name: bytes, permits: int, title: str) -> Semaphore:
    """A semaphore of this name; ``PlaneMismatch`` when it is in use with another count."""
    attachment.run(_open, attachment, name, permits, title)
    return Semaphore(attachment, name, permits, title)


def _open(attachment: Attachment, name: bytes, permits: int, title: str) -> None:
    coordination = attachment.tx.coordination
    coordination.take_part()
    row = _open_row(attachment, name, permits)
    if coordination.permits(row) != permits and reap_dead(attachment):
        # Whoever used it with the other count may have been killed.
        row = coordination.open(name, permits)
    if coordination.permits(row) != permits:
        raise PlaneMismatch(
            f"{title} has {coordination.permits(row)} permits and is in use, asked for {permits}. Use the same count, "
            f"or change it with resize().",
            asked=permits,
            found=coordination.permits(row),
        )


def _open_row(attachment: Attachment, name: bytes, permits: int) -> int:
    """The row of a semaphore; when all are in use, what dead processes held comes back first."""
    coordination = attachment.tx.coordination
    try:
        return coordination.open(name, permits)
    except PlaneFull:
        if not reap_dead(attachment):
            raise
        return coordination.open(name, permits)


def _part(attachment: Attachment, name: bytes, permits: int) -> LocalPart:
    """This process's part, under the lock; the row may have been given to another name while nobody used it."""
    coordination = attachment.tx.coordination
    part = attachment.semaphores.get(name)
    if part is None or not coordination.is_current(part.row, part.generation):
        coordination.take_part()
        row = coordination.find(name)
        if row < 0:
            row = _open_row(attachment, name, permits)
        if len(attachment.semaphores) > _MOST_PARTS:
            _forget_parts(attachment)
        part = attachment.semaphores[name] = LocalPart(name, row, coordination.generation(row))
    return part


def _forget_parts(attachment: Attachment) -> None:
    """Forget idle parts whose row has gone to another name since."""
    coordination = attachment.tx.coordination
    for name, part in list(attachment.semaphores.items()):
        if part.is_idle and not coordination.is_current(part.row, part.generation):
            del attachment.semaphores[name]


def finish(attachment: Attachment, operation: Callable[..., Any], *args: Any) -> Any:
    """``attachment.run`` of what must come to its end: once more if Ctrl-C came in between, before that goes on.

    ``operation`` knows by its arguments what it has done already.
    """
    try:
        return attachment.run(operation, *args)
    except ShmplaneError:
        raise
    except BaseException:
        attachment.run(operation, *args)
        raise


def check_timeout(timeout: float | None) -> None:
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout is a time of 0 or more seconds, or None for ever; not {timeout}")


class Semaphore:
    """At most ``permits`` holders over all processes of the host; a lock is one with a single permit.

    Waiters of all processes and threads are served in the order in which they came. Permits belong to the process: any of
    its threads may release them. A killed process's permits come back by themselves. Not re-entrant.

    Cost: acquiring a free permit and releasing it is one short hold of the plane's lock each.
    """

    def __init__(self, attachment: Attachment, name: bytes, permits: int, title: str) -> None:
        self._attachment, self._name, self._permits, self._title = attachment, name, permits, title

    # Taking

    def try_acquire(self) -> bool:
        """Take a permit if one is free and nobody waits; never blocks."""
        claim = _Claim()
        try:
            self._attachment.run(self._take, claim, False)
        except BaseException:
            self._withdraw(claim)
            raise
        return claim.taken

    def acquire(self, timeout: float | None = None) -> None:
        """Take a permit, waiting in line for it.

        Args:
            timeout: seconds; None: for ever; 0: not at all.

        Raises:
            LockTimeout: none came free in time; it names who holds them.
            ClosedError: the plane was destroyed meanwhile.
        """
        check_timeout(timeout)
        claim = _Claim()
        try:
            for sequence, seconds in self._tries(claim, timeout):
                wait_for_change(self._attachment.wake_address(), sequence, seconds)
        except BaseException:
            self._withdraw(claim)
            raise

    def acquire_unless(self, stop: Callable[[], bool], timeout: float) -> bool:
        """``acquire`` that gives up with False when time is over or ``stop()`` is true, asked ten times a second."""
        claim = _Claim()
        try:
            for sequence, seconds in self._tries(claim, timeout):
                if stop():
                    break
                wait_for_change(self._attachment.wake_address(), sequence, min(seconds, SLICE_S))
        except LockTimeout:
            pass
        except BaseException:
            self._withdraw(claim)
            raise
        if not claim.taken:
            self._withdraw(claim)
        return claim.taken

    async def acquire_async(self, timeout: float | None = None) -> None:
        """``acquire`` for asyncio: waits without a thread of its own; a cancelled wait leaves its place in the line.

        Raises:
            RuntimeError: this is another event loop than asyncio's.
        """
        check_timeout(timeout)
        loop = running_loop()
        claim = _Claim()
        try:
            for sequence, seconds in self._tries(claim, timeout):
                await self._attachment.waker.wait(loop, sequence, seconds, partial(self._is_next, claim))
        except BaseException:
            self._withdraw(claim)
            raise

    def _tries(self, claim: _Claim, timeout: float | None) -> Iterator[tuple[int, float]]:
        """Try until the permit is taken; between two tries, the wake word to wait on and for how long at most."""
        run = self._attachment.run
        deadline = None if timeout is None else time.monotonic() + timeout
        sequence = run(self._take, claim, True)
        while not claim.taken:
            left = _SLICE_BEHIND_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise self._timed_out(claim, timeout)
            yield sequence, min(left, SLICE_S if self._is_next(claim) else _SLICE_BEHIND_S)
            sequence = run(self._take, claim, True)

    def _is_next(self, claim: _Claim) -> bool:
        """Whether it is first in this process's line; a hint, without the lock. Who leaves the line wakes the next one."""
        part = self._attachment.semaphores.get(self._name)
        try:
            return part is None or part.waiters[0] is claim
        except IndexError:
            return True

    def _take(self, claim: _Claim, waits: bool) -> int:
        """Under the lock: take a permit if it is this claim's turn, else stand in line; returns the wake word to watch."""
        attachment, coordination = self._attachment, self._attachment.tx.coordination
        part = _part(attachment, self._name, self._permits)
        ahead = len(part.waiters)
        if claim.ticket:
            attachment.reap_if_due()
            if claim in part.waiters:
                ahead = part.waiters.index(claim)
            else:
                claim.ticket = 0
        if coordination.try_take(part.row, claim.ticket or NO_TICKET, ahead):
            # These two stores are what this process knows, also when Ctrl-C comes next.
            part.held += 1
            claim.taken = True
            if claim.ticket:
                self._leave_line(part, claim)
            return 0
        if waits and not claim.ticket:
            claim.ticket = coordination.new_ticket()
            part.waiters.append(claim)
        if waits and part.waiters[0] is claim:
            coordination.show_ticket(part.row, claim.ticket)
        return coordination.sequence()

    def _leave_line(self, part: LocalPart, claim: _Claim) -> None:
        coordination = self._attachment.tx.coordination
        part.waiters.remove(claim)
        claim.ticket = 0
        coordination.show_ticket(part.row, part.waiters[0].ticket if part.waiters else 0)
        # It may have been woken for a permit that it does not take, or the next one has a permit waiting too.
        if coordination.free(part.row) > 0:
            coordination.offer(part.row)

    def _withdraw(self, claim: _Claim) -> None:
        """The call that made the claim fails: leave the line, and give back what was taken all the same."""
        if claim.ticket or claim.taken:
            with contextlib.suppress(ClosedError):
                finish(self._attachment, self._let_go, claim)
        self._attachment.leave_if_idle()

    def _timed_out(self, claim: _Claim, timeout: float | None) -> LockTimeout:
        """Leave the line; what to raise for it."""
        pids = self._attachment.run(self._give_up, claim)
        return LockTimeout(
            f"{self._title} was not free within {timeout:g} s; held by process "
            f"{', '.join(map(str, pids)) or '(nobody any more)'}. Wait longer, or have it released earlier.",
            timeout=timeout,
            holders=pids,
        )

    def _give_up(self, claim: _Claim) -> list[int]:
        """Under the lock: leave the line; the pids of those who hold permits."""
        attachment = self._attachment
        self._let_go(claim)
        row = attachment.tx.coordination.find(self._name)
        holders = attachment.tx.coordination.holders(row) if row >= 0 else {}
        return [attachment.manifest.processes.pid[slot] for slot in holders]

    # Giving back

    def release(self) -> None:
        """Give a permit of this process back, from any thread; ``RuntimeError`` when it holds none."""
        if not finish(self._attachment, self._let_go, _Claim(taken=True)):
            raise RuntimeError(f"{self._title} is not held by this process, so it cannot be released")
        self._attachment.leave_if_idle()

    def _let_go(self, claim: _Claim) -> bool:
        """Under the lock: leave the line and give the permit back, whichever applies; whether there was a permit."""
        part = self._attachment.semaphores.get(self._name)
        if part is None:
            return False
        if claim.ticket and claim in part.waiters:
            self._leave_line(part, claim)
        if not (claim.taken and part.held):
            return False
        part.held -= 1
        claim.taken = False
        self._attachment.tx.coordination.give(part.row)
        return True

    def resize(self, permits: int) -> None:
        """Change the count for everybody; a smaller one takes effect as permits come back."""
        check_permits(permits)
        self._attachment.run(self._resize, permits)
        self._permits = permits

    def _resize(self, permits: int) -> None:
        part = _part(self._attachment, self._name, permits)
        self._attachment.tx.coordination.resize(part.row, permits)

    # Looking

    @property
    def permits(self) -> int:
        """How many may be held in all."""
        return int(self._attachment.run(self._count, "permits", writes=False))

    @property
    def available(self) -> int:
        """How many are free now, over all processes."""
        return max(0, int(self._attachment.run(self._count, "free", writes=False)))

    def waiting_elsewhere(self) -> int:
        """How many other processes wait for a permit now."""
        return int(self._attachment.run(self._count_waiting, writes=False))

    def _count_waiting(self) -> int:
        coordination = self._attachment.tx.coordination
        row = coordination.find(self._name)
        return 0 if row < 0 else coordination.waiting_elsewhere(row)

    def _count(self, what: str) -> int:
        coordination = self._attachment.tx.coordination
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
