"""What both scopes have in common: taking in, handing over, and warning when they are forgotten."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shmplane.errors import ClosedError
from shmplane.scopes import registry, temporary
from shmplane.scopes.stack import Cleanup, Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["ScopeBase"]

T = TypeVar("T")

_numbers = itertools.count(1)


class ScopeBase:
    """A stack of things to be cleaned up, last in, first out."""

    #: How a resource ends when nobody said so: the first of these methods that it has.
    _ends: tuple[str, ...] = ("close",)

    def __init__(self, name: str | None = None) -> None:
        self.name: str = name or f"scope-{next(_numbers)}"
        self._entries: list[Entry] = []
        self._closed = False
        registry.register(self)

    @property
    def closed(self) -> bool:
        """Whether it takes nothing in any more."""
        return self._closed

    def enter(self, cm: AbstractContextManager[T]) -> T:
        """Enter a context manager; it is left when the scope closes."""
        self._check_open()
        enter, leave = protocol_of(cm, "__enter__", "__exit__")
        value: T = enter(cm)
        self._push(repr(cm), value, lambda error: leave(cm, *_triple(error)), sys._getframe(1))
        return value

    def own(self, resource: T, close: Callable[[T], Any] | None = None) -> T:
        """Close the resource when the scope closes: by ``close(resource)``, or by its own method."""
        self._check_open()
        end = self._end_of(resource) if close is None else _callable(close, "close")
        self._push(repr(resource), resource, lambda _: _void(end(resource)), sys._getframe(1))
        return resource

    def callback(self, fn: Callable[..., Any], *args: Any) -> None:
        """Call ``fn(*args)`` when the scope closes."""
        self._check_open()
        _callable(fn, "fn")
        self._push(f"{fn!r}", fn, lambda _: _void(fn(*args)), sys._getframe(1))

    def release(self, resource: T) -> T:
        """Hand a resource over: the scope forgets it and does not close it. Found by identity.

        Raises:
            ValueError: the scope does not hold it.
        """
        for entry in reversed(self._entries):
            if entry.resource is resource:
                self._entries.remove(entry)
                temporary.keep(resource)
                return resource
        raise ValueError(f"scope {self.name!r} does not hold {resource!r}")

    def temporary_file(self, suffix: str = "") -> Path:
        """An empty file, mode 0600, that is removed when the scope closes.

        If this process is killed, a later ``gc`` removes it.
        """
        self._check_open()
        path = temporary.new_file(suffix)
        self._push(f"temporary file {path}", path, lambda _: temporary.remove(path), sys._getframe(1))
        return path

    def temporary_directory(self) -> Path:
        """An empty directory, mode 0700, that is removed with what is in it, like ``temporary_file``."""
        self._check_open()
        path = temporary.new_directory()
        self._push(f"temporary directory {path}", path, lambda _: temporary.remove(path), sys._getframe(1))
        return path

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._entries)} open"
        return f"<{type(self).__name__} {self.name!r}: {state}>"

    def __del__(self) -> None:
        for entry in reversed(getattr(self, "_entries", ())):
            if entry.pid == os.getpid():
                self._forgotten(entry)

    def _forgotten(self, entry: Entry) -> None:
        if isinstance(entry.resource, Path):
            with suppress(OSError):
                temporary.remove(entry.resource)
        file, line = entry.place
        message = f"{entry.what} was never closed: scope {self.name!r} became garbage; use it as a context manager"
        warnings.warn_explicit(message, ResourceWarning, file, line, source=self)

    def _push(self, what: str, resource: Any, cleanup: Cleanup, frame: FrameType) -> None:
        self._entries.append(Entry(what[:200], resource, cleanup, frame))

    def _pop(self) -> Entry | None:
        """The next thing to clean up; what a forked child inherited is its parent's business."""
        while self._entries:
            entry = self._entries.pop()
            if entry.pid == os.getpid():
                return entry
        return None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"scope {self.name!r} is closed; make a new one", scope=self.name)

    def _end_of(self, resource: Any) -> Callable[[Any], Any]:
        for method in self._ends:
            end = getattr(resource, method, None)
            if callable(end):
                return lambda _: end()
        raise TypeError(f"{resource!r} has no {' or '.join(self._ends)} method: pass close=")


def protocol_of(cm: Any, enter: str, leave: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two methods of a context manager, or ``TypeError``."""
    try:
        return getattr(type(cm), enter), getattr(type(cm), leave)
    except AttributeError:
        raise TypeError(f"{cm!r} is no context manager: its type has no {enter} and {leave}") from None


def _callable(fn: Callable[..., Any], what: str) -> Callable[..., Any]:
    if not callable(fn):
        raise TypeError(f"{what} is a callable, not {fn!r}")
    return fn


def _triple(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _void(result: Any) -> Any:
    """Awaitables are passed on; any other result says nothing, above all not that an error was handled."""
    return result if hasattr(result, "__await__") else None
