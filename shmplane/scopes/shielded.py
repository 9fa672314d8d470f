"""How a cleanup finishes although its task is cancelled, once or again and again.

asyncio: a task of its own, waited for in a loop. ``asyncio.shield`` alone protects against one
cancellation, the loop against all. The task is hidden from ``asyncio.all_tasks``, since those who cancel
that (``asyncio.run`` at its end) would cancel the cleanup itself.
trio: a shielded cancel scope, with a deadline.
"""

from __future__ import annotations

import asyncio
import math
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["Overrun", "finish", "finish_on_asyncio", "hidden_task", "is_on_trio"]

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
    cancelled = await _outlast(task, math.inf)
    if cancelled is not None:
        if not task.cancelled() and task.exception() is not None:
            cancelled.add_note(f"what was being finished failed: {task.exception()!r}")
        raise cancelled
    return task.result()


async def finish(work: Coroutine[Any, Any, object], grace: float) -> tuple[BaseException | None, BaseException | None]:
    """Run a cleanup to its end or for ``grace`` seconds; never raises.

    Returns: what cancelled us meanwhile (to be raised when all is done), and the error of the cleanup.
    """
    if is_on_trio():
        return None, await _finish_on_trio(work, grace)
    task = hidden_task(work)
    cancelled = await _outlast(task, monotonic() + grace)
    return cancelled, _error_of(task, grace)


async def _outlast(task: asyncio.Task[Any], deadline: float) -> BaseException | None:
    cancelled: BaseException | None = None
    while not task.done():
        left = deadline - monotonic()
        if left <= 0:
            break
        try:
            await asyncio.wait([task], timeout=None if math.isinf(left) else left)
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    return cancelled


def _error_of(task: asyncio.Task[Any], grace: float) -> BaseException | None:
    if not task.done():
        _abandon(task)
        return Overrun(f"not done after {grace:g} s, so it was cancelled and left behind")
    if task.cancelled():
        return RuntimeError("the cleanup was cancelled from inside")
    return task.exception()


def _abandon(task: asyncio.Task[Any]) -> None:
    _abandoned.add(task)
    task.add_done_callback(_forget)
    task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        # Asked for, so that asyncio does not log it as never retrieved: the overrun was reported.
        task.exception()


async def _finish_on_trio(work: Coroutine[Any, Any, object], grace: float) -> BaseException | None:
    import trio

    with trio.CancelScope(shield=True, deadline=trio.current_time() + grace) as shield:
        try:
            await work
        except trio.Cancelled:
            # Ours: the shield lets no other in. It has to reach the shield.
            raise
        except BaseException as error:  # noqa: BLE001  returned, and raised when all is done
            return error
    if shield.cancelled_caught:
        return Overrun(f"not done after {grace:g} s, so it was cancelled")
    return None
