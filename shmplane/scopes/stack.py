"""What a scope owns, and what becomes of errors when it lets go. No waiting here, so both scopes share it.

Errors, in short: every cleanup runs; cleanup errors form one ``ExceptionGroup``, which an ``Exception`` of
the body joins; whatever is not an ``Exception`` (cancellation, Ctrl-C, exit) goes on as it is, and the
cleanup errors are logged instead.

What can come in between, anywhere: an exception that a signal handler raises, or a handler that closes the
scope itself. CPython looks for signals where a function starts, after a call of C code, and where a loop goes
back; never between two of the other bytecodes. So a line like ``entries += [entry]`` is done or not begun, and
the same makes it safe among threads. Everything else here may be begun again:

* A cleanup has begun when ``Entry.run`` calls it, and is then never called again. Only where the exception
  landed on its first bytecode, so that none of it ran, does it count as not begun.
* An entry leaves the scope when its outcome is in the ``Closing``. Both ask first whether that was done.
* An exception that lands between cleanups is no cleanup's. It counts like one of the body: alone it goes on as
  it is, beside others it is in their group.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from itertools import starmap
from opcode import opmap
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from ..system import logger_of

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from shmplane.scopes.shielded import Finish

__all__ = ["PENDING", "Closing", "Entry", "Verdict"]

log: logging.Logger = logger_of("shmplane.scopes")


class Entry:
    """One thing to be cleaned up, by ``fn(*args)``.

    Args:
        what: for people.
        frame: where it was acquired.
        sees_error: ``fn`` is an ``__exit__``: it also takes the error that is under way, and returns true to swallow it.
        repeats: how often it may be called again after a signal's exception: a file that was removed stays removed.
    """

    __slots__ = (
        "args", "begun_by", "booked", "code", "error", "finish", "fn", "handled", "lasti", "pid", "repeats",
        "resource", "results", "sees_error", "since", "what",
    )  # fmt: skip

    def __init__(
        self,
        what: str,
        resource: Any,
        fn: Callable[..., Any],
        *args: Any,
        frame: FrameType,
        sees_error: bool = False,
        repeats: int = 0,
    ) -> None:
        self.what: str = what[:200]
        self.resource: Any = resource
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.sees_error: bool = sees_error
        self.repeats: int = repeats
        self.code: CodeType = frame.f_code  #: with ``lasti``: where it was acquired
        self.lasti: int = frame.f_lasti
        self.since: float = monotonic()
        self.pid: int = os.getpid()  #: a forked child leaves its parent's things alone
        self.begun_by: Closing | None = None
        self.booked: bool = False
        self.results: list[Any] = []  #: what ``fn`` returned
        self.error: BaseException | None = None  #: what it raised
        self.finish: Finish | None = None  #: of a cleanup that has to be awaited
        self.handled: bool = False  #: an ``__exit__`` said so

    def run(self, closing: Closing) -> None:
        """Clean up, unless that has begun; what comes of it is in ``results`` or ``error``."""
        args = (*self.args, *_triple(closing.under_way)) if self.sees_error else self.args
        keep, work = self.results.extend, starmap(self.fn, (args,))
        if self.begun_by is not None:
            return
        try:
            # Nothing looks for signals from the question above until ``fn`` is entered, nor between its end and the
            # place where its result is kept: a coroutine that got lost would never be awaited.
            self.begun_by = closing
            keep(work)
        except BaseException as error:  # noqa: BLE001  booked, and raised when all is done
            if self.results:
                closing.landed += [error]  # ``fn`` had returned
            else:
                self.error = error

    def judge(self) -> None:
        """Ask an ``__exit__``'s result whether it handled the error."""
        try:
            self.handled = self.sees_error and self.error is None and any(self.results)
        except BaseException as error:  # noqa: BLE001  booked, and raised when all is done
            self.error = error

    @property
    def has_not_run(self) -> bool:
        """Whether an exception came before its first bytecode, or it may simply be called again."""
        error = self.error
        if error is None:
            return False
        if self.repeats > 0:
            # What the system says has an errno, also a TimeoutError; what a handler raises has none.
            return getattr(error, "errno", None) is None and not isinstance(error, RecursionError)
        return _ran_nothing(error, self.fn)

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


