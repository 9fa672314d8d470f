"""Cleanup that always happens: scopes for threads, asyncio and trio, and temporary files that outlive nobody.

``stack`` holds what a scope owns and the rules for errors, ``scope`` and ``aio`` act, ``shielded`` knows how
asyncio and trio let a cleanup finish, ``registry`` lists what is open, ``temporary`` keeps the files.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmplane.scopes.aio import AsyncScope
    from shmplane.scopes.registry import OpenResource, report
    from shmplane.scopes.scope import Scope
    from shmplane.scopes.shielded import finish_on_asyncio, hidden_task
    from shmplane.scopes.temporary import reclaim_orphans

__all__ = ["AsyncScope", "OpenResource", "Scope", "reclaim_orphans", "report"]
__all__ += ["finish_on_asyncio", "hidden_task"]

_HOMES = {
    "AsyncScope": "aio",
    "OpenResource": "registry",
    "Scope": "scope",
    "reclaim_orphans": "temporary",
    "finish_on_asyncio": "shielded",
    "hidden_task": "shielded",
    "report": "registry",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
