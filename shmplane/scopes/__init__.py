"""Cleanup that always happens: scopes for threads, asyncio and trio, and temporary files that outlive nobody.

``stack`` holds what a scope owns and the rules for errors, ``scope`` and ``aio`` act, ``shielded`` knows how
asyncio and trio let a cleanup finish, ``base`` lists what is open, ``temporary`` keeps the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmplane.system import late_names

if TYPE_CHECKING:
    from shmplane.scopes.aio import AsyncScope
    from shmplane.scopes.base import OpenResource, report
    from shmplane.scopes.scope import Scope
    from shmplane.scopes.shielded import finish_on_asyncio, hidden_task
    from shmplane.scopes.temporary import reclaim_orphans
else:
    __getattr__ = late_names(
        __name__,
        {
            ".aio": "AsyncScope",
            ".base": "OpenResource report",
            ".scope": "Scope",
            ".shielded": "finish_on_asyncio hidden_task",
            ".temporary": "reclaim_orphans",
        },
    )

__all__ = ["AsyncScope", "OpenResource", "Scope", "reclaim_orphans", "report"]
__all__ += ["finish_on_asyncio", "hidden_task"]