class Verdict(NamedTuple):
    """What a closing ends with."""

    error: BaseException | None  #: to be raised
    handled: bool = False  #: the body's error was handled


PENDING: Verdict = Verdict(None)


class Closing:
    """The errors of one closing."""

    def __init__(self, scope: str, body: BaseException | None, landed: list[BaseException]) -> None:
        self._scope = scope
        self._body = body
        self.landed: list[BaseException] = landed  #: what signal handlers raised between cleanups
        self._errors: list[tuple[BaseException, Entry]] = []
        self._swallowed = False  #: a context manager of the scope handled the body's error
        self._reported = 0

    @property
    def under_way(self) -> BaseException | None:
        """What the next context manager gets to see."""
        if self._body is not None and not self._swallowed:
            return self._body
        errors = [error for error, _ in self._errors]
        return next(iter(_interrupts(errors + self.landed)), errors[-1] if errors else None)

    def concerns(self, entry: Entry) -> bool:
        """Whether it is for this closing to see it through; what another one has begun is not."""
        return entry.pid == os.getpid() and (entry.begun_by is None or entry.begun_by is self or entry.has_not_run)

    def book(self, entry: Entry) -> bool:
        """Take over the outcome of a cleanup; False when it has to be run again. May be asked again."""
        again, error, landed, finish = entry.has_not_run, entry.error, self.landed, entry.finish
        swallows = entry.handled and isinstance(self._body, Exception)
        # From here on nothing looks for signals.
        if again and entry.error is error and error is not None:
            landed += [error]
            entry.repeats -= 1
            entry.results, entry.error, entry.finish, entry.begun_by = [], None, None, None
            return False
        if entry.begun_by is not self or entry.booked:
            return True
        if finish is not None and finish.cancelled is not None:
            landed += [finish.cancelled]
        if error is not None and error is not self._body:
            self._errors += [(error, entry)]
        if swallows:
            self._swallowed = True
        entry.booked = True
        return True

    def verdict(self) -> Verdict:
        """What has to be raised, or whether the body's error was handled. May be asked again."""
        body = None if self._swallowed else self._body
        errors = [error for error, _ in self._errors]
        landed = [error for error in dict.fromkeys(self.landed) if error is not body]
        self._add_notes()
        interrupts = _interrupts(errors + landed)
        cleanup, others = _exceptions(errors), _exceptions(landed)
        if body is not None and not isinstance(body, Exception):
            return self._report(cleanup + others, Verdict(None))
        if interrupts:
            return self._report(cleanup + others, Verdict(interrupts[0]))
        members = [*([body] if body is not None else []), *others, *cleanup]
        if not cleanup and (not others or len(members) == 1):
            return Verdict(others[0] if others else None, self._swallowed)
        group = ExceptionGroup(
            f"cleanup of scope {self._scope!r} {'failed' if cleanup else 'was interrupted'}", members
        )
        # The body's error is inside the group; as its context it would be printed twice.
        group.__suppress_context__ = True
        return Verdict(group)

    def _add_notes(self) -> None:
        for error, entry in self._errors:
            note = f"during the cleanup of {entry}"
            if isinstance(error, Exception) and note not in getattr(error, "__notes__", ()):
                error.add_note(note)

    def _report(self, errors: list[Exception], verdict: Verdict) -> Verdict:
        for error in errors[self._reported :]:
            self._reported += 1
            log.error("scope %r: a cleanup failed: %r", self._scope, error, exc_info=error)
        return verdict


def _interrupts(errors: list[BaseException]) -> list[BaseException]:
    return [error for error in errors if not isinstance(error, Exception)]


def _exceptions(errors: list[BaseException]) -> list[Exception]:
    return [error for error in errors if isinstance(error, Exception)]


def _triple(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _ran_nothing(error: BaseException, fn: Callable[..., Any]) -> bool:
    """Whether ``error`` was raised on the bytecode with which ``fn`` starts, where CPython looks for signals."""
    while isinstance(fn, partial):
        fn = fn.func
    code: CodeType | None = getattr(getattr(fn, "__func__", fn), "__code__", None)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    return code is not None and trace is not None and trace.tb_lasti <= 2 * code.co_code[::2].index(opmap["RESUME"])
