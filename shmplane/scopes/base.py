"""What both scopes have in common: taking in, handing over, warning when they are forgotten, and the list of open ones."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from shmplane.errors import ClosedError
from shmplane.scopes import temporary
from shmplane.scopes.stack import Closing, Entry, Verdict

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["MOST_TRIES", "OpenResource", "ScopeBase", "register", "report"]

#: attempts at one closing; that many fail where no call can be made at all (RecursionError)
MOST_TRIES = 10_000

T = TypeVar("T")


class Listed(Protocol):
    """A scope, as far as it is listed."""

    name: str
    _entries: Any  #: what it has to clean up, oldest first


# Plain dict operations, each of them atomic: finalizers run anywhere and must not wait for a lock.
_scopes: dict[int, weakref.ref[Listed]] = {}


@dataclass(frozen=True, slots=True)
class OpenResource:
    """One thing that a scope of this process holds."""

    scope: str
    what: str
    file: str  #: where it was acquired
    line: int
    seconds: float  #: for how long

    def __str__(self) -> str:
        return f"{self.scope}: {self.what}, acquired at {self.file}:{self.line}, open for {round(self.seconds, 3):g} s"


def register(scope: Listed) -> None:
    """List a scope for as long as it lives."""
    key = id(scope)
    # All C: an exception of a signal handler would be lost in a callback of Python code.
    _scopes[key] = weakref.ref(scope, partial(_scopes.pop, key))


def report() -> list[OpenResource]:
    """Everything that scopes of this process hold at this moment, the oldest first."""
    now, pid = monotonic(), os.getpid()
    found: list[OpenResource] = []
    for ref in list(_scopes.values()):
        scope = ref()
        if scope is not None:
            mine = [entry for entry in list(scope._entries) if entry.pid == pid and entry.begun_by is None]
            found += [OpenResource(scope.name, e.what, e.place[0], e.place[1], now - e.since) for e in mine]
    return sorted(found, key=lambda resource: -resource.seconds)


_numbers = itertools.count(1)


class ScopeBase:
    """A stack of things to be cleaned up, last in, first out."""

    #: How a resource ends when nobody said so: the first of these methods that it has.
    _ends: tuple[str, ...] = ("close",)

    def __init__(self, name: str | None = None) -> None:
        self.name: str = name or f"scope-{next(_numbers)}"
        self._entries: list[Entry] = []
        self._closed = False
        self._watch = Watch(self.name, self._entries)
        register(self)

    @property
    def closed(self) -> bool:
        """Whether it takes nothing in any more."""
        return self._closed

    def enter(self, cm: AbstractContextManager[T]) -> T:
        """Enter a context manager; it is left when the scope closes."""
        self._check_open()
        enter, leave = protocol_of(cm, "__enter__", "__exit__")
        entry = Entry(repr(cm), None, leave, cm, frame=sys._getframe(1), sees_error=True)
        entered: list[T] = []
        keep, entering = entered.extend, map(enter, (cm,))
        self._watch.begin()
        try:
            keep(entering)
        finally:
            # From the moment it is entered to here nothing looks for signals.
            if entered:
                entry.resource = entered[0]
                self._entries += [entry]
        return entered[0]

    def own(self, resource: T, close: Callable[[T], Any] | None = None) -> T:
        """Close the resource when the scope closes: by ``close(resource)``, or by its own method."""
        self._check_open()
        frame = sys._getframe(1)
        if close is None:
            self._push(Entry(repr(resource), resource, self._end_of(resource), frame=frame))
        else:
            self._push(Entry(repr(resource), resource, _callable(close, "close"), resource, frame=frame))
        return resource

    def callback(self, fn: Callable[..., Any], *args: Any) -> None:
        """Call ``fn(*args)`` when the scope closes."""
        self._check_open()
        self._push(Entry(repr(fn), fn, _callable(fn, "fn"), *args, frame=sys._getframe(1)))

    def release(self, resource: T) -> T:
        """Hand a resource over: the scope forgets it and does not close it. Found by identity.

        Raises:
            ValueError: the scope does not hold it.
        """
        entries = self._entries
        for entry in reversed(entries):
            if entry.resource is resource and entry.begun_by is None:
                temporary.keep(resource)
                index = entries.index(entry)
                # Nothing looks for signals from the question to the end: an interrupted call has released nothing.
                if entries[index] is entry:
                    del entries[index]
                    return resource
        raise ValueError(f"scope {self.name!r} does not hold {resource!r}")

    def temporary_file(self, suffix: str = "") -> Path:
        """An empty file, mode 0600, that is removed when the scope closes.

        If this process is killed, a later ``gc`` removes it.
        """
        return self._make_path("file", sys._getframe(1), suffix)

    def temporary_directory(self) -> Path:
        """An empty directory, mode 0700, that is removed with what is in it, like ``temporary_file``."""
        return self._make_path("directory", sys._getframe(1))

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{sum(entry.begun_by is None for entry in self._entries)} open"
        return f"<{type(self).__name__} {self.name!r}: {state}>"

    def _push(self, entry: Entry) -> None:
        self._watch.begin()
        self._entries += [entry]

    def _make_path(self, kind: str, frame: FrameType, suffix: str = "") -> Path:
        self._check_open()
        while True:
            path = temporary.new_path(f"{kind[0]}-", suffix)
            # Taken in before it is made: to remove what is not there is no error.
            entry = Entry(f"temporary {kind} {path}", path, temporary.remove, path, frame=frame, repeats=1000)
            self._push(entry)
            if temporary.try_make(path, directory=kind == "directory"):
                return path
            self._remove(entry)

    def _next(self, closing: Closing) -> Entry | None:
        for entry in reversed(self._entries):
            if closing.concerns(entry):
                return entry
        return None

    def _remove(self, entry: Entry) -> None:
        entries = self._entries
        for index in reversed(range(len(entries))):
            # Nothing looks for signals between the question and the deed.
            if entries[index : index + 1] == [entry]:
                del entries[index]
                return

    def _begin_closing(
        self, body: BaseException | None, closings: list[Closing], landed: list[BaseException]
    ) -> Closing:
        """The closing of this call, made when it is first asked for."""
        self._closed = True
        if not closings:
            closings.append(Closing(self.name, body, landed))
        return closings[0]

    def _end_closing(self, closing: Closing) -> Verdict:
        verdict = closing.verdict()
        if all(entry.begun_by is not None for entry in self._entries):
            self._watch.end()
        return verdict

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"scope {self.name!r} is closed; make a new one", scope=self.name)

    def _end_of(self, resource: Any) -> Callable[..., Any]:
        for method in self._ends:
            end = getattr(resource, method, None)
            if callable(end):
                return end  # type: ignore[no-any-return]
        raise TypeError(f"{resource!r} has no {' or '.join(self._ends)} method: pass close=")


class Watch:
    """Warns when a scope becomes garbage with things in it.

    A finalizer is Python code, in which the exception of a signal handler would be lost. So it is there for as long as
    there is something to warn about, and a scope that was closed has none.
    """

    def __init__(self, scope: str, entries: list[Entry]) -> None:
        self.scope = scope
        self.entries = entries

    def begin(self) -> None:
        """Something is taken in."""
        self.__class__ = _Armed

    def end(self) -> None:
        """All was cleaned up."""
        self.__class__ = Watch


class _Armed(Watch):
    def __del__(self) -> None:
        for entry in reversed(self.entries):
            if entry.pid == os.getpid() and entry.begun_by is None:
                self._warn(entry)

    def _warn(self, entry: Entry) -> None:
        if isinstance(entry.resource, Path):
            with suppress(OSError):
                temporary.remove(entry.resource)
        file, line = entry.place
        message = f"{entry.what} was never closed: scope {self.scope!r} became garbage; use it as a context manager"
        warnings.warn_explicit(message, ResourceWarning, file, line, source=self)


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
