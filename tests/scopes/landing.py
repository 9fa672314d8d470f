"""Exceptions of signal handlers that land anywhere in a scope, and what must hold whatever they are.

A ``Round`` makes things, lets a scope take them in, and ends it; then every thing that was taken in, and no other, was
cleaned up exactly once, and the exception came out. ``Signals`` lets a handler raise at the n-th bytecode of the
library, and some bytecodes later again.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import shmplane
from shmplane.scopes import AsyncScope, Scope
from tests.support.tracing import Bytecodes

NEVER = 2**62
_HOUSE = os.path.dirname(shmplane.__file__) + os.sep
KINDS: list[type[BaseException] | str] = [TimeoutError, RuntimeError, KeyboardInterrupt, "a call of the scope itself"]


class Thing:
    """Is cleaned up by ``close``, ``aclose``, a function or as a context manager; counts how often it was."""

    def __init__(self, way: str, error: Exception | None = None) -> None:
        self.way, self.error = way, error
        self.asked = self.taken = self.released = False
        self.entered = self.closed = 0
        self.path: Path | None = None

    def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(self, *details: object) -> None:
        self.closed += 1

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(self, *details: object) -> None:
        self.closed += 1

    def be_taken(self, scope: Scope | AsyncScope) -> None:
        self.asked = True
        match self.way:
            case "enter":
                scope.enter(self)
            case "own":
                scope.own(self)
            case "own with close":
                scope.own(self, Thing.close)
            case "callback":
                scope.callback(self.close)
            case "release":
                scope.own(self)
                self.taken = True
                scope.release(self)
                self.released = True
            case "file":
                self.path = scope.temporary_file(".txt")
            case "directory":
                self.path = scope.temporary_directory()
                (self.path / "x").touch()
        self.taken = True

    def faults(self) -> list[str]:
        """What is wrong when all is over."""
        if self.path is not None:
            return [f"{self.way} {self.path} is still there"] if self.path.exists() else []
        if self.way in ("file", "directory"):
            return []
        if self.released:
            expected = {0}
        elif self.taken or self.entered:
            expected = {1}
        else:
            expected = {0, 1} if self.asked and self.way not in ("enter", "enter async") else {0}
        return [] if self.closed in expected else [f"{self.way}: cleaned up {self.closed} times, expected {expected}"]


class Signals:
    """Raises in a handler of SIGINT at the ``at``-th bytecode of the library, and again after each of ``gaps``."""

    def __init__(self, kind: type[BaseException] | str, at: int, gaps: Sequence[int] = ()) -> None:
        self.kind, self.at, self.gaps = kind, at, list(gaps)
        self.raised: list[BaseException] = []
        self.scope: Scope | AsyncScope | None = None
        self._trigger = Bytecodes(interrupt=True)

    def disturb(self, work: Callable[[], object]) -> BaseException | None:
        """Call it; the exception that came out, if one did."""
        came: BaseException | None = None
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            try:
                self._trigger.arm(self.at)
                work()
            finally:
                self._trigger.disarm()
        except BaseException as error:
            came = error
        while True:
            try:
                # The last one may be pending yet.
                self._trigger.disarm()
                signal.signal(signal.SIGINT, before)
                return came
            except BaseException as error:
                came = error

    @property
    def count(self) -> int:
        return self._trigger.count

    def _handle(self, *_: object) -> None:
        try:
            if isinstance(self.kind, type):
                raise self.kind("of a signal handler")
            if isinstance(self.scope, Scope):
                self.scope.close()
            if self.scope is not None:
                self.scope.release(self)  # held by nobody: ValueError
            raise ValueError
        except BaseException as error:
            self.raised.append(error)
            if self.gaps:
                self._trigger.arm(self.gaps.pop(0))
            raise


def all_in(error: BaseException | None) -> set[int]:
    """The ids of an exception, its members and contexts."""
    found: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in found:
            found.add(id(one))
            waiting += [one.__context__, one.__cause__, *getattr(one, "exceptions", ())]
    return found


def began_to_leave(error: BaseException, leave: Any) -> bool:
    """Whether the exception landed after the first bytecode of the function ``leave``, or never in it."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is leave.__code__:
            return trace.tb_lasti > 4 or (
                trace.tb_next is not None and "handle" not in trace.tb_next.tb_frame.f_code.co_name
            )
        trace = trace.tb_next
    return True


def landed_in_the_library(error: BaseException) -> bool:
    """Whether a frame of the library was under way; else it is the event loop's to pass on, and asyncio logs it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not Signals._handle.__code__:
        if trace.tb_frame.f_code.co_filename.startswith(_HOUSE):
            return True
        trace = trace.tb_next
    return False


def sample(count: int, most: int | None, seed: int) -> list[int]:
    """All of 1 to ``count``, or so many of them."""
    whole = range(1, count + 1)
    return list(whole) if most is None or most >= count else sorted(random.Random(seed).sample(whole, most))


def sweep(play: Callable[[Signals], list[str]], kind: type[BaseException] | str, *, most: int | None, more: int) -> int:
    """Play with the signal at each point; how many points that were. Raises what was wrong."""
    whole = Signals(kind, NEVER)
    assert play(whole) == []
    play(whole)
    chance = random.Random(more)
    points = sample(whole.count, most, seed=more)
    for at in points:
        gaps = [chance.randrange(1, 60) for _ in range(more)]
        faults = play(Signals(kind, at, gaps))
        assert not faults, f"{kind} at {at} of {whole.count}, then after {gaps}: {faults}"
    return len(points)
