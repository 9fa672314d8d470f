"""The pool for asyncio, where it is not hot: waiting, checking, and carrying out what the roster decided.

Rule 1. No lock: decisions run in the loop's thread without an await inside, so nothing can come in between.
Rule 2. What must not be cancelled (connects, closes, resets) runs in tasks of its own, and their outcome is
booked by a callback: a task that is cancelled before its first step never runs its ``finally``.
Rule 3. A cancelled caller leaves nothing behind to be awaited: what it was handed goes to the next waiter
or is closed by a task of the pool. No ``asyncio.wait_for``, which loses results on Python 3.11.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import weakref
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from shmplane.connections import holders
from shmplane.connections.aio_loop import LoopBound
from shmplane.connections.housekeeping import due, sweep
from shmplane.connections.member import BUSY, NOWHERE, OUT, Member, Plan, Taken, Waiter
from shmplane.connections.permits import PermitSeeker
from shmplane.connections.settings import Timeout, deadline_of
from shmplane.scopes import finish_on_asyncio

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmplane.errors import PoolTimeout

__all__ = ["AsyncShell"]

T = TypeVar("T")

CLOSE_GRACE = 10.0  #: seconds for a connection's goodbye or reset; then the task is cancelled
CHECK_GRACE = 1.0  #: seconds that a check has at least, however near the deadline
SHORTEST_SLEEP = 0.02  #: seconds between two rounds of housekeeping, at least


class AsyncShell(LoopBound[T]):
    """What ``AsyncConnectionPool`` does when there is more to it than handing out."""

    # -- taking

    async def _acquire_slowly(self, timeout: Timeout, taken: Taken) -> T:
        self._bind()
        began = monotonic()
        deadline = deadline_of(timeout, self._settings, began)
        failed_checks = 0
        while True:
            conn = self._roster.take(monotonic(), taken)
            if conn is None:
                waiter = self._new_waiter(began, taken)
                conn = await self._wait_for_one(waiter, deadline, first=failed_checks > 0)
            if await self._passes_check(conn, deadline):
                return conn  # type: ignore[no-any-return]
            failed_checks += 1

    async def _wait_for_one(self, waiter: Waiter, deadline: float, *, first: bool) -> Any:
        self._refuse_if_hopeless()
        roster = self._roster
        if roster.is_full() and not first:
            roster.tally.refused += 1
            self._begin_work(roster.plan(monotonic(), refused=1))
            raise holders.full_error(self.name, roster)
        try:
            self._begin_work(roster.queue(waiter, monotonic(), first=first))
            await self._sleep_until_done(waiter, deadline)
            conn = roster.collect(waiter)
            if conn is not None:
                return conn
            self._refuse_if_closed()
            raise self._timeout_error(waiter)
        except BaseException:
            # Timed out or cancelled: leave the queue, and pass on what came in the meantime.
            self._carry_out(roster.abandon(waiter, monotonic()))
            raise

    async def _sleep_until_done(self, waiter: Waiter, deadline: float) -> None:
        left = deadline - monotonic()
        if waiter.done or left <= 0:
            return
        loop = asyncio.get_running_loop()
        timer = None if math.isinf(left) else loop.call_later(left, _wake, waiter)
        try:
            await waiter.wake
        finally:
            if timer is not None:
                timer.cancel()

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
                passed = await _result(self._check(conn)) is not False
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.info("pool %r: a connection failed its check: %r", self.name, error)
        finally:
            if not passed:
                # Also when cancelled: nobody knows what state the check left it in.
                member.conn = conn
                self._carry_out(self._roster.discard(member, monotonic()))
        return passed

    # -- giving back

    async def _release_slowly(self, conn: T, *, broken: bool = False, failed: bool = False) -> None:
        if self._is_inherited(conn):
            return
        self._settle_drops()
        member = self._member_of(conn)
        if member.state != OUT:
            raise ValueError(f"{conn!r} was released to pool {self.name!r} before: release it once")
        self._bind()
        member.conn = conn
        member.state = BUSY
        reset = None if broken else self._reset
        closing: list[asyncio.Task[Any]] = []

        def book(*, fit: bool) -> None:
            closing.extend(self._carry_out(self._roster.settle(member, monotonic(), fit=fit)))

        if reset is None:
            book(fit=not broken and not failed)
            job = None
        else:
            job = self._spawn(self._passes_reset(reset, conn), hidden=True)
            job.add_done_callback(lambda done: book(fit=_passed(done)))
        if job or closing:
            await finish_on_asyncio(_after(job, closing))

    async def _passes_reset(self, reset: Callable[[T], Any], conn: T) -> bool:
        try:
            async with asyncio.timeout(CLOSE_GRACE):
                return await _result(reset(conn)) is not False
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.warning("pool %r: reset failed: %r; the connection is closed", self.name, error)
            return False

    # -- carrying out

    def _begin_work(self, plan: Plan) -> None:
        if self._timer is None and not self._roster.closed:
            self._sweep()
        self._carry_out(plan)
        self._seek_permit()

    def _carry_out(self, plan: Plan | None) -> list[asyncio.Task[Any]]:
        """Do what was decided; returns the tasks that close connections."""
        self._settle_drops()
        if not plan:
            return []
        for waiter in plan.woken:
            _wake(waiter)
        for _ in range(plan.connect):
            self._start_connect(permitted=False)
        self._report_leaks(plan.leaks)
        for member in plan.check:
            self._keep_alive(member)
        return [self._close_member(member) for member in plan.close]

    def _start_connect(self, *, permitted: bool) -> None:
        try:
            permits = self._open_permits()
            permitted = permitted or permits is None or permits.try_acquire()
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.warning("pool %r: connecting failed: %r", self.name, error)
            self._carry_out(self._roster.failed(error, monotonic()))
            self._set_timer()
            return
        if not permitted:
            self._carry_out(self._roster.unpermitted(monotonic()))
            self._seek_permit()
            return
        started = monotonic()
        task = self._spawn(self._open(), hidden=False)
        self._connects.add(task)
        task.add_done_callback(lambda done: self._connected(done, monotonic() - started))

    def _connected(self, done: asyncio.Task[Any], took: float) -> None:
        self._connects.discard(done)
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            self._carry_out(self._roster.opened(done.result(), monotonic(), took))
            return
        holders.log.warning("pool %r: connecting failed: %r", self.name, error)
        self._give_permit_back()
        plan = self._roster.failed(error, monotonic())
        self._carry_out(plan)
        self._set_timer()

    async def _open(self) -> Any:
        settings = self._settings
        conn = await _result(settings.connect())
        if conn is None:
            raise TypeError("connect returned None instead of a connection")
        if settings.configure is not None:
            try:
                await _result(settings.configure(conn))
            except BaseException:
                # Also when cancelled, so not awaited here.
                self._spawn(self._close_connection(conn), hidden=True)
                raise
        return conn

    def _keep_alive(self, member: Member) -> None:
        async def check() -> bool:
            async with asyncio.timeout(CLOSE_GRACE):
                return self._check is not None and await _result(self._check(member.conn)) is not False

        def book(done: asyncio.Task[bool]) -> None:
            decide = self._roster.checked if _passed(done) else self._roster.discard
            self._carry_out(decide(member, monotonic()))

        self._spawn(check(), hidden=False).add_done_callback(book)

    def _close_member(self, member: Member) -> asyncio.Task[Any]:
        conn, member.conn = member.conn, None

        def book(_: object) -> None:
            self._give_permit_back()
            self._carry_out(self._roster.was_closed(monotonic()))

        task = self._spawn(self._close_connection(conn), hidden=True)
        task.add_done_callback(book)
        return task

    async def _close_connection(self, conn: Any) -> None:
        given, own = self._settings.close, getattr(conn, "aclose", None) or getattr(conn, "close", None)
        try:
            async with asyncio.timeout(CLOSE_GRACE):
                if given is not None:
                    await _result(given(conn))
                elif own is not None:
                    await _result(own())
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.warning("pool %r: closing a connection failed: %r", self.name, error)

    async def _settled(self, plan: Plan) -> None:
        """Carry out, and wait until what was to be closed is closed."""
        closing = self._carry_out(plan)
        if closing:
            await asyncio.wait(closing)

    async def _shut(self, deadline: float) -> None:
        roster = self._roster
        self._carry_out(roster.shut(monotonic()))
        for task in list(self._connects):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if roster.size:
            waiter = self._new_waiter(monotonic())
            roster.until_empty.append(waiter)
            await self._sleep_until_done(waiter, deadline)
        self._say_goodbye()

    # -- housekeeping

    def _sweep(self) -> None:
        now = monotonic()
        plan = sweep(self._roster, now, self._waiting_elsewhere())
        self._set_timer()
        self._carry_out(plan)
        self._seek_permit()
        self._publish()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._roster.closed or self._loop is None:
            return
        now = monotonic()
        pause = max(due(self._roster, now) - now, SHORTEST_SLEEP)
        self._timer = self._loop.call_later(pause, _sweep_later, weakref.ref(self))

    def _settle_drops(self) -> None:
        loop = self._loop
        if not self._drops or loop is None:
            return
        if asyncio._get_running_loop() is not loop:
            # The garbage was collected in another thread; a closed loop has no slots left to care for.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._settle_drops)
            return
        # A decision may be going on in this very thread, so not from inside a finalizer.
        loop.call_soon(self._book_drops)

    def _book_drops(self) -> None:
        while self._drops:
            plan = self._roster.was_dropped(self._drops.popleft(), monotonic())
            self._give_permit_back()
            self._carry_out(plan)

    # -- permits of the host

    def _seek_permit(self) -> None:
        if self._roster.seeks_permit and self._permits is not None:
            with self._joining:
                if self._seeker is None:
                    self._seeker = PermitSeeker(self._permits, wanted=self._wants_permit, found=self._use_permit)
            self._seeker.seek()

    def _wants_permit(self) -> bool:
        return self._roster.seeks_permit and self._loop is not None and not self._loop.is_closed()

    def _use_permit(self) -> bool:
        """Called in the seeker's thread, with a permit in hand."""
        loop = self._loop
        if loop is None:
            return False
        self._roster.starving = False
        try:
            loop.call_soon_threadsafe(self._permit_came)
        except RuntimeError:
            return False
        return True

    def _permit_came(self) -> None:
        if self._roster.permitted(monotonic()):
            self._start_connect(permitted=True)
        else:
            self._give_permit_back()

    # -- small things

    def _refuse_if_closed(self) -> None:
        if self._roster.closed:
            raise holders.closed_error(self.name)

    def _new_waiter(self, since: float, taken: Taken = NOWHERE) -> Waiter:
        return Waiter(asyncio.get_running_loop().create_future(), since, taken)

    def _timeout_error(self, waiter: Waiter) -> PoolTimeout:
        self._roster.tally.timeouts += 1
        now = monotonic()
        return holders.timeout_error(self.name, self._roster, now - waiter.since, now)

    def _say_goodbye(self) -> None:
        left = holders.holders_of(self._roster, monotonic())
        if left:
            holders.log.warning("pool %r closed while in use by: %s", self.name, "; ".join(left))
        elif self._permits is not None and self._roster.size == 0:
            self._permits.close()
            self._permits = None
        self._publish()


async def _result(value: Any) -> Any:
    """The value itself, or what it yields when it is awaitable: callables may be plain or async."""
    return await value if isawaitable(value) else value


def _passed(done: asyncio.Task[bool]) -> bool:
    return not done.cancelled() and done.exception() is None and done.result()


async def _after(job: asyncio.Task[Any] | None, closing: list[asyncio.Task[Any]]) -> None:
    if job is not None:
        await asyncio.wait([job])
    if closing:
        await asyncio.wait(closing)


def _wake(waiter: Waiter) -> None:
    # Cancelled already: it passes on what it was handed.
    if not waiter.wake.done():
        waiter.wake.set_result(None)


def _sweep_later(ref: weakref.ref[AsyncShell[Any]]) -> None:
    pool = ref()
    if pool is not None:
        pool._timer = None
        pool._sweep()
