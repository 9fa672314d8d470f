"""Lazy imports and forks: no child begins with a library that another thread of its parent was just importing.

Python leaves such a module half made in the child, with its lock held by a thread that is not there, so the child's first
import of it never ends. Therefore a fork first waits for imports that are under way, of this package's modules and of the
libraries, whoever makes them, and holds the locks of those that are loaded at their first use until it is over.

Rule 1. Who waits for an import holds nothing that the import needs: libraries are held from the outermost on, and for
parts of them nothing is.
Rule 2. A lock is noted before it is taken, so that a hook which was interrupted can be run again.
Rule 3. A child makes new locks: those it inherits may be in the hands of a thread that it has not.
"""

from __future__ import annotations

import importlib
import sys
from threading import get_ident
from typing import Any

from .handlers import ignoring
from .modules import LATE

__all__ = ["forget_held_imports", "hold_imports", "is_loaded", "release_imports"]

#: loaded at their first use; each before those that it imports itself
LIBRARIES = ["torch", "polars", "pandas", "pyarrow", "ml_dtypes", "numpy"]

_PACKAGES = {__name__.partition(".")[0], *LIBRARIES}
_MOST_TRIES = 100
#: the import system's locks by module; it has no public name for them
_bootstrap: Any = importlib._bootstrap
_held: dict[int, dict[str, Any]] = {}


def is_loaded(name: str) -> bool:
    """Whether a module is there as a whole, not just being imported by some thread."""
    module = sys.modules.get(name)
    return module is not None and not _is_being_made(module)


def hold_imports() -> None:
    """Wait for imports under way, and let no other thread begin one of a library."""
    for _ in range(_MOST_TRIES):
        for name in _being_made():
            _bootstrap._lock_unlock_module(name)
        _hold_libraries()
        if not _being_made():
            return
        # One began meanwhile; it may need what is held here.
        release_imports()


def _hold_libraries() -> None:
    held = _held.setdefault(get_ident(), {})
    for name in (*LATE, *LIBRARIES):
        if is_loaded(name):
            continue
        lock = _bootstrap._get_module_lock(name)
        if lock.owner != get_ident():
            held[name] = lock
            # A deadlock means that whoever imports it waits for this thread: then the child has to do without.
            with ignoring(_bootstrap._DeadlockError):
                lock.acquire()


def release_imports() -> None:
    """Let imports go on, in the parent."""
    held = _held.get(get_ident(), {})
    while held:
        name, lock = next(reversed(held.items()))
        if lock.owner == get_ident():
            lock.release()
        held.pop(name, None)
    _held.pop(get_ident(), None)


def forget_held_imports() -> None:
    """The same in the child."""
    for name in _held.pop(get_ident(), {}):
        _bootstrap._module_locks.pop(name, None)
    _held.clear()


def _being_made() -> list[str]:
    """Modules of this package and of the libraries that other threads are just importing."""
    # A module's lock exists only while somebody has it or waits for it, so there are a few; of modules there are thousands.
    return [
        name
        for name in list(_bootstrap._module_locks)
        if name.partition(".")[0] in _PACKAGES
        and _is_being_made(sys.modules.get(name))
        and _bootstrap._get_module_lock(name).owner not in (None, get_ident())
    ]


def _is_being_made(module: Any) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False)
