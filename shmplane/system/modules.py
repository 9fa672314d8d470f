"""Modules that are loaded when something of them is first used: a start costs what it needs.

Rule 1. A fork waits for such a load and keeps others from beginning one (see ``imports``). So what a module needs of the
standard library is imported at its top: a child could be left with the half of what a function was importing.
Rule 2. No module uses a late one while it is being loaded itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from ..errors import PlaneFull
from .handlers import own

__all__ = ["LATE", "late", "late_names", "load_late"]

#: the names of all late modules
LATE: list[str] = []


def late(name: str) -> Any:
    """A module that is loaded at its first use, and costs what any other does from then on.

    Raises, when it is used:
        PlaneFull: there are no file descriptors left to load it with.
    """
    LATE.append(name)
    return _Late(name)


def late_names(package: str, homes: dict[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__``; ``homes`` says by module, from the package on, which names come from there."""
    home_of = {name: home for home, names in homes.items() for name in names.split()}
    LATE.extend(f"{package}{home}" for home in homes if not home.startswith(".."))

    def getattr_of_package(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(_load(home_of[name], package), name)

    return getattr_of_package


def load_late() -> None:
    """Load all late modules now: for who may not be able to read them later, such as another user."""
    for name in LATE:  # which grows meanwhile
        _load(name)


class _Late(ModuleType):
    """It becomes a plain module with what the real one is for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} is not loaded yet, and has no attribute {name!r}")
        module = _load(self.__name__)
        self.__dict__.update({public: getattr(module, public) for public in getattr(module, "__all__", vars(module))})
        self.__class__ = ModuleType  # type: ignore[assignment]
        return getattr(module, name)


def _load(name: str, package: str | None = None) -> ModuleType:
    try:
        return import_module(name, package)
    except own(OSError, ImportError) as error:
        # Of what is written in C, the error is the dynamic linker's.
        without = [number for number in (errno.EMFILE, errno.ENFILE) if os.strerror(number) in str(error)]
        if not without:
            raise
        raise PlaneFull(
            f"loading {package or ''}{name} for its first use: out of file descriptors ({error}). Close files or raise "
            f"the limit (ulimit -n).",
            errno=without[0],
        ) from error
