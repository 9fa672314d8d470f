"""The pool for threads, as users see it; ``shell`` has the parts that are not hot."""

from __future__ import annotations

from _thread import get_ident
from sys import _getframe
from threading import main_thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from shmplane.connections import holders
from shmplane.connections.member import OUT
from shmplane.connections.settings import Settings, Timeout, check_sizes, deadline_of
from shmplane.connections.shell import Shell, new_waiter, sleep_until_done

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from shmplane.connections.member import Plan, Taken, Waiter
    from shmplane.connections.roster import Roster

__all__ = ["ConnectionPool"]

T = TypeVar("T")


def plan_more(roster: Roster, now: float) -> Plan:
    """What follows from the state as it is."""
    return roster.plan(now)


class ConnectionPool(Shell[T]):
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
        host_limit: most connections that are open over all processes of the host.

    Raises:
        ValueError, TypeError: for bad sizes, times or callables.

    Safe to use from several threads, after a fork, and pickled when the callables are.
    Cost: taking and giving back an idle connection is about a microsecond.
    """

    def __init__(
        self,
        connect: Callable[[], T],
        *,
        close: Callable[[T], object] | None = None,
        check: Callable[[T], object] | None = None,
        reset: Callable[[T], object] | None = None,
        configure: Callable[[T], object] | None = None,
        min_size: int = 0,
        max_size: int = 10,
        timeout: float | None = 30.0,
        max_waiting: int | None = None,
        max_lifetime: float | None = 3600.0,
        max_idle: float | None = 600.0,
        leak_after: float | None = None,
        name: str | None = None,
        plane: Any = None,
        host_limit: int | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__(Settings(**given))

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
        if timeout is ... and self._check is None:
            # Half the cost of a ``with``, and as safe: should an interrupt come before the lock is ours,
            # its release refuses, since only the owner may release this kind of lock.
            conn: Any = None
            try:
                try:
                    self._lock.acquire()
                    conn = self._roster.take(monotonic(), taken)
                finally:
                    try:  # noqa: SIM105  suppress() costs more than the lock
                        self._lock.release()
                    except RuntimeError:
                        pass
            except BaseException:
                if conn is not None:
                    self._take_back(conn, taken)
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
                given = calm = False
                # With no dropped connection on the books, what has the id is the connection itself.
                if member is not None and member.state == OUT and not self._drops:
                    given, taken = True, member.taken
                    if not roster.calm and get_ident() != main_thread().ident:
                        waiter = roster.pass_on(member, conn, monotonic())
                    calm = waiter is not None or roster.give(member, conn, monotonic())
            finally:
                try:  # noqa: SIM105  suppress() costs more than the lock
                    self._lock.release()
                except RuntimeError:
                    pass
        except BaseException:
            self._take_back(conn, taken)
            raise
        if waiter is not None:
            waiter.wake.release()
        elif calm:
            return
        elif given:
            self._decide(plan_more)
        else:
            self._release_slowly(conn)

    # -- for the owner

    def wait(self, timeout: Timeout = ...) -> None:
        """Wait until ``min_size`` connections are open.

        Raises:
            PoolTimeout: they were not in time; the last connect's error is the cause.
        """
        deadline = deadline_of(timeout, self._settings, monotonic())
        waiter = new_waiter(monotonic())
        self._refuse_if_closed()

        def start(roster: Roster, now: float) -> Plan:
            roster.until_ready.append(waiter)
            return roster.start(now)

        try:
            self._decide(start, begins=True)
            sleep_until_done(waiter, deadline)
        finally:
            with self._lock:
                if waiter in self._roster.until_ready:
                    self._roster.until_ready.remove(waiter)
        if not waiter.done:
            raise self._timeout_error(waiter)
        if waiter.refused:
            raise holders.closed_error(self.name)

    def drain(self) -> None:
        """Replace all connections: idle ones now, the others as they return."""
        self._decide(lambda roster, now: roster.drain(now))

    def resize(self, max_size: int) -> None:
        """Change ``max_size``, up or down; connections above it are closed as they return."""
        check_sizes(self._roster.min_size, max_size)
        self._decide(lambda roster, now: roster.resize(max_size, now))

    def pause(self) -> None:
        """Hand out nothing until ``resume()``; callers wait, connections can be given back."""
        with self._lock:
            self._roster.pause()

    def resume(self) -> None:
        """Hand out connections again."""
        self._decide(lambda roster, now: roster.resume(now))

    def close(self, grace: float | None = 5.0) -> None:
        """Refuse callers, close idle connections, wait up to ``grace`` seconds for those in use.

        Whatever comes back later is closed then. Safe to call again.
        """
        deadline = deadline_of(grace, self._settings, monotonic())
        self._decide(lambda roster, now: roster.shut(now))
        waiter = new_waiter(monotonic())
        with self._lock:
            if self._roster.size:
                self._roster.until_empty.append(waiter)
            else:
                waiter.done = True
        sleep_until_done(waiter, deadline)
        self._staff.dismiss()
        self._say_goodbye()

    def __enter__(self) -> Self:
        self._refuse_if_closed()
        self._decide(lambda roster, now: roster.start(now), begins=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Borrow(Generic[T]):
    """The block in which a connection is used."""

    __slots__ = ("_conn", "_pool", "_timeout")

    def __init__(self, pool: ConnectionPool[T], timeout: Timeout) -> None:
        self._pool = pool
        self._timeout = timeout

    def __enter__(self) -> T:
        pool, frame = self._pool, _getframe(1)
        taken = (frame.f_code, frame.f_lasti, get_ident())
        if self._timeout is ... and pool._check is None:
            # The same again as in ``acquire``: one call less, and the place is the caller's.
            conn: Any = None
            try:
                try:
                    pool._lock.acquire()
                    conn = pool._roster.take(monotonic(), taken)
                finally:
                    try:  # noqa: SIM105  suppress() costs more than the lock
                        pool._lock.release()
                    except RuntimeError:
                        pass
            except BaseException:
                if conn is not None:
                    pool._take_back(conn, taken)
                raise
            if conn is not None:
                self._conn: T = conn
                return conn  # type: ignore[no-any-return]
        self._conn = pool._acquire_slowly(self._timeout, taken)
        return self._conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._pool.release(self._conn)
        else:
            self._pool._release_slowly(self._conn, failed=True)
