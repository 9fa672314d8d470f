"""The pool for threads.

Rule 1. A connection goes straight from who gives it back to who waited longest; nobody can come in between.
Rule 2. Only the main thread receives signals, and their handlers may raise anywhere in it. Taking and giving back an idle
connection it does itself, in steps none of which can be cut in two; every other decision it makes runs to its end in a
helper thread. Whoever was interrupted says what it gives up.
"""

from __future__ import annotations

from _thread import get_ident
from functools import partial
from sys import _getframe
from threading import main_thread
from time import monotonic
from typing import Any, Generic, Self, TypeVar

from ..system import own
from . import reports
from .base import BasePool, Decision
from .forks import SAME_PROCESS, begin_again_if_forked
from .records import BUSY, NOWHERE, OUT, Member, Plan, Taken, Waiter
from .roster import Roster
from .settings import Timeout, deadline_of
from .threads import Threads

__all__ = ["ConnectionPool"]

T = TypeVar("T")


class ConnectionPool(BasePool[T]):
    """A pool of connections of any kind, for threads.

    Args:
        connect: makes a connection; retried with growing pauses when it raises.
        close: ends one; default: its ``close()``.
        check: says whether one still works, by ``False`` or by raising; called before a connection that
            was used before is handed out, and now and then on idle ones.
        reset: cleans one that was given back; when it raises, the connection is closed.
        configure: prepares one that was just opened.
        min_size: kept open from the first use on.
        max_size: most that are open at once.
        timeout: seconds to wait for a connection; None for ever, 0 not at all.
        max_waiting: most callers in the queue, beside those whom a free slot serves as soon as it is connected.
        max_lifetime: seconds after which a connection is replaced (up to a tenth less, by chance).
        max_idle: seconds after which an idle connection above ``min_size`` is closed; None: never.
        leak_after: seconds after which a connection in use is logged and counted, with where it was taken.
        name: of the pool, in errors and statistics; with ``host_limit`` the name that processes share.
        plane: what ``host_limit`` needs.
        host_limit: most connections that are open over all processes of the host. A child that is forked while some are
            open shares their sockets: let ``close`` say goodbye or shut the socket down, or fork before the first use.

    Raises:
        ValueError, TypeError: for bad sizes, times or callables.

    Safe to use from several threads, after a fork, and pickled when the callables are.
    Cost: taking and giving back an idle connection is about a microsecond.
    """

    def _begin(self) -> None:
        super()._begin()
        self._engine = Threads(self)

    # -- taking and giving back

    def connection(self, timeout: Timeout = ...) -> Borrow[T]:
        """``with pool.connection() as conn:`` takes a connection and gives it back.

        After an exception the connection is closed, unless ``reset`` succeeds.
        """
        return Borrow(self, timeout)

    def acquire(self, timeout: Timeout = ...) -> T:
        """Take a connection; give it back with ``release``.

        Raises:
            PoolTimeout: none came in time; names the holders.
            PoolClosed, TooManyWaiters.
        """
        frame = _getframe(1)
        taken = (frame.f_code, frame.f_lasti, get_ident())
        if timeout is ... and self._check is None and SAME_PROCESS[0]:
            # Half the cost of a ``with``, and as safe: if it is interrupted before ``acquire`` returned, ``release``
            # raises, since this kind of lock knows its owner.
            conn: Any = None
            try:
                try:
                    self._lock.acquire()
                    conn = self._roster.take(monotonic(), taken)
                finally:
                    try:
                        self._lock.release()
                    except own(RuntimeError):
                        pass
            except BaseException:
                if conn is not None:
                    self._abandon_use(conn, taken)
                raise
            if conn is not None:
                return conn  # type: ignore[no-any-return]
        return self._acquire_slowly(timeout, taken)

    def release(self, conn: T, *, broken: bool = False) -> None:
        """Give a connection back; a broken one is closed.

        Raises:
            ValueError: it is not from this pool, or was released before.
        """
        if broken or self._reset is not None:
            self._release_slowly(conn, broken=broken)
            return
        taken: Taken | None = None
        waiter: Waiter | None = None
        try:
            try:
                self._lock.acquire()
                roster = self._roster
                member = roster.members.get(id(conn))
                given = is_settled = False
                # With no dropped connection on the books, what has the id is the connection itself.
                if member is not None and member.state == OUT and not self._drops:
                    given, taken = True, member.taken
                    if not roster.needs_no_plan and get_ident() != main_thread().ident:
                        waiter = roster.pass_on(member, conn, monotonic())
                    is_settled = waiter is not None or roster.give(member, conn, monotonic())
            finally:
                try:
                    self._lock.release()
                except own(RuntimeError):
                    pass
        except BaseException:
            self._abandon_use(conn, taken)
            raise
        if waiter is not None:
            waiter.wake.release()
        elif is_settled:
            return
        elif given:
            self._decide(Roster.plan)
        else:
            self._release_slowly(conn)

    # -- for the owner

    def wait(self, timeout: Timeout = ...) -> None:
        """Wait until ``min_size`` connections are open.

        Raises:
            PoolTimeout: they were not in time; the last connect's error is the cause.
        """
        deadline = deadline_of(timeout, self._settings, monotonic())
        waiter = self._engine.new_waiter(monotonic())
        self._refuse_if_closed()
        try:
            with self._lock:
                self._roster.until_ready.append(waiter)
            self._decide(Roster.start, begins=True)
            self._engine.sleep_until_done(waiter, deadline)
        finally:
            with self._lock:
                if waiter in self._roster.until_ready:
                    self._roster.until_ready.remove(waiter)
        if not waiter.done:
            raise self._timeout_error(waiter)
        if waiter.refused:
            raise self._refusal(waiter)

    def drain(self) -> None:
        """Replace all connections: idle ones now, the others as they return."""
        self._decide(Roster.drain)

    def close(self, grace: float | None = 5.0) -> None:
        """Refuse callers, close idle connections, wait up to ``grace`` seconds for those in use.

        Whatever comes back later is closed then. Safe to call again.
        """
        deadline = deadline_of(grace, self._settings, monotonic())
        self._decide(Roster.shut)
        waiter = self._engine.new_waiter(monotonic())
        with self._lock:
            if self._roster.size:
                self._roster.until_empty.append(waiter)
            else:
                waiter.done = True
        self._engine.sleep_until_done(waiter, deadline)
        self._engine.stop(wait=self._roster.size == 0)
        self._say_goodbye()
        self._figures.publish()

    def __enter__(self) -> Self:
        self._refuse_if_closed()
        self._decide(Roster.start, begins=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- taking, when it is not at once

    def _acquire_slowly(self, timeout: Timeout, taken: Taken) -> T:
        begin_again_if_forked()
        began = monotonic()
        deadline = deadline_of(timeout, self._settings, began)
        failed_checks = 0
        conn: Any = None
        try:
            while True:
                with self._lock:
                    conn = self._roster.take(monotonic(), taken)
                if conn is None:
                    waiter = self._engine.new_waiter(began, taken)
                    # After a failed check it is ahead of those who came later.
                    conn = self._wait_for_one(waiter, deadline, first=failed_checks > 0)
                if self._passes_check(conn):
                    return conn  # type: ignore[no-any-return]
                conn = None
                failed_checks += 1
        except BaseException:
            if conn is not None:
                self._abandon_use(conn, taken)
            raise

    def _abandon_use(self, conn: T, taken: Taken | None) -> None:
        """An exception came before the connection reached its user, or while it was given back."""
        member = self._roster.members.get(id(conn))
        # A check may have given it to be closed.
        if member is None or member.ref() is not conn:
            return
        if taken is None:
            taken = member.taken  # ``release`` had not begun with it, so it is still its user's
        self._end_use(member, conn, was=OUT, taken=taken, then=partial(self._roster.settle, fit=True))

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

        conn: Any = None
        self._refuse_if_closed()
        try:
            self._decide(queue, begins=True)
            if full:
                raise reports.full_error(self.name, self._roster)
            if not self._roster.closed:
                self._engine.sleep_until_done(waiter, deadline)
            with self._lock:
                conn = self._roster.receive(waiter)
            if conn is not None:
                return conn
            if waiter.refused or self._roster.closed:
                raise self._refusal(waiter)
            raise self._timeout_error(waiter)
        except BaseException:
            if conn is not None:
                self._abandon_use(conn, waiter.taken)
                raise
            # Timed out or interrupted: leave the queue, and pass on what came in the meantime.
            waiter.refused = True
            try:
                self._decide(lambda roster, now: roster.abandon(waiter, now))
            except BaseException:
                # Interrupted here, after a time-out.
                self._decide(lambda roster, now: roster.abandon(waiter, now))
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
        except own(Exception) as error:
            reports.log.info("pool %r: a connection failed its check: %s", self.name, repr(error))
        finally:
            if not passed:
                self._end_use(member, conn, was=OUT, taken=member.taken, then=self._roster.discard)
        return passed

    # -- giving back, when there is more to do than that

    def _release_slowly(self, conn: T, *, broken: bool = False, failed: bool = False) -> None:
        member: Member | None = None
        taken = NOWHERE
        try:
            begin_again_if_forked()
            with self._lock:
                if self._is_inherited(conn):
                    return
                found = self._member_of(conn)
                taken = found.taken
                member = found
                member.conn = conn
                member.state = BUSY
            fit = not broken and self._passes_reset(conn, failed=failed)
            if not fit or not self._give(member, conn):
                self._end_use(member, conn, was=BUSY, taken=taken, then=partial(self._roster.settle, fit=fit))
        except BaseException:
            if member is not None:
                self._end_use(member, conn, was=BUSY, taken=taken, then=partial(self._roster.settle, fit=False))
            raise

    def _give(self, member: Member, conn: T) -> bool:
        """Make it idle again if nothing else has to be decided."""
        with self._lock:
            roster = self._roster
            if not roster.needs_no_plan or self._drops or member.state != BUSY:
                return False
            return roster.give(member, conn, monotonic())

    def _passes_reset(self, conn: T, *, failed: bool) -> bool:
        if self._reset is None:
            return not failed
        try:
            return self._reset(conn) is not False
        except own(Exception) as error:
            reports.log.warning("pool %r: reset failed: %s; the connection is closed", self.name, repr(error))
            return False

    # -- carrying out

    def _decide(self, decision: Decision, *, begins: bool = False) -> None:
        begin_again_if_forked()
        decide = partial(self._decide_here, decision, begins=begins)
        if self._lock._is_owned():  # type: ignore[attr-defined]
            decide()  # called by a signal handler: a helper would wait for the lock that this thread has
        else:
            self._engine.complete(decide)


class Borrow(Generic[T]):
    """The block in which a connection is used."""

    __slots__ = ("_conn", "_pool", "_timeout")

    def __init__(self, pool: ConnectionPool[T], timeout: Timeout) -> None:
        self._pool = pool
        self._timeout = timeout

    def __enter__(self) -> T:
        pool, frame = self._pool, _getframe(1)
        taken = (frame.f_code, frame.f_lasti, get_ident())
        if self._timeout is ... and pool._check is None and SAME_PROCESS[0]:
            # The same again as in ``acquire``: one call less, and the place is the caller's.
            conn: Any = None
            try:
                try:
                    pool._lock.acquire()
                    conn = pool._roster.take(monotonic(), taken)
                finally:
                    try:
                        pool._lock.release()
                    except own(RuntimeError):
                        pass
            except BaseException:
                if conn is not None:
                    pool._abandon_use(conn, taken)
                raise
            if conn is not None:
                self._conn: T = conn
                return conn  # type: ignore[no-any-return]
        self._conn = pool._acquire_slowly(self._timeout, taken)
        return self._conn

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._pool.release(self._conn)
        else:
            self._pool._release_slowly(self._conn, failed=True)
