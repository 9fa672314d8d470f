"""The pool for asyncio.

Rule 1. Decisions run in the loop's thread without an await inside, so nothing can come in between; what may have to wait
for the plane's lock is done by the host thread.
Rule 2. What must not be cancelled (closes, resets) runs in tasks of its own.
Rule 3. A cancelled caller leaves nothing behind to be awaited: what it was handed goes to the next waiter or is closed by a
task of the pool. No ``asyncio.wait_for``, which loses results on Python 3.11.
"""

from __future__ import annotations

import asyncio
import math
from _thread import get_ident
from collections.abc import Awaitable, Callable
from functools import partial
from sys import _getframe
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from ..scopes import finish_on_asyncio
from ..system import own
from . import reports
from .base import CLOSE_GRACE, SHORTEST_SLEEP, BasePool, Decision
from .forks import SAME_PROCESS, begin_again_if_forked
from .records import BUSY, OUT, Outcome, Taken, Waiter
from .roster import Roster
from .settings import Options, Timeout, deadline_of
from .tasks import Tasks, result_of

__all__ = ["AsyncConnectionPool"]

T = TypeVar("T")

LEAST_GRACE = 0.5  #: seconds that ``close`` gives the plane for its last counts, whatever its own ``grace``
CHECK_GRACE = 1.0  #: seconds that a check has at least, however near the deadline


