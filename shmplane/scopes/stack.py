"""What a scope owns, and what becomes of errors when it lets go. No waiting here, so both scopes share it.

Errors, in short: every cleanup runs; cleanup errors form one ``ExceptionGroup``, which an ``Exception`` of
the body joins; whatever is not an ``Exception`` (cancellation, Ctrl-C, exit) goes on as it is, and the
cleanup errors are logged instead.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = ["Entry", "Reckoning"]

log: logging.Logger = logging.getLogger("shmplane.scopes")

#: What runs at the end; takes the error that is under way and returns true to swallow it.
Cleanup = Callable[[BaseException | None], Any]


class Entry:
    """One thing to be cleaned up."""

    __slots__ = ("cleanup", "code", "lasti", "pid", "resource", "since", "what")

    def __init__(self, what: str, resource: Any, cleanup: Cleanup, frame: FrameType) -> None:
        self.what: str = what  #: for people
        self.resource: Any = resource
        self.cleanup: Cleanup = cleanup
        self.code: CodeType = frame.f_code  #: with ``lasti``: where it was acquired
        self.lasti: int = frame.f_lasti
        self.since: float = monotonic()
        self.pid: int = os.getpid()  #: a forked child leaves its parent's things alone

    @property
    def place(self) -> tuple[str, int]:
        """File and line; looked up when somebody asks."""
        for start, end, line in self.code.co_lines():
            if start <= self.lasti < end and line is not None:
                return self.code.co_filename, line
        return self.code.co_filename, self.code.co_firstlineno

    def __str__(self) -> str:
        file, line = self.place
        return f"{self.what}, acquired at {file}:{line}"


class Reckoning:
    """The errors of one closing."""

    def __init__(self, scope: str, body: BaseException | None) -> None:
        self._scope = scope
        self._body = body
        self._errors: list[Exception] = []
        self._interrupt: BaseException | None = None
        self.swallowed: bool = False  #: a context manager of the scope handled the body's error

    @property
    def under_way(self) -> BaseException | None:
        """What the next context manager gets to see."""
        if self._body is not None and not self.swallowed:
            return self._body
        return self._interrupt or (self._errors[-1] if self._errors else None)

    def swallow(self) -> None:
        """A context manager handled what was under way; only an error of the body can be handled."""
        if isinstance(self._body, Exception):
            self.swallowed = True

    def add(self, error: BaseException | None, entry: Entry) -> None:
        """Book what a cleanup raised."""
        if error is None or error is self._body:
            return
        if isinstance(error, Exception):
            error.add_note(f"during the cleanup of {entry}")
            self._errors.append(error)
        elif self._interrupt is None:
            self._interrupt = error

    def settle(self) -> bool:
        """Raise what has to be raised; True when the body's error was handled."""
        body = None if self.swallowed else self._body
        if body is not None and not isinstance(body, Exception):
            self._report()
            return False
        if self._interrupt is not None:
            self._report()
            raise self._interrupt
        if self._errors:
            members = [*([body] if body is not None else []), *self._errors]
            # The body's error is inside the group; as its context it would be printed twice.
            raise ExceptionGroup(f"cleanup of scope {self._scope!r} failed", members) from None
        return self.swallowed

    def _report(self) -> None:
        for error in self._errors:
            log.error("scope %r: a cleanup failed: %r", self._scope, error, exc_info=error)
