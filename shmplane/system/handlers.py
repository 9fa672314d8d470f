"""What a signal handler raised is the user's: how to tell it from what the library's own calls raise.

CPython runs a signal handler between two bytecodes of whatever the main thread is doing. What the handler raises comes out
of that very place: a ``TimeoutError`` of a deadline out of an innocent ``lseek``, a ``ClosedError`` of a re-entered call
out of the middle of a transaction. So an ``except`` of this library asks two things, what it is and whose it is:

    except own(OSError) as error:

Rule 1. A handler is called with the frame that it interrupts, and with nothing in between: in the traceback its frame
follows that frame and has it among its arguments. One that drops the argument is known by its code, as long as it is
installed.
Rule 2. Only the main thread runs handlers.
Rule 3. Where one system call is all that is tried, its ``errno`` is asked as well: a user's ``TimeoutError`` has none.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal, which typeshed leaves out
import sys
import threading
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any, TypeVar

__all__ = ["ignoring", "is_from_handler", "own"]

Kind = TypeVar("Kind", bound=BaseException)
_WITH_VARIABLE_ARGUMENTS = 0x04
_MOST_WRAPPERS = 8
_SIGNALS = range(1, _signal.NSIG)


def own(*kinds: type[Kind]) -> tuple[type[Kind], ...]:
    """For an ``except``: these kinds of exceptions, and none when the one on its way came from a signal handler."""
    error = sys.exception()
    return () if error is not None and isinstance(error, kinds) and is_from_handler(error) else kinds


class ignoring:  # noqa: N801 - it reads like contextlib.suppress
    """``contextlib.suppress`` for what the block's own calls raise."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, self._kinds) and not is_from_handler(error)


def is_from_handler(error: BaseException) -> bool:
    """Whether a signal handler raised it, or something that a handler called."""
    if threading.get_ident() != threading.main_thread().ident:
        return False
    frames: list[FrameType] = []
    step = error.__traceback__
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    if len(frames) < 2:
        return False
    installed = _installed()
    return any(frame.f_code in installed or _was_given(frame, interrupted) for interrupted, frame in pairwise(frames))


def _was_given(frame: FrameType, interrupted: FrameType) -> bool:
    """Whether the frame that was interrupted is among the arguments of this one."""
    code = frame.f_code
    count = code.co_argcount + bool(code.co_flags & _WITH_VARIABLE_ARGUMENTS) * (1 + code.co_kwonlyargcount)
    if not count:
        return False
    known = frame.f_locals  # made anew each time that it is asked for
    arguments = [known.get(name) for name in code.co_varnames[:count]]
    return any(
        argument is interrupted or (isinstance(argument, tuple) and any(one is interrupted for one in argument))
        for argument in arguments
    )


def _installed() -> list[CodeType | None]:
    """The code of each handler that is in place now; asked once for an exception, since every signal is asked for it."""
    # In C: those of ``signal`` have an ``except ValueError`` of their own, in which another signal's exception would end.
    handlers = [handler for handler in map(_signal.getsignal, _SIGNALS) if handler.__class__ is not int]
    return [_code_of(handler) for handler in handlers if handler is not None]


def _code_of(handler: Any) -> CodeType | None:
    for _ in range(_MOST_WRAPPERS):
        if isinstance(handler, (int, type(None), CodeType)):
            break
        inner = getattr(handler, "__func__", None) or getattr(handler, "func", None)  # a bound method, a partial
        handler = inner or getattr(handler, "__code__", None) or getattr(type(handler), "__call__", None)  # noqa: B004 - it is asked for its code
    return handler if isinstance(handler, CodeType) else None
