"""A scope for asyncio and trio."""

from __future__ import annotations

import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from shmplane.scopes.base import ScopeBase, _triple, protocol_of
from shmplane.scopes.shielded import finish
from shmplane.scopes.stack import Entry, Reckoning

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

__all__ = ["AsyncScope"]

T = TypeVar("T")


class AsyncScope(ScopeBase):
    """Cleans up what it was given, last in, first out, although the task is cancelled, once or again and
    again.

    Works on asyncio and on trio. On asyncio each async cleanup runs in a task of its own, so a context
    manager that must be left by the task that entered it (task groups, cancel scopes, timeouts) is not for
    ``enter_async``.

    Args:
        grace: seconds that each cleanup may take. One that takes longer is cancelled and left behind; that
            is a
            ``TimeoutError`` among the cleanup errors.

    Errors are those of ``Scope``; a cancellation goes on as it is.
    """

    _ends = ("aclose", "close")

    def __init__(self, name: str | None = None, *, grace: float = 10.0) -> None:
        if not grace >= 0:
            raise ValueError(f"grace is seconds, 0 or more, not {grace}")
        super().__init__(name)
        self._grace = grace

    async def enter_async(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Enter an async context manager; it is left when the scope closes."""
        self._check_open()
        frame = sys._getframe(1)
        enter, leave = protocol_of(cm, "__aenter__", "__aexit__")
        value: T = await enter(cm)
        self._push(repr(cm), value, lambda error: leave(cm, *_triple(error)), frame)
        return value

    async def close(self) -> None:
        """Clean up now, to the end although cancelled; safe to call again.

        Raises:
            ExceptionGroup: of what the cleanups raised.
        """
        await self._close(None)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return await self._close(error)

    async def _close(self, body: BaseException | None) -> bool:
        self._closed = True
        reckoning = Reckoning(self.name, body)
        while (entry := self._pop()) is not None:
            try:
                result = entry.cleanup(reckoning.under_way)
            except BaseException as error:  # noqa: BLE001  booked, and raised when all is done
                reckoning.add(error, entry)
                continue
            if isawaitable(result):
                result = await self._finish(result, entry, reckoning)
            if result:
                reckoning.swallow()
        return reckoning.settle()

    async def _finish(self, awaitable: Any, entry: Entry, reckoning: Reckoning) -> Any:
        results: list[Any] = []
        cancelled, error = await finish(_keep_result(awaitable, results), self._grace)
        reckoning.add(error, entry)
        reckoning.add(cancelled, entry)
        return results[0] if results else None


async def _keep_result(awaitable: Any, results: list[Any]) -> None:
    results.append(await awaitable)
