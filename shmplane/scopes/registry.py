"""Which scopes are open in this process, and what they hold."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Protocol

__all__ = ["OpenResource", "register", "report"]


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
