"""Which values are being loaded by whom, so that a loader that asks for its own value is told so instead of waiting.

A plain loader is known by its thread: threads that it starts wait in line as anybody does. What an event loop loads is known
by its context alone, which the tasks and threads that a loader awaits have as well.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...names import check_block_name
from .in_threads import call_in_loop, call_in_thread
from .waker import running_loop

if TYPE_CHECKING:
    from ..blocks.block import Block
    from ..process.attachment import Attachment
    from .semaphores import Semaphore

__all__ = ["get_or_put", "get_or_put_async", "loading", "refuse_own"]


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


class CanLoad(Protocol):
    """A plane, as far as loading what is missing needs it."""

    name: str

    def get(self, name: str, default: Any = None) -> Any: ...
    def put(self, name: str | None, value: Any) -> Block: ...
    def _open(self) -> Attachment: ...
    def _semaphore(self, name: bytes, permits: int, title: str) -> Semaphore: ...
    async def _find_async(self, name: str, default: Any) -> Any: ...


def get_or_put(plane: CanLoad, name: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What ``Plane.get_or_put`` returns."""
    encoded, missing = check_block_name(name), object()
    value = plane.get(name, missing)
    if value is not missing:
        return value
    instance = plane._open().instance
    refuse_own(instance, name)
    with _loading_of(plane, name, encoded):
        value = plane.get(name, missing)
        if value is missing:
            with loading(instance, name):
                loaded = fn(*args)
            value = _put_and_show(plane, name, loaded)
        return value


async def get_or_put_async(plane: CanLoad, name: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What ``Plane.get_or_put_async`` returns."""
    running_loop()
    encoded, missing = check_block_name(name), object()
    value = await plane._find_async(name, missing)
    if value is not missing:
        return value
    instance = plane._open().instance
    refuse_own(instance, name, in_task=True)
    async with _loading_of(plane, name, encoded):
        value = await plane._find_async(name, missing)
        if value is missing:
            with loading(instance, name, in_task=True):
                loaded = await call_in_loop(fn, *args)
            value = await call_in_thread(_put_and_show, plane, name, loaded, to_its_end=True)
        return value


def _loading_of(plane: CanLoad, name: str, encoded: bytes) -> Semaphore:
    return plane._semaphore(b"g:" + encoded, 1, f"the loading of {name!r} in plane {plane.name!r}")


def _put_and_show(plane: CanLoad, name: str, loaded: Any) -> Any:
    # Its lease keeps the value, also when somebody deletes the name at once.
    with plane.put(name, loaded) as block:
        return block.value()
