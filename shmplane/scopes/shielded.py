"""How a cleanup finishes although its task is cancelled, once or again and again.

asyncio: a task of its own, waited for in a loop. ``asyncio.shield`` alone protects against one
cancellation, the loop against all. The task is hidden from ``asyncio.all_tasks``, since those who cancel
that (``asyncio.run`` at its end) would cancel the cleanup itself.
trio: a shielded cancel scope, with a deadline.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Coroutine
from inspect import CORO_CREATED, getcoroutinestate
from time import monotonic
from typing import Any, TypeVar

__all__ = ["Finish", "finish_on_asyncio", "hidden_task"]

T = TypeVar("T")

# Abandoned cleanups: someone has to hold a task, or it may vanish in the middle.
_abandoned: set[asyncio.Task[Any]] = set()


class Overrun(TimeoutError):
    """A cleanup took longer than it was given, and was abandoned."""


def is_on_trio() -> bool:
    """Whether the caller is a trio task; trio is never imported for this."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


def hidden_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that ``asyncio.all_tasks`` does not list."""
    task = asyncio.get_running_loop().create_task(work)
    asyncio._unregister_task(task)  # documented under "Extending asyncio"
    return task


async def finish_on_asyncio(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a task of its own, however often we are cancelled; then raise that cancellation."""
    task = hidden_task(work)
    cancelled = await _outlast(task)
    if cancelled is not None:
        if not task.cancelled() and task.exception() is not None:
            cancelled.add_note(f"what was being finished failed: {task.exception()!r}")
        raise cancelled
    return task.result()


class Finish:
    """The rest of a cleanup that has to be awaited, for ``grace`` seconds.

    ``wait`` raises only what lands in it from outside, and may then be called again: what was begun is gone on with.

    Args:
        awaitable: what the cleanup returned.
        results: gets what the awaitable gives, instead of what it has.
    """

    def __init__(self, awaitable: Awaitable[Any], results: list[Any], grace: float) -> None:
        self.error: BaseException | None = None  #: of the cleanup
        self.cancelled: BaseException | None = (
            None  #: what cancelled the caller meanwhile; to be raised when all is done
        )
        self._awaitable = awaitable
        self._results = results
        self._grace = grace
        self._deadline = monotonic() + grace
        self._works: list[Coroutine[Any, Any, None]] = []
        self._task: asyncio.Task[Any] | None = None
        self._begun = False
        self._done = False

    async def wait(self) -> None:
        """Go on until it is done, or the time is over."""
        if is_on_trio():
            await self._wait_on_trio()
        else:
            await self._wait_on_asyncio()
        for work in self._works:
            if getcoroutinestate(work) == CORO_CREATED:
                work.close()  # one that nobody came to await would complain

    async def _run(self) -> None:
        if self._begun:
            return
        # Nothing looks for signals from the question above until the awaitable is entered.
        self._begun = True
        try:
            self._results[:] = [await self._awaitable]
        except Exception as error:  # noqa: BLE001  booked, and raised when all is done
            self.error = error
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._done = True

    async def _wait_on_asyncio(self) -> None:
        while not self._done:
            left = self._deadline - monotonic()
            if left <= 0:
                self._abandon()
                return
            try:
                await self._wait_once(left)
            except asyncio.CancelledError as error:
                self.cancelled = self.cancelled or error
        if isinstance(self.error, asyncio.CancelledError):
            self.error = RuntimeError("the cleanup was cancelled from inside")
        if self._task is not None and self._task.done() and not self._task.cancelled():
            # Asked for, so that asyncio does not log it as never retrieved.
            self._task.exception()

    async def _wait_once(self, seconds: float) -> None:
        task = self._task
        if task is None or (task.done() and not self._begun):
            self._works += [self._run()]
            task = self._task = hidden_task(self._works[-1])
        if task.done():
            # An exception landed where a task was made that we do not know, and that one runs it.
            await asyncio.sleep(min(seconds, 0.001))
        else:
            await asyncio.wait([task], timeout=seconds)
            if task.done() and not self._begun:
                task.result()

    def _abandon(self) -> None:
        self._done = True
        self.error = Overrun(f"not done after {self._grace:g} s, so it was cancelled and left behind")
        if self._task is not None:
            _abandon(self._task)

    async def _wait_on_trio(self) -> None:
        import trio

        deadline = trio.current_time() + self._deadline - monotonic()
        with trio.CancelScope(shield=True, deadline=deadline) as shield:
            try:
                self._works += [self._run()]
                await self._works[-1]
            except trio.Cancelled:
                # Ours: the shield lets no other in. It has to reach the shield.
                raise
            except BaseException:
                if not self._done:
                    raise
        if shield.cancelled_caught:
            self.error = Overrun(f"not done after {self._grace:g} s, so it was cancelled")


async def _outlast(task: asyncio.Task[Any]) -> BaseException | None:
    cancelled: BaseException | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    return cancelled


def _abandon(task: asyncio.Task[Any]) -> None:
    _abandoned.add(task)
    task.add_done_callback(_forget)
    task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        # Asked for, so that asyncio does not log it as never retrieved: the overrun was reported.
        task.exception()
