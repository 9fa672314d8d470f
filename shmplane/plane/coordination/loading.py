"""Which values are being loaded by whom, so that a loader that asks for its own value is told so instead of waiting."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

__all__ = ["loading", "refuse_own"]


class _Value(NamedTuple):
    instance: int
    name: str


class _Load:
    """One call of a loader."""

    __slots__ = ("is_over", "pid", "thread", "value")

    def __init__(self, value: _Value) -> None:
        self.value = value
        self.pid, self.thread = os.getpid(), threading.get_ident()
        #: tasks that were started inside of a loader keep its context for longer than it lasts
        self.is_over = False

    def is_here(self) -> bool:
        """A loader of this thread has not returned yet. Another thread, or a forked child, waits in line as anybody does."""
        return not self.is_over and self.thread == threading.get_ident() and self.pid == os.getpid()


#: the loads that this code runs inside of, outermost first
_loads: ContextVar[tuple[_Load, ...]] = ContextVar("shmplane_loads", default=())


def refuse_own(instance: int, name: str) -> None:
    """``RuntimeError`` when this is asked inside the computation of that very value.

    Args:
        instance: which plane.
    """
    value = _Value(instance, name)
    chain = [load.value for load in _loads.get() if load.is_here()]
    if value in chain:
        asked = " -> ".join(repr(link.name) for link in [*chain[chain.index(value) :], value])
        raise RuntimeError(
            f"the loader of {name!r} asks for {name!r} itself ({asked}), which would wait for ever. Compute it inside of "
            f"the loader, or ask for another name."
        )


@contextmanager
def loading(instance: int, name: str) -> Iterator[None]:
    """Inside of it the loader runs."""
    load = _Load(_Value(instance, name))
    token = _loads.set((*_loads.get(), load))
    try:
        yield
    finally:
        load.is_over = True
        _loads.reset(token)
