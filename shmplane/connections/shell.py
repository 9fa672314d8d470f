"""The pool for threads, where it is not hot: waiting, checking, and carrying out what the roster decided.

Rule 1. The lock is held for decisions only. Connects run in threads of their own, closes and resets in the
thread that gave the connection back, checks in the thread that takes it.
Rule 2. A connection goes straight from who gives it back to who waited longest; nobody can come in between.
Rule 3. Garbage collection may run anywhere, also where this thread holds the lock. So a dropped connection is
only noted; whoever leaves the lock looks at the notes.
"""

from __future__ import annotations

import threading
from _thread import RLock, allocate_lock
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from shmplane.connections import holders
from shmplane.connections.front import Front
from shmplane.connections.member import BUSY, NOWHERE, OUT, Member, Plan, Taken, Waiter
from shmplane.connections.permits import PermitSeeker
from shmplane.connections.settings import Timeout, deadline_of
from shmplane.connections.staff import Staff

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmplane.errors import PoolTimeout

__all__ = ["Shell", "new_waiter", "sleep_until_done"]

T = TypeVar("T")

LOOK_EVERY = 1.0  #: seconds after which a waiter looks by itself, should an interrupt have cost it its wake-up


class Shell(Front[T]):
    """What ``ConnectionPool`` does when there is more to it than handing out."""

    def _begin(self) -> None:
        super()._begin()
        self._check = self._settings.check
        self._reset = self._settings.reset
        self._staff = Staff(self)
        self._seeker: PermitSeeker | None = None

    def __del__(self) -> None:
        # Only what the constructor made can be asked; an invalid pool has none of it.
        staff = getattr(self, "_staff", None)
        if staff is not None:
            staff.dismiss(wait=False)

    # -- taking

    def _acquire_slowly(self, timeout: Timeout, taken: Taken) -> T:
        began = monotonic()
        deadline = deadline_of(timeout, self._settings, began)
        failed_checks = 0
        while True:
            with self._lock:
                conn = self._roster.take(monotonic(), taken)
            if conn is None:
                waiter = new_waiter(began, taken)
                # After a failed check it is ahead of those who came later.
                conn = self._wait_for_one(waiter, deadline, first=failed_checks > 0)
            if self._passes_check(conn):
                return conn  # type: ignore[no-any-return]
            failed_checks += 1

    def _wait_for_one(self, waiter: Waiter, deadline: float, *, first: bool) -> Any:
        with self._lock:
            self._refuse_if_closed()
            full = self._roster.is_full() and not first
            plan = self._refuse() if full else self._roster.queue(waiter, monotonic(), first=first)
        try:
            self._begin_work(plan)
            if full:
                raise holders.full_error(self.name, self._roster)
            sleep_until_done(waiter, deadline)
            with self._lock:
                conn = self._roster.collect(waiter)
            if conn is not None:
                return conn
            self._refuse_if_closed()
            raise self._timeout_error(waiter)
        except BaseException:
            # Timed out or interrupted: leave the queue, and pass on what came in the meantime.
            self._decide(lambda roster, now: roster.abandon(waiter, now))
            raise

    def _refuse(self) -> Plan:
        self._roster.tally.refused += 1
        return self._roster.plan(monotonic(), refused=1)

    def _passes_check(self, conn: Any) -> bool:
        if self._check is None:
            return True
        member = self._member_of(conn)
        if member.fresh:
            return True
        passed = False
        try:
            passed = self._check(conn) is not False
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.info("pool %r: a connection failed its check: %r", self.name, error)
        finally:
            if not passed:
                member.conn = conn
                self._decide(lambda roster, now: roster.discard(member, now))
        return passed

    # -- giving back

    def _release_slowly(self, conn: T, *, broken: bool = False, failed: bool = False) -> None:
        with self._lock:
            if self._is_inherited(conn):
                return
            member = self._member_of(conn)
            if member.state != OUT:
                raise ValueError(f"{conn!r} was released to pool {self.name!r} before: release it once")
            member.conn = conn
            member.state = BUSY
        fit = False
        try:
            fit = not broken and self._passes_reset(conn, failed=failed)
        finally:
            self._decide(lambda roster, now: roster.settle(member, now, fit=fit))

    def _passes_reset(self, conn: T, *, failed: bool) -> bool:
        if self._reset is None:
            return not failed
        try:
            return self._reset(conn) is not False
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.warning("pool %r: reset failed: %r; the connection is closed", self.name, error)
            return False

    # -- carrying out

    def _decide(self, decision: Callable[..., Plan]) -> None:
        with self._lock:
            plan = decision(self._roster, monotonic())
        self._carry_out(plan)

    def _begin_work(self, plan: Plan) -> None:
        self._staff.keep()
        self._carry_out(plan)
        self._seek_permit()

    def _carry_out(self, plan: Plan | None) -> None:
        """Do what was decided: wake first, since that is quick, close last, since that is slow."""
        self._settle_drops()
        if not plan:
            return
        for waiter in plan.woken:
            waiter.wake.release()
        if plan.connect:
            self._staff.connect(plan.connect)
        self._report_leaks(plan.leaks)
        try:
            while plan.check:
                self._keep_alive(plan.check.pop())
            while plan.close:
                self._close_member(plan.close.pop())
        except BaseException:
            # Interrupted: the others still have to be closed, or their slots were lost.
            rest = Plan()
            rest.check, rest.close = plan.check, plan.close
            threading.Thread(target=self._carry_out, args=(rest,), daemon=True).start()
            raise

    def _keep_alive(self, member: Member) -> None:
        passed = False
        try:
            passed = self._check is not None and self._check(member.conn) is not False
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.info("pool %r: an idle connection is gone: %r", self.name, error)
        finally:
            self._decide(lambda roster, now: (roster.checked if passed else roster.discard)(member, now))

    def _close_member(self, member: Member) -> None:
        conn, member.conn = member.conn, None
        try:
            self._close_connection(conn)
        finally:
            self._give_permit_back()
            self._decide(lambda roster, now: roster.was_closed(now))

    def _close_connection(self, conn: Any) -> None:
        close = self._settings.close
        try:
            if close is not None:
                close(conn)
            elif hasattr(conn, "close"):
                conn.close()
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.warning("pool %r: closing a connection failed: %r", self.name, error)

    def _settle_drops(self) -> None:
        # A finalizer runs anywhere, also where this thread has the lock, which then cannot be taken twice.
        while self._drops and not is_mine(self._lock) and self._lock.acquire(blocking=False):
            plans = []
            try:
                while self._drops:
                    plans.append(self._roster.was_dropped(self._drops.popleft(), monotonic()))
            finally:
                self._lock.release()
            for plan in plans:
                self._give_permit_back()
                self._carry_out(plan)
        if self._drops:
            # The lock is taken: the keeper looks at the notes.
            self._staff.wake()

    # -- permits of the host

    def _seek_permit(self) -> None:
        if self._roster.seeks_permit and self._permits is not None:
            with self._joining:
                if self._seeker is None:
                    self._seeker = PermitSeeker(self._permits, wanted=self._wants_permit, found=self._use_permit)
            self._seeker.seek()

    def _wants_permit(self) -> bool:
        with self._lock:
            return self._roster.seeks_permit

    def _use_permit(self) -> bool:
        with self._lock:
            wanted = self._roster.permitted(monotonic())
        if wanted:
            self._staff.connect(1, permitted=True)
        return wanted

    # -- small things

    def _refuse_if_closed(self) -> None:
        if self._roster.closed:
            raise holders.closed_error(self.name)

    def _timeout_error(self, waiter: Waiter) -> PoolTimeout:
        with self._lock:
            self._roster.tally.timeouts += 1
            now = monotonic()
            return holders.timeout_error(self.name, self._roster, now - waiter.since, now)

    def _say_goodbye(self) -> None:
        with self._lock:
            left = holders.holders_of(self._roster, monotonic())
        if left:
            holders.log.warning("pool %r closed while in use by: %s", self.name, "; ".join(left))
        elif self._permits is not None and self._roster.size == 0:
            self._permits.close()
            self._permits = None
        self._publish()


def is_mine(lock: RLock) -> bool:
    """Whether this thread holds the lock."""
    owned: bool = lock._is_owned()  # type: ignore[attr-defined]
    return owned


def new_waiter(since: float, taken: Taken = NOWHERE) -> Waiter:
    """A waiter that sleeps until its ``wake`` is released."""
    wake = allocate_lock()
    wake.acquire()
    return Waiter(wake, since, taken)


def sleep_until_done(waiter: Waiter, deadline: float) -> None:
    """Sleep until the roster is done with the waiter, or the deadline has passed."""
    while not waiter.done:
        left = deadline - monotonic()
        if left <= 0:
            return
        waiter.wake.acquire(timeout=min(left, LOOK_EVERY))
