"""A scope for plain code."""

from __future__ import annotations

from typing import Self

from shmplane.scopes.base import MOST_TRIES, ScopeBase
from shmplane.scopes.stack import PENDING, Closing, Verdict

__all__ = ["Scope"]


class Scope(ScopeBase):
    """Cleans up what it was given, last in, first out, whatever happens.

    Every cleanup runs, once, also when others fail, and when Ctrl-C or a signal handler's exception comes in between,
    again and again. Cleanup errors form an ``ExceptionGroup``, which an ``Exception`` of the body joins;
    ``KeyboardInterrupt`` and ``SystemExit`` go on as they are, and so does the exception of a signal handler that
    lands between cleanups, unless it is one of several. A forked child does not clean up what its parent acquired.
    """

    def close(self) -> None:
        """Clean up now; safe to call again.

        Raises:
            ExceptionGroup: of what the cleanups raised.
        """
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        closings: list[Closing] = []
        landed: list[BaseException] = []
        verdict, tries = PENDING, 0
        # An exception of a signal handler may land anywhere in an attempt, so it is made again. Behind the inner
        # `except` the loop goes back, which is a place for a signal too; hence the outer one. No call stands before
        # the first attempt. Loops without a condition: only their way back is inside of the outer `try` (dis.dis).
        while True:
            try:
                while True:
                    try:
                        verdict = self._attempt(error, closings, landed)
                        break
                    except BaseException as late:
                        landed += [late]
                        tries += 1
                        if tries > MOST_TRIES:
                            raise
                break
            except BaseException as late:
                landed += [late]
                tries += 1
                if tries > MOST_TRIES:
                    raise
        if verdict.error is not None:  # the loops end with it, or raise
            raise verdict.error
        return verdict.handled

    def _attempt(self, body: BaseException | None, closings: list[Closing], landed: list[BaseException]) -> Verdict:
        closing = self._begin_closing(body, closings, landed)
        while (entry := self._next(closing)) is not None:
            entry.run(closing)
            entry.judge()
            if closing.book(entry):
                self._remove(entry)
        return self._end_closing(closing)
