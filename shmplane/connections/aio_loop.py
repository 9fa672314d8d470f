"""A pool's event loop: bound at first use, asked for cheaply, and the tasks that run in it."""

from __future__ import annotations

import asyncio
from _thread import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from shmplane.connections.front import Front
from shmplane.scopes import hidden_task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from shmplane.connections.permits import PermitSeeker

__all__ = ["LoopBound"]

T = TypeVar("T")


class LoopBound(Front[T]):
    """The part of an async pool that knows its loop."""

    def _begin(self) -> None:
        super()._begin()
        self._check = self._settings.check
        self._reset = self._settings.reset
        self._loop: asyncio.AbstractEventLoop | None = None
        # In that thread while that loop runs is in that loop; asking for the running loop costs
        # a system call on 3.11.
        self._thread: int | None = None
        self._is_running: Callable[[], bool] = bool
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connects: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._seeker: PermitSeeker | None = None

    def _bind(self) -> None:
        """Make sure that we are in the pool's event loop; the first one becomes it."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                f"pool {self.name!r} needs a running asyncio event loop, and there is none here; "
                f"on trio run it through trio-asyncio, without an event loop use ConnectionPool"
            ) from None
        if self._loop is None:
            self._loop = running
            self._thread, self._is_running = get_ident(), running.is_running
        elif self._loop is not running:
            raise RuntimeError(
                f"pool {self.name!r} belongs to another asyncio event loop, where its connections "
                f"were opened; make one pool per event loop"
            )

    def _on_loop(self, act: Callable[[], object]) -> None:
        """Run now in the loop's thread, soon from another one."""
        loop = self._loop
        if loop is None or asyncio._get_running_loop() is loop or loop.is_closed():
            act()
        else:
            loop.call_soon_threadsafe(act)

    def _spawn(self, work: Coroutine[Any, Any, Any], *, hidden: bool) -> asyncio.Task[Any]:
        # What ends something is hidden from those who cancel all tasks; what begins something is not.
        task = hidden_task(work) if hidden else asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
