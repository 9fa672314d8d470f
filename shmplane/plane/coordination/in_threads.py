"""Calls that take their time, made by a task: each in a thread of its own.

Not in the loop's executor, whose threads may all be in loaders that wait for what is queued behind them.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction
from typing import Any, NamedTuple

from ...system import ignoring, own

__all__ = ["call_in_loop", "call_in_thread"]


_SLICE_S = 1.0


class _Outcome(NamedTuple):
    """What a call returned or raised."""

    result: Any
    error: BaseException | None


async def call_in_loop(fn: Callable[..., Any], *args: Any) -> Any:
    """What ``fn(*args)`` yields: awaited here when it is async, else called in a thread."""
    if iscoroutinefunction(fn) or iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004 - of an instance
        return await fn(*args)
    result = await call_in_thread(fn, *args)
    return await result if isawaitable(result) else result


async def call_in_thread(fn: Callable[..., Any], *args: Any, to_its_end: bool = False) -> Any:
    """What ``fn(*args)`` returns, called in a thread, in a copy of this task's context.

    Args:
        to_its_end: a cancelled task waits for it, and is cancelled then; otherwise the call goes on for nobody.
    """
    call = _Call(fn, args, asyncio.get_running_loop())
    threading.Thread(target=call.run, name="shmplane-load").start()
    cancelled: asyncio.CancelledError | None = None
    while not call.outcomes:
        try:
            # In slices: what a signal handler raises in the loop may keep the bell from being heard.
            await asyncio.wait((call.bell,), timeout=_SLICE_S)
        except own(asyncio.CancelledError) as error:
            if not to_its_end:
                raise
            cancelled = error
    outcome = call.outcomes[0]
    try:
        if cancelled is not None:
            raise cancelled
        if outcome.error is not None:
            raise outcome.error
        return outcome.result
    finally:
        del call, outcome, cancelled  # the error's traceback has this frame


class _Call:
    """A call under way, and what came of it."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], loop: asyncio.AbstractEventLoop) -> None:
        self._fn, self._args, self._loop = fn, args, loop
        self._context = contextvars.copy_context()
        self.bell: asyncio.Future[None] = loop.create_future()
        self.outcomes: list[_Outcome] = []

    def run(self) -> None:
        """In the thread."""
        try:
            self.outcomes.append(_Outcome(self._context.run(self._fn, *self._args), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the call is awaited
            self.outcomes.append(_Outcome(None, error))
        # A loop that is closed has nobody to tell.
        with ignoring(RuntimeError):
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        if not self.bell.done():
            self.bell.set_result(None)
