"""What signal handlers raise, in sweeps and storms: errors that are known again when they come out.

Kinds, each with the handler that raises it:
    interrupts  what Ctrl-C raises, by C code
    deadlines   ``TimeoutError``, an ``OSError`` without a number
    errors      ``RuntimeError``
    values      ``ValueError``
    keys        ``KeyboardInterrupt``, by a handler written in Python
    calls       what a call of the plane raises that the handler makes itself, when it is refused
    twice       ``KeyboardInterrupt``, and another one while what the first one ended is undone; for queues alone
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

__all__ = ["KINDS", "TWICE", "Thrower", "is_thrown"]

_RAISED: dict[str, type[BaseException]] = {
    "deadlines": TimeoutError,
    "errors": RuntimeError,
    "values": ValueError,
    "keys": KeyboardInterrupt,
}
KINDS = ["interrupts", *_RAISED, "calls"]
TWICE = "twice"


class Thrower:
    """The handler of one kind, and what it has raised: each signal's own object.

    Args:
        call: what a handler of kind ``calls`` does.
    """

    def __init__(self, kind: str, call: Callable[[], object] = lambda: None) -> None:
        self.kind, self._call = kind, call
        self.thrown: list[BaseException] = []
        self.handler: Any = signal.default_int_handler if kind == "interrupts" else self._handle

    def _handle(self, *_: Any) -> None:
        try:
            if self.kind == "calls":
                self._call()
            else:
                raise _RAISED.get(self.kind, KeyboardInterrupt)(
                    f"raised by a signal handler, number {len(self.thrown)}"
                )
        except BaseException as error:
            error.was_thrown = True  # type: ignore[attr-defined]
            self.thrown.append(error)
            raise

    def knows(self, error: BaseException) -> bool:
        """Whether it is the last that was raised, itself."""
        if self.kind == "interrupts":
            return type(error) is KeyboardInterrupt
        return bool(self.thrown) and error is self.thrown[-1]

    def forget(self) -> None:
        """Keep nothing that the frames hold which they came through."""
        for error in self.thrown:
            error.__traceback__ = error.__context__ = error.__cause__ = None


def is_thrown(error: BaseException) -> bool:
    """Whether a handler raised it."""
    return isinstance(error, KeyboardInterrupt) or getattr(error, "was_thrown", False)