class AsyncConnectionPool(BasePool[T]):
    """A pool of connections of any kind, for the tasks of one asyncio event loop.

    The parameters are those of ``ConnectionPool``; every callable may be plain (it runs in the event loop, so
    it must not block) or return an awaitable. The pool belongs to the loop of its first use.

    Raises:
        RuntimeError: used outside asyncio, or in another event loop than at first.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(self, connect: Callable[..., Awaitable[T]], **options: Unpack[Options[T]]) -> None: ...
        @overload
        def __init__(self, connect: Callable[..., T], **options: Unpack[Options[T]]) -> None: ...
        def __init__(self, connect: Callable[..., Any], **options: Any) -> None: ...

    def _begin(self) -> None:
        super()._begin()
        self._engine: Tasks = Tasks(self)

    def connection(self, timeout: Timeout = ...) -> AsyncBorrow[T]:
        """``async with pool.connection() as conn:``; after a cancellation, too, it is closed unless ``reset`` succeeds."""
        return AsyncBorrow(self, timeout)

    async def acquire(self, timeout: Timeout = ...) -> T:
        """``ConnectionPool.acquire`` for a task; a cancelled one leaves nothing taken."""
        frame = _getframe(1)
        engine = self._engine
        if (
            timeout is ...
            and self._check is None
            and get_ident() == engine.thread
            and engine.is_running()
            and SAME_PROCESS[0]
        ):
            conn = self._roster.take(monotonic(), (frame.f_code, frame.f_lasti, None))
            if conn is not None:
                return conn  # type: ignore[no-any-return]
        return await self._acquire_slowly(timeout, (frame.f_code, frame.f_lasti, None))

    async def release(self, conn: T, *, broken: bool = False) -> None:
        """``ConnectionPool.release``, always done to its end, however often it is cancelled."""
        if self._reset is None and not broken:
            roster = self._roster
            member = roster.members.get(id(conn))
            if member is not None and member.state == OUT and not self._drops:
                if not roster.give(member, conn, monotonic()):
                    self._carry_out(roster.plan(monotonic()))
                return
        await self._release_slowly(conn, broken=broken)

    async def wait(self, timeout: Timeout = ...) -> None:
        """Wait until ``min_size`` connections are open; ``PoolTimeout`` when they were not in time."""
        self._bind()
        deadline = deadline_of(timeout, self._settings, monotonic())
        self._refuse_if_closed()
        waiter = self._engine.new_waiter(monotonic())
        self._roster.until_ready.append(waiter)
        try:
            self._decide(Roster.start, begins=True)
            await self._engine.sleep_until_done(waiter, deadline)
        finally:
            if not waiter.done:
                self._roster.until_ready.remove(waiter)
        if waiter.refused:
            raise self._refusal(waiter)
        if not waiter.done:
            raise self._timeout_error(waiter)

    async def drain(self) -> None:
        """Replace all connections: idle ones now, the others as they return."""
        self._bind()
        await finish_on_asyncio(self._drain())

    async def _drain(self) -> None:
        await _all(self._decide(Roster.drain))

    async def close(self, grace: float | None = 5.0) -> None:
        """Refuse callers, close idle connections, wait up to ``grace`` seconds for those in use.

        Whatever comes back later is closed then. Safe to call again; done to its end although cancelled.
        """
        deadline = deadline_of(grace, self._settings, monotonic())
        if self._engine.loop is None:
            self._roster.shut(monotonic())
            return
        self._bind()
        await finish_on_asyncio(self._shut(deadline))

    async def _shut(self, deadline: float) -> None:
        roster = self._roster
        self._decide(Roster.shut)
        self._engine.cancel()
        if roster.size:
            waiter = self._engine.new_waiter(monotonic())
            roster.until_empty.append(waiter)
            await self._engine.sleep_until_done(waiter, deadline)
        self._engine.set_timer(None)
        self._say_goodbye()
        # Others see the last counts, and the permits are free, when this returns; unless the plane keeps us waiting.
        said = asyncio.Event()
        self._engine.ask_host(self._figures.publish, lambda _: said.set())
        patience = min(CLOSE_GRACE, max(deadline - monotonic(), LEAST_GRACE))
        try:
            async with asyncio.timeout(patience):
                await said.wait()
        except own(TimeoutError):
            reports.log.warning("pool %r: its plane did not answer within %g s", self.name, patience)

    async def __aenter__(self) -> Self:
        self._bind()
        self._refuse_if_closed()
        self._decide(Roster.start, begins=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- taking, when it is not at once

    async def _acquire_slowly(self, timeout: Timeout, taken: Taken) -> T:
        begin_again_if_forked()
        self._bind()
        began = monotonic()
        deadline = deadline_of(timeout, self._settings, began)
        failed_checks = 0
        while True:
            conn = self._roster.take(monotonic(), taken)
            if conn is None:
                waiter = self._engine.new_waiter(began, taken)
                conn = await self._wait_for_one(waiter, deadline, first=failed_checks > 0)
            if await self._passes_check(conn, deadline):
                return conn  # type: ignore[no-any-return]
            failed_checks += 1

    async def _wait_for_one(self, waiter: Waiter, deadline: float, *, first: bool) -> Any:
        self._refuse_if_closed()
        roster = self._roster
        if roster.is_full() and not first:
            roster.tally.refused += 1
            self._decide(lambda roster, now: roster.plan(now, refused=1), begins=True)
            raise reports.full_error(self.name, roster)
        try:
            self._decide(lambda roster, now: roster.queue(waiter, now, first=first), begins=True)
            await self._engine.sleep_until_done(waiter, deadline)
            conn = roster.receive(waiter)
            if conn is not None:
                return conn
            if waiter.refused or roster.closed:
                raise self._refusal(waiter)
            raise self._timeout_error(waiter)
        except BaseException:
            # Timed out or cancelled: leave the queue, and pass on what came in the meantime.
            self._decide(lambda roster, now: roster.abandon(waiter, now))
            raise

    async def _passes_check(self, conn: Any, deadline: float) -> bool:
        if self._check is None:
            return True
        member = self._member_of(conn)
        if member.fresh:
            return True
        passed = False
        left = None if math.isinf(deadline) else max(deadline - monotonic(), CHECK_GRACE)
        try:
            async with asyncio.timeout(left):
                passed = await result_of(self._check(conn)) is not False
        except own(Exception) as error:
            reports.log.info("pool %r: a connection failed its check: %s", self.name, repr(error))
        finally:
            if not passed:
                # Also when cancelled: nobody knows what state the check left it in.
                self._end_use(member, conn, was=OUT, taken=member.taken, then=self._roster.discard)
        return passed

    # -- giving back, when there is more to do than that

    async def _release_slowly(self, conn: T, *, broken: bool = False, failed: bool = False) -> None:
        begin_again_if_forked()
        if self._is_inherited(conn):
            return
        self._book_drops()
        member = self._member_of(conn)
        self._bind()
        member.conn = conn
        member.state = BUSY
        closing: list[asyncio.Task[Any]] = []

        def book(outcome: Outcome) -> None:
            if outcome.error is not None:
                reports.log.warning(
                    "pool %r: reset failed: %s; the connection is closed", self.name, repr(outcome.error)
                )
            fit = outcome.error is None and outcome.value is not False
            closing.extend(self._decide(lambda roster, now: roster.settle(member, now, fit=fit)))

        jobs = []
        if self._reset is None or broken:
            book(Outcome(not broken and not failed, None))
        else:
            jobs = [self._engine.run(partial(self._reset, conn), book, must_finish=True, grace=CLOSE_GRACE)]
        if jobs or closing:
            await finish_on_asyncio(_all(jobs, closing))

    # -- carrying out

    def _bind(self) -> None:
        begin_again_if_forked()
        self._engine.bind()

    def _decide(self, decision: Decision, *, begins: bool = False) -> list[asyncio.Task[Any]]:
        return self._decide_here(decision, begins=begins)

    def _is_lost(self) -> bool:
        return self._engine.is_lost()

    def _sweep_in_loop(self) -> None:
        self._engine.set_timer(SHORTEST_SLEEP)  # should this round fail
        self._engine.set_timer(self._sweep())


async def _all(*groups: list[asyncio.Task[Any]]) -> None:
    """Wait for the tasks of each group; a group may grow while an earlier one is waited for."""
    for group in groups:
        if group:
            await asyncio.wait(group)


class AsyncBorrow(Generic[T]):
    """The block in which a connection is used."""

    __slots__ = ("_conn", "_pool", "_timeout")

    def __init__(self, pool: AsyncConnectionPool[T], timeout: Timeout) -> None:
        self._pool = pool
        self._timeout = timeout

    async def __aenter__(self) -> T:
        pool, frame = self._pool, _getframe(1)
        taken = (frame.f_code, frame.f_lasti, None)
        engine = pool._engine
        if (
            self._timeout is ...
            and pool._check is None
            and get_ident() == engine.thread
            and engine.is_running()
            and SAME_PROCESS[0]
        ):
            conn = pool._roster.take(monotonic(), taken)
            if conn is not None:
                self._conn: T = conn
                return self._conn
        self._conn = await pool._acquire_slowly(self._timeout, taken)
        return self._conn

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            await self._pool.release(self._conn)
        else:
            await self._pool._release_slowly(self._conn, failed=True)
