"""Host-wide semaphores and locks, in the order of arrival, safe against the death of whoever holds them.

The shared part (permits and tickets as rows of processes) is in the manifest; here is this process's part: its waiters in
their order, and how many permits it knows it holds. All ``Semaphore`` objects of a name share one such part.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from ..errors import LockTimeout, PlaneMismatch
from ..system import wait_for_change

if TYPE_CHECKING:
    from types import TracebackType

    from .attachment import Attachment

__all__ = ["LocalPart", "Semaphore", "check_timeout", "open_semaphore"]

#: the longest sleep without a look at who is still alive
SLICE_S = 0.1


class _Waiter:
    __slots__ = ("ticket",)

    def __init__(self, ticket: int) -> None:
        self.ticket = ticket


class LocalPart:
    """What this process holds of one semaphore, and who waits for it here. Changed under the host-wide lock only."""

    def __init__(self, name: bytes, row: int, generation: int) -> None:
        self.name, self.row, self.generation = name, row, generation
        self.held = 0
        self.waiters: deque[_Waiter] = deque()

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
    row = coordination.open(name, permits)
    if coordination.permits(row) != permits:
        raise PlaneMismatch(
            f"{title} has {coordination.permits(row)} permits and is in use, asked for {permits}. Use the same count, "
            f"or change it with resize().",
            asked=permits,
            found=coordination.permits(row),
        )


def _part(attachment: Attachment, name: bytes, permits: int) -> LocalPart:
    """This process's part, under the lock; the row may have been given to another name while nobody used it."""
    coordination = attachment.tx.coordination
    part = attachment.semaphores.get(name)
    if part is None or not coordination.is_current(part.row, part.generation):
        coordination.take_part()
        row = coordination.find(name)
        if row < 0:
            row = coordination.open(name, permits)
        part = attachment.semaphores[name] = LocalPart(name, row, coordination.generation(row))
    return part


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
        return bool(self._attachment.run(self._take, None)[0])

    def acquire(self, timeout: float | None = None) -> None:
        """Take a permit, waiting in line for it.

        Args:
            timeout: seconds; None: for ever; 0: not at all.

        Raises:
            LockTimeout: none came free in time; it names who holds them.
            ClosedError: the plane was destroyed meanwhile.
        """
        check_timeout(timeout)
        attachment = self._attachment
        if attachment.run(self._take, None)[0]:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        waiter = _Waiter(0)
        taken = False
        try:
            while not taken:
                taken, sequence = attachment.run(self._take, waiter)
                if not taken:
                    left = SLICE_S if deadline is None else deadline - time.monotonic()
                    if left <= 0:
                        raise self._timed_out(timeout)
                    wait_for_change(attachment.wake_address(), sequence, min(left, SLICE_S))
        finally:
            if not taken:
                self._leave_line(waiter)

    async def acquire_async(self, timeout: float | None = None) -> None:
        """``acquire`` for asyncio: waits without a thread of its own; a cancelled wait leaves its place in the line."""
        check_timeout(timeout)
        attachment = self._attachment
        if attachment.run(self._take, None)[0]:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        waiter = _Waiter(0)
        taken = False
        try:
            while not taken:
                taken, sequence = attachment.run(self._take, waiter)
                if not taken:
                    left = SLICE_S if deadline is None else deadline - time.monotonic()
                    if left <= 0:
                        raise self._timed_out(timeout)
                    await attachment.waker.wait(sequence, min(left, SLICE_S))
        finally:
            if not taken:
                self._leave_line(waiter)

    def _take(self, waiter: _Waiter | None) -> tuple[bool, int]:
        """Under the lock: take a permit if it is this waiter's turn, else stand in line; with the wake word to watch."""
        attachment, coordination = self._attachment, self._attachment.tx.coordination
        part = _part(attachment, self._name, self._permits)
        ahead = len(part.waiters)
        if waiter is not None and waiter.ticket:
            attachment.reap_if_due()
            ahead = part.waiters.index(waiter)
        elif waiter is not None:
            waiter.ticket = coordination.new_ticket()
            part.waiters.append(waiter)
            coordination.show_ticket(part.row, part.waiters[0].ticket)
        ticket = waiter.ticket if waiter is not None else 0
        if not coordination.try_take(part.row, ticket, ahead):
            return False, coordination.sequence()
        part.held += 1
        if waiter is not None:
            self._remove(part, waiter)
        return True, 0

    def _remove(self, part: LocalPart, waiter: _Waiter) -> None:
        coordination = self._attachment.tx.coordination
        part.waiters.remove(waiter)
        coordination.show_ticket(part.row, part.waiters[0].ticket if part.waiters else 0)
        # It may have been woken for a permit that it does not take, or the next one has a permit waiting too.
        if coordination.free(part.row) > 0:
            coordination.offer(part.row)

    def _leave_line(self, waiter: _Waiter) -> None:
        if self._attachment.ended is None:
            self._attachment.run(self._leave, waiter)

    def _leave(self, waiter: _Waiter) -> None:
        part = self._attachment.semaphores.get(self._name)
        if part is not None and waiter in part.waiters:
            self._remove(part, waiter)

    def _timed_out(self, timeout: float | None) -> LockTimeout:
        pids = self._attachment.run(self._holder_pids, writes=False)
        return LockTimeout(
            f"{self._title} was not free within {timeout:g} s; held by process "
            f"{', '.join(map(str, pids)) or '(nobody any more)'}. Wait longer, or have it released earlier.",
            timeout=timeout,
            holders=pids,
        )

    def _holder_pids(self) -> list[int]:
        attachment = self._attachment
        row = attachment.tx.coordination.find(self._name)
        holders = attachment.tx.coordination.holders(row) if row >= 0 else {}
        return [attachment.manifest.processes.pid[slot] for slot in holders]

    # Giving back

    def release(self) -> None:
        """Give a permit of this process back, from any thread; ``RuntimeError`` when it holds none."""
        if not self._attachment.run(self._give):
            raise RuntimeError(f"{self._title} is not held by this process, so it cannot be released")
        self._attachment.leave_if_idle()

    def _give(self) -> bool:
        part = self._attachment.semaphores.get(self._name)
        if part is None or not part.held:
            return False
        part.held -= 1
        self._attachment.tx.coordination.give(part.row)
        return True

    def resize(self, permits: int) -> None:
        """Change the count for everybody; a smaller one takes effect as permits come back."""
        check_permits(permits)
        self._permits = permits
        self._attachment.run(self._resize, permits)

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

    def _count(self, what: str) -> int:
        coordination = self._attachment.tx.coordination
        row = coordination.find(self._name)
        return self._permits if row < 0 else int(getattr(coordination, what)(row))

    def __repr__(self) -> str:
        return f"<{self._title}>"

    def __enter__(self) -> Semaphore:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Semaphore:
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
