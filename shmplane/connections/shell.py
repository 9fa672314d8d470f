"""The pool for threads, where it is not hot: waiting, checking, and carrying out what the roster decided.

Rule 1. The lock is held for decisions only. Connects run in threads of their own, closes and resets in the
thread that gave the connection back, checks in the thread that takes it.
Rule 2. A connection goes straight from who gives it back to who waited longest; nobody can come in between.
Rule 3. Ctrl-C comes to the main thread only. What is decided there, but for taking and giving an idle connection, is
decided and carried out by a thread made for it, so it comes to its end; whoever was interrupted says what he gives up.
Rule 4. Garbage collection may run anywhere, also where this thread holds the lock. So a dropped connection is
only noted; whoever leaves the lock looks at the notes, the main thread excepted.
"""

from __future__ import annotations

import threading
from _thread import RLock, allocate_lock, get_ident, start_new_thread
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from shmplane.connections import holders
from shmplane.connections.front import Front
from shmplane.connections.member import BUSY, NOWHERE, OUT, Member, Plan, Taken, Waiter
from shmplane.connections.permits import PermitSeeker
from shmplane.connections.settings import Timeout, deadline_of
from shmplane.connections.staff import Staff

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from shmplane.connections.roster import Roster
    from shmplane.errors import PoolTimeout

__all__ = ["Shell", "new_waiter", "sleep_until_done"]

T = TypeVar("T")

DECIDED_WITHIN = 1.0  #: seconds that an interrupted main thread waits for what it began; closing may take longer
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
        conn: Any = None
        try:
            while True:
                with self._lock:
                    conn = self._roster.take(monotonic(), taken)
                if conn is None:
                    waiter = new_waiter(began, taken)
                    # After a failed check it is ahead of those who came later.
                    conn = self._wait_for_one(waiter, deadline, first=failed_checks > 0)
                if self._passes_check(conn):
                    return conn  # type: ignore[no-any-return]
                conn = None
                failed_checks += 1
        except BaseException:
            if conn is not None:
                self._take_back(conn, taken)
            raise

    def _take_back(self, conn: T, taken: Taken | None) -> None:
        """Ctrl-C came before the connection reached its user, or while it was given back."""
        member = self._roster.members.get(id(conn))
        # A check may have given it to be closed.
        if member is None or member.ref() is not conn:
            return

        def settle(roster: Roster, now: float) -> Plan:
            if member.state != OUT or roster.members.get(member.key) is not member:
                return roster.plan(now)
            if taken is not None and member.taken is not taken:
                # It was given back, and somebody else has taken it since.
                return roster.plan(now)
            member.conn = conn
            return roster.settle(member, now, fit=True)

        self._decide(settle)

    def _wait_for_one(self, waiter: Waiter, deadline: float, *, first: bool) -> Any:
        full = False

        def queue(roster: Roster, now: float) -> Plan:
            nonlocal full
            full = roster.is_full() and not first
            if full:
                roster.tally.refused += 1
                return roster.plan(now, refused=1)
            # Interrupted before this was decided: it has left already.
            return roster.plan(now) if waiter.refused else roster.queue(waiter, now, first=first)

        def abandon(roster: Roster, now: float) -> Plan:
            return roster.abandon(waiter, now)

        conn: Any = None
        self._refuse_if_hopeless()
        try:
            self._decide(queue, begins=True)
            if full:
                raise holders.full_error(self.name, self._roster)
            if self._roster.closed and not waiter.done:
                raise holders.closed_error(self.name)
            sleep_until_done(waiter, deadline)
            with self._lock:
                conn = self._roster.collect(waiter)
            if conn is not None:
                return conn
            self._refuse_if_closed()
            raise self._timeout_error(waiter)
        except BaseException:
            if conn is not None:
                self._take_back(conn, waiter.taken)
                raise
            # Timed out or interrupted: leave the queue, and pass on what came in the meantime.
            waiter.refused = True
            try:
                self._decide(abandon)
            except BaseException:
                # Interrupted here, after a time-out.
                self._decide(abandon)
                raise
            raise

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
                self._discard(member, conn)
        return passed

    def _discard(self, member: Member, conn: T) -> None:
        def discard(roster: Roster, now: float) -> Plan:
            if member.state != OUT or roster.members.get(member.key) is not member:
                return roster.plan(now)
            member.conn = conn
            return roster.discard(member, now)

        self._decide(discard)

    # -- giving back

    def _release_slowly(self, conn: T, *, broken: bool = False, failed: bool = False) -> None:
        member: Member | None = None
        try:
            with self._lock:
                if self._is_inherited(conn):
                    return
                found = self._member_of(conn)
                if found.state != OUT:
                    raise ValueError(f"{conn!r} was released to pool {self.name!r} before: release it once")
                member = found
                member.conn = conn
                member.state = BUSY
            fit = not broken and self._passes_reset(conn, failed=failed)
            self._settle(member, fit=fit)
        except BaseException:
            if member is not None:
                self._settle(member, fit=False)
            raise

    def _settle(self, member: Member, *, fit: bool) -> None:
        """Use a connection again or close it, unless that was done before an interrupt."""

        def settle(roster: Roster, now: float) -> Plan:
            if member.state != BUSY or roster.members.get(member.key) is not member:
                return roster.plan(now)
            return roster.settle(member, now, fit=fit)

        self._decide(settle)

    def _passes_reset(self, conn: T, *, failed: bool) -> bool:
        if self._reset is None:
            return not failed
        try:
            return self._reset(conn) is not False
        except Exception as error:  # noqa: BLE001  a user's callable may raise anything
            holders.log.warning("pool %r: reset failed: %r; the connection is closed", self.name, error)
            return False

    # -- carrying out

    def _decide(self, decision: Callable[[Roster, float], Plan], *, begins: bool = False) -> None:
        """Decide under the lock and carry it out; ``begins``: somebody will wait for what follows."""
        if get_ident() != threading.main_thread().ident:
            self._decide_here(decision, begins)
            return
        done = allocate_lock()
        done.acquire()
        try:
            start_new_thread(self._decide_for, (decision, begins, done))
            done.acquire()
        except RuntimeError:
            # The system gives us no more threads.
            self._decide_here(decision, begins)
        except BaseException:
            # What comes after an interrupt finds it decided.
            done.acquire(timeout=DECIDED_WITHIN)
            raise

    def _decide_for(self, decision: Callable[[Roster, float], Plan], begins: bool, done: LockType) -> None:
        try:
            self._decide_here(decision, begins)
        finally:
            done.release()

    def _decide_here(self, decision: Callable[[Roster, float], Plan], begins: bool) -> None:
        with self._lock:
            plan = decision(self._roster, monotonic())
        if begins:
            self._staff.keep()
        self._carry_out(plan)
        if begins:
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
        while self._drops and not self._must_not_decide() and self._lock.acquire(blocking=False):
            plans = []
            try:
                while self._drops:
                    ref = self._drops.popleft()
                    member = self._roster.members.get(ref.key)
                    # Its callback and the keeper may both have noted it.
                    if member is not None and member.ref is ref:
                        plans.append(self._roster.was_dropped(ref, monotonic()))
            finally:
                self._lock.release()
            for plan in plans:
                self._give_permit_back()
                self._carry_out(plan)
        if self._drops:
            # The keeper looks at the notes.
            self._staff.wake()

    def _must_not_decide(self) -> bool:
        return is_mine(self._lock) or get_ident() == threading.main_thread().ident

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
