"""Which values are being loaded by whom, so that a loader that asks for its own value is told so instead of waiting.

A plain loader is known by its thread: threads that it starts wait in line as anybody does. What an event loop loads is known
by its context alone, which the tasks and threads that a loader awaits have as well.
"""

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
    """One call of a loader; ``thread``: where it runs, None for one of an event loop."""

    __slots__ = ("is_over", "pid", "thread", "value")

    def __init__(self, value: _Value, thread: int | None) -> None:
        self.value = value
        self.pid, self.thread = os.getpid(), thread
        #: tasks that were started inside of a loader keep its context for longer than it lasts
        self.is_over = False

    def is_waiting_for(self, thread: int | None) -> bool:
        """It has not returned, and does not before who asks does. A forked child waits in line as anybody does."""
        return not self.is_over and self.pid == os.getpid() and (thread is None or self.thread in {None, thread})


#: the loads that this code runs inside of, outermost first
_loads: ContextVar[tuple[_Load, ...]] = ContextVar("shmplane_loads", default=())


def refuse_own(instance: int, name: str, *, in_task: bool = False) -> None:
    """``RuntimeError`` when this is asked inside the computation of that very value.

    Args:
        instance: which plane.
        in_task: by a task of an event loop, which a loader may wait for from another thread.
    """
    value, thread = _Value(instance, name), None if in_task else threading.get_ident()
    chain = [load.value for load in _loads.get() if load.is_waiting_for(thread)]
    if value in chain:
        asked = " -> ".join(repr(link.name) for link in [*chain[chain.index(value) :], value])
        raise RuntimeError(
            f"the loader of {name!r} asks for {name!r} itself ({asked}), which would wait for ever. Compute it inside of "
            f"the loader, or ask for another name."
        )


@contextmanager
def loading(instance: int, name: str, *, in_task: bool = False) -> Iterator[None]:
    """Inside of it the loader runs."""
    load = _Load(_Value(instance, name), None if in_task else threading.get_ident())
    token = _loads.set((*_loads.get(), load))
    try:
        yield
    finally:
        load.is_over = True
        _loads.reset(token)
