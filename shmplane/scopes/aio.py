"""A scope for asyncio and trio."""

from __future__ import annotations

import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Self, TypeVar

from shmplane.scopes.base import MOST_TRIES, ScopeBase, protocol_of
from shmplane.scopes.shielded import Finish
from shmplane.scopes.stack import PENDING, Closing, Entry, Verdict

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

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
        enter, leave = protocol_of(cm, "__aenter__", "__aexit__")
        entry = Entry(repr(cm), None, leave, cm, frame=sys._getframe(1), sees_error=True)
        entered: list[T] = []
        self._watch.begin()
        try:
            # From the moment it is entered to the end nothing looks for signals.
            entered += [await enter(cm)]
        finally:
            if entered:
                entry.resource = entered[0]
                self._entries += [entry]
        return entered[0]

    async def close(self) -> None:
        """Clean up now, to the end although cancelled; safe to call again.

        Raises:
            ExceptionGroup: of what the cleanups raised.
        """
        await self.__aexit__(None, None, None)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        closings: list[Closing] = []
        landed: list[BaseException] = []
        verdict, tries = PENDING, 0
        # As in Scope.__exit__. Who closes this coroutine (GeneratorExit) lets it await no more.
        while True:
            try:
                while True:
                    try:
                        verdict = await self._attempt(error, closings, landed)
                        break
                    except GeneratorExit:
                        raise
                    except BaseException as late:
                        landed += [late]
                        tries += 1
                        if tries > MOST_TRIES:
                            raise
                break
            except GeneratorExit:
                raise
            except BaseException as late:
                landed += [late]
                tries += 1
                if tries > MOST_TRIES:
                    raise
        if verdict.error is not None:  # the loops end with it, or raise
            raise verdict.error
        return verdict.handled

    async def _attempt(
        self, body: BaseException | None, closings: list[Closing], landed: list[BaseException]
    ) -> Verdict:
        closing = self._begin_closing(body, closings, landed)
        while (entry := self._next(closing)) is not None:
            entry.run(closing)
            await self._finish(entry)
            entry.judge()
            if closing.book(entry):
                self._remove(entry)
        return self._end_closing(closing)

    async def _finish(self, entry: Entry) -> None:
        if entry.finish is None and entry.error is None and entry.results and isawaitable(entry.results[0]):
            entry.finish = Finish(entry.results[0], entry.results, self._grace)
        if entry.finish is not None:
            await entry.finish.wait()
            entry.error = entry.finish.error
