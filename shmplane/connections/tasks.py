"""The tasks of a pool: its event loop, bound at first use, its timer, and the work that runs in it.

What must not be cancelled (closes, resets) runs in tasks of its own that ``asyncio.all_tasks`` does not list, and the
outcome is booked by a callback: a task that is cancelled before its first step never runs its ``finally``.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from _thread import get_ident
from collections.abc import Callable
from contextlib import suppress
from inspect import isawaitable
from time import monotonic
from typing import Any, Protocol

from ..scopes import hidden_task
from ..system import ignoring, own
from .host import HOST_THREAD
from .records import NOWHERE, Outcome, Taken, Waiter

__all__ = ["Tasks"]


class Kept(Protocol):
    """A pool, as its event loop keeps it."""

    name: str

    def _sweep_in_loop(self) -> None: ...


class Tasks:
    """Runs the work of one pool in its event loop."""

    def __init__(self, pool: Kept) -> None:
        self._pool = weakref.ref(pool)
        self._name = pool.name
        self.loop: asyncio.AbstractEventLoop | None = None
        # In that thread while that loop runs is in that loop; asking for the running loop costs a system call on 3.11.
        self.thread: int | None = None
        self.is_running: Callable[[], bool] = bool
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancellable: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def bind(self) -> None:
        """Make sure that we are in the pool's event loop; the first one becomes it."""
        try:
            running = asyncio.get_running_loop()
        except own(RuntimeError):
            raise RuntimeError(
                f"pool {self._name!r} needs a running asyncio event loop, and there is none here; "
                f"on trio run it through trio-asyncio, without an event loop use ConnectionPool"
            ) from None
        if self.loop is None:
            self.loop = running
            self.thread, self.is_running = get_ident(), running.is_running
        elif self.loop is not running:
            raise RuntimeError(
                f"pool {self._name!r} belongs to another asyncio event loop, where its connections "
                f"were opened; make one pool per event loop"
            )

    def is_lost(self) -> bool:
        """Whether the loop was closed, so that the pool cannot be used any more."""
        return self.loop is not None and self.loop.is_closed()

    # -- work

    @staticmethod
    def close(conn: Any) -> Any:
        """Close a connection in its own way, if it has one; perhaps an awaitable."""
        close = getattr(conn, "aclose", None) or getattr(conn, "close", None)
        return None if close is None else close()

    def in_loop(self, act: Callable[[], object]) -> None:
        """Run now in the loop's thread, soon from another one."""
        loop = self.loop
        if loop is None or asyncio._get_running_loop() is loop or loop.is_closed():
            act()
        else:
            loop.call_soon_threadsafe(act)

    def run(
        self,
        work: Callable[[], Any],
        then: Callable[[Outcome], object],
        *,
        apart: bool = False,  # noqa: ARG002  a task is always apart
        must_finish: bool = False,
        grace: float | None = None,
    ) -> asyncio.Task[Any]:
        """Call ``work`` in a task, for ``grace`` seconds at most, and ``then`` with what came of it."""
        task = self.spawn(_await(work, grace), hidden=must_finish)
        if not must_finish:
            self._cancellable.add(task)
            task.add_done_callback(self._cancellable.discard)
        task.add_done_callback(lambda done: then(outcome_of(done)))
        return task

    def spawn(self, work: Any, *, hidden: bool) -> asyncio.Task[Any]:
        """A task of the pool; hidden: from those who cancel all tasks."""
        task: asyncio.Task[Any] = hidden_task(work) if hidden else asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel what may be cancelled: connects and keep-alive checks."""
        for task in list(self._cancellable):
            task.cancel()

    def ask_host(self, work: Callable[[], Any], then: Callable[[Outcome], object]) -> None:
        """Call ``work``, which may have to wait for the plane, in the host thread, and ``then`` in the loop."""
        loop = self.loop

        def ask() -> None:
            try:
                outcome = Outcome(work(), None)
            except Exception as error:  # noqa: BLE001  whoever asked decides
                outcome = Outcome(None, error)
            # A loop that is closed has nobody to tell; its pool's permits come back together.
            with suppress(RuntimeError):
                if loop is not None:
                    loop.call_soon_threadsafe(then, outcome)

        HOST_THREAD.do(ask)

    def hand_over(self, act: Callable[[], object]) -> bool:
        """Do in the loop what another thread found; False when the loop is closed."""
        try:
            if self.loop is not None:
                self.loop.call_soon_threadsafe(act)
        except own(RuntimeError):
            return False
        return self.loop is not None

    def tell_host(self, work: Callable[[], object]) -> None:
        """The same without an answer."""
        HOST_THREAD.do(work)

    # -- housekeeping

    def keep(self) -> None:
        """Start the housekeeping, unless it goes on already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(_sweep, self._pool)  # type: ignore[assignment]

    def wake(self) -> None:
        """Look at once: something is due earlier than it was; from any thread, and from finalizers."""
        if self.loop is not None:
            with ignoring(RuntimeError):
                self.loop.call_soon_threadsafe(_sweep, self._pool)

    def set_timer(self, pause: float | None) -> None:
        """The next look is in so many seconds; None: never."""
        if self._timer is not None:
            self._timer.cancel()
        if pause is not None and self.loop is not None:
            self._timer = self.loop.call_later(pause, _sweep, self._pool)

    # -- waiting

    def new_waiter(self, since: float, taken: Taken = NOWHERE) -> Waiter:
        """A waiter that sleeps until its ``wake`` is done."""
        return Waiter(asyncio.get_running_loop().create_future(), since, taken)

    def wake_waiter(self, waiter: Waiter) -> None:
        """End its sleep, unless it was cancelled already: then it passes on what it was handed."""
        if not waiter.wake.done():
            waiter.wake.set_result(None)

    async def sleep_until_done(self, waiter: Waiter, deadline: float) -> None:
        """Sleep until the roster is done with the waiter, or the deadline has passed."""
        left = deadline - monotonic()
        if waiter.done or left <= 0:
            return
        loop = asyncio.get_running_loop()
        timer = None if math.isinf(left) else loop.call_later(left, self.wake_waiter, waiter)
        try:
            await waiter.wake
        finally:
            if timer is not None:
                timer.cancel()


async def result_of(value: Any) -> Any:
    """The value itself, or what it yields when it is awaitable: callables may be plain or async."""
    return await value if isawaitable(value) else value


async def _await(work: Callable[[], Any], grace: float | None) -> Any:
    async with asyncio.timeout(grace):
        return await result_of(work())


def outcome_of(task: asyncio.Task[Any]) -> Outcome:
    """What came of a task."""
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    return Outcome(None, error) if error is not None else Outcome(task.result(), None)


def _sweep(ref: weakref.ref[Kept]) -> None:
    pool = ref()
    if pool is not None:
        pool._sweep_in_loop()
