"""Host-wide semaphores and locks, in the order of arrival, safe against the death of whoever holds them.

The shared part (permits and tickets as rows of processes) is in the manifest; this process's part, its waiters in their
order and the permits it holds, in ``claims``. All ``Semaphore`` objects of a name share one such part.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

from ...errors import LockTimeout, PlaneMismatch
from ...system import NOT_HAD
from ..process.patience import is_in_event_loop, moment, patience
from ..process.reclaim import reclaim_dead
from .claims import Claim, LocalPermits, permits_of
from .waiting import Closing, cannot_travel, check_timeout, look_once, open_row, wait_for, wait_for_async

if TYPE_CHECKING:
    from types import TracebackType

    from ...manifest import Transaction
    from ..process.attachment import Attachment

__all__ = ["Semaphore", "check_permits", "open_semaphore"]

_MOST_PARTS = 1024


def open_semaphore(attachment: Attachment, name: bytes, permits: int, *, title: str, closing: Closing) -> Semaphore:
    """A semaphore of this name; ``PlaneMismatch`` when it is in use with another count."""
    semaphore = Semaphore(attachment, name, permits, title=title, closing=closing)
    semaphore.check()
    return semaphore


def _forget_parts(tx: Transaction, attachment: Attachment, kept: LocalPermits) -> None:
    """Forget idle parts whose row has gone to another name since."""
    coordination = tx.coordination
    for name, part in list(permits_of(attachment).parts.items()):
        if part is not kept and part.is_idle and not coordination.is_current(part.row, part.generation):
            del permits_of(attachment).parts[name]


class _Ending(property):
    """What ends a block; ``ExitStack`` takes it from the class and calls that."""

    def __call__(self, semaphore: Semaphore, *error: object) -> object:
        return self.__get__(semaphore)(*error)


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
        #: of this process, by name
        self._parts = parts = permits_of(attachment).parts
        part = parts.get(name)
        self._use(parts.setdefault(name, LocalPermits(attachment, name, title)) if part is None else part)

    # Taking

    def try_acquire(self) -> bool:
        """Take a permit if one is free and nobody waits; never blocks.

        False as well when the plane's own lock was not to be had within 20 ms (in an event loop 4 ms).
        """
        self._refuse_if_closed()
        return self.take_if_free()

    def take_if_free(self) -> bool:
        """``try_acquire``, whether or not the ``Plane`` object is open."""
        claim = Claim(self, waits=False)
        look_once(claim)
        return claim.is_done

    def acquire(self, timeout: float | None = None) -> None:
        """Take a permit, waiting in line for it.

        Args:
            timeout: seconds; None: for ever; 0: not at all.

        Raises:
            LockTimeout: none came free in time; it names who holds them, or who has held the plane's own lock for so long.
            ClosedError: the plane was destroyed, or the ``Plane`` object of this semaphore closed, meanwhile.
        """
        if timeout is not None:
            check_timeout(timeout)
        if self._closing.closed:
            raise self._closing.error()
        claim = Claim(self)
        if not wait_for(claim, timeout):
            raise self._in_vain(timeout)

    def take_in_time(self, timeout: float) -> bool:
        """``acquire`` that returns False when time is over or what it waits through was closed."""
        return wait_for(Claim(self), timeout)

    async def acquire_async(self, timeout: float | None = None) -> None:
        """``acquire`` for asyncio: waits without a thread of its own; a cancelled wait leaves its place in the line.

        Raises:
            RuntimeError: this is another event loop than asyncio's.
        """
        check_timeout(timeout)
        self._refuse_if_closed()
        claim = Claim(self)
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
        coordination.back_rows()
        row = open_row(tx, attachment, coordination.open, self._name, permits)
        if coordination.permits(row) != permits and reclaim_dead(tx, attachment):
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
        self._use(self._local)

    def _part(self, tx: Transaction) -> LocalPermits:
        """This process's part; the row may have been given to another name while nobody used it."""
        if not self._is_checked:
            self._check(tx)
        attachment, coordination = self._attachment, tx.coordination
        part = self._parts.setdefault(self._name, self._local)
        if part is not self._local or self._core is not attachment.core:
            self._use(part)  # ours was forgotten, or this process was forked
        if not coordination.is_current(part.row, part.generation):
            coordination.back_rows()
            row = coordination.find(self._name)
            if row < 0:
                row = open_row(tx, attachment, coordination.open, self._name, self._permits)
            if len(self._parts) > _MOST_PARTS:
                _forget_parts(tx, attachment, part)
            part.place(row, coordination.generation(row))
        return part

    def _use(self, part: LocalPermits) -> None:
        # The core does not check first.
        self._local, self._core = part, self._attachment.core if self._is_checked else None
        # No cycle: what the core makes refers to the part, and that to neither.
        self._look, self.release, self._release_later = part.by_core(self._core, self._attachment.opens)  # type: ignore[method-assign]

    # Giving back

    def release(self) -> None:
        """Give a permit of this process back, from any thread; ``RuntimeError`` when it holds none.

        Never blocks: when the plane's own lock is not to be had within 20 ms (in an event loop 4 ms), the permit is given
        back a little later. Nor is it lost when a signal handler raises meanwhile.
        """
        # Of each object this is the part's own, which is C code up to where nothing can be lost any more.
        self._local.release()

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

    def __reduce__(self) -> tuple[Any, ...]:
        raise cannot_travel(self._title, "plane.lock(name), or plane.semaphore(name, permits)")

    def __repr__(self) -> str:
        return f"<{self._title}>"

    def __enter__(self) -> Self:
        self.acquire()
        return self

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
        ) -> None: ...
        async def __aexit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
        ) -> None: ...
    else:
        # Looked up when the block is entered. No Python code of ours begins the end of a block.
        __exit__ = _Ending(attrgetter("release"))
        __aexit__ = _Ending(attrgetter("_release_later"))


def check_permits(permits: object) -> None:
    if isinstance(permits, bool) or not isinstance(permits, int):
        raise TypeError(f"permits is an int, not {type(permits).__name__}")
    if not 1 <= permits < 2**31:
        raise ValueError(f"a semaphore has at least 1 permit, not {permits}")
