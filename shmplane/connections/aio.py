"""The pool for asyncio, as users see it; ``aio_shell`` has the parts that are not hot."""

from __future__ import annotations

from _thread import get_ident
from sys import _getframe
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from shmplane.connections import holders
from shmplane.connections.aio_shell import AsyncShell
from shmplane.connections.member import OUT
from shmplane.connections.settings import Settings, Timeout, check_sizes, deadline_of
from shmplane.scopes import finish_on_asyncio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

__all__ = ["AsyncConnectionPool"]

T = TypeVar("T")


class AsyncConnectionPool(AsyncShell[T]):
    """A pool of connections of any kind, for the tasks of one asyncio event loop.

    The parameters are those of ``ConnectionPool``; every callable may be plain (it runs in the event loop, so
    it must not block) or return an awaitable. The pool belongs to the loop of its first use.

    Raises:
        RuntimeError: used outside asyncio, or in another event loop than at first.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[T]] | Callable[[], T],
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

    def connection(self, timeout: Timeout = ...) -> AsyncBorrow[T]:
        """``async with pool.connection() as conn:`` takes a connection and gives it back.

        After an exception or a cancellation the connection is closed, unless ``reset`` succeeds.
        """
        return AsyncBorrow(self, timeout)

    async def acquire(self, timeout: Timeout = ...) -> T:
        """Take a connection; give it back with ``release``.

        Raises:
            PoolTimeout: none came in time; names the holders.
            PoolClosed, TooManyWaiters.
        """
        frame = _getframe(1)
        if timeout is ... and self._check is None and get_ident() == self._thread and self._is_running():
            conn = self._roster.take(monotonic(), (frame.f_code, frame.f_lasti, None))
            if conn is not None:
                return conn  # type: ignore[no-any-return]
        return await self._acquire_slowly(timeout, (frame.f_code, frame.f_lasti, None))

    async def release(self, conn: T, *, broken: bool = False) -> None:
        """Give a connection back; a broken one is closed. Always done to its end, however often it is
        cancelled.

        Raises:
            ValueError: it is not from this pool, or was released before.
        """
        if self._reset is None and not broken:
            roster = self._roster
            member = roster.members.get(id(conn))
            if member is not None and member.state == OUT and not self._drops:
                if not roster.give(member, conn, monotonic()):
                    self._carry_out(roster.plan(monotonic()))
                return
        await self._release_slowly(conn, broken=broken)

    async def wait(self, timeout: Timeout = ...) -> None:
        """Wait until ``min_size`` connections are open.

        Raises:
            PoolTimeout: they were not in time; the last connect's error is the cause.
        """
        self._bind()
        deadline = deadline_of(timeout, self._settings, monotonic())
        self._refuse_if_closed()
        waiter = self._new_waiter(monotonic())
        self._roster.until_ready.append(waiter)
        try:
            self._begin_work(self._roster.start(monotonic()))
            await self._sleep_until_done(waiter, deadline)
        finally:
            if not waiter.done:
                self._roster.until_ready.remove(waiter)
        if waiter.refused:
            raise holders.closed_error(self.name)
        if not waiter.done:
            raise self._timeout_error(waiter)

    async def drain(self) -> None:
        """Replace all connections: idle ones now, the others as they return."""
        self._bind()
        await finish_on_asyncio(self._settled(self._roster.drain(monotonic())))

    def resize(self, max_size: int) -> None:
        """Change ``max_size``, up or down; connections above it are closed as they return."""
        check_sizes(self._roster.min_size, max_size)
        self._on_loop(lambda: self._carry_out(self._roster.resize(max_size, monotonic())))

    def pause(self) -> None:
        """Hand out nothing until ``resume()``; callers wait, connections can be given back."""
        self._on_loop(self._roster.pause)

    def resume(self) -> None:
        """Hand out connections again."""
        self._on_loop(lambda: self._carry_out(self._roster.resume(monotonic())))

    async def close(self, grace: float | None = 5.0) -> None:
        """Refuse callers, close idle connections, wait up to ``grace`` seconds for those in use.

        Whatever comes back later is closed then. Safe to call again; done to its end although cancelled.
        """
        deadline = deadline_of(grace, self._settings, monotonic())
        if self._loop is None:
            self._roster.shut(monotonic())
            return
        self._bind()
        await finish_on_asyncio(self._shut(deadline))

    async def __aenter__(self) -> Self:
        self._bind()
        self._refuse_if_closed()
        self._begin_work(self._roster.start(monotonic()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncBorrow(Generic[T]):
    """The block in which a connection is used."""

    __slots__ = ("_conn", "_pool", "_timeout")

    def __init__(self, pool: AsyncConnectionPool[T], timeout: Timeout) -> None:
        self._pool = pool
        self._timeout = timeout

    async def __aenter__(self) -> T:
        pool, frame = self._pool, _getframe(1)
        taken = (frame.f_code, frame.f_lasti, None)
        if self._timeout is ... and pool._check is None and get_ident() == pool._thread and pool._is_running():
            conn = pool._roster.take(monotonic(), taken)
            if conn is not None:
                self._conn: T = conn
                return self._conn
        self._conn = await pool._acquire_slowly(self._timeout, taken)
        return self._conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._pool.release(self._conn)
        else:
            await self._pool._release_slowly(self._conn, failed=True)
