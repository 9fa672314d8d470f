"""Fork: a child never touches its parent's connections.

After a fork the child forgets all connections of its pools and starts with empty ones. Forgetting is not
enough: a connection that became garbage would say goodbye on the socket it shares with the parent (psycopg
sends Terminate), at the latest when the child's interpreter ends. So each is made immortal first.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from shmplane.system import immortalise, run_in_forked_child

__all__ = ["immortalise", "watch"]


class Forkable(Protocol):
    """What wants to know that it is in a child."""

    def _after_fork_in_child(self) -> None: ...


_watched: dict[int, weakref.ref[Forkable]] = {}


def watch(pool: Forkable) -> None:
    """Call ``pool._after_fork_in_child`` in every child, as long as the pool lives."""
    key = id(pool)

    def forget(_: object, watched: dict[int, weakref.ref[Forkable]] = _watched) -> None:
        watched.pop(key, None)

    _watched[key] = weakref.ref(pool, forget)


def _after_fork_in_child() -> None:
    for ref in list(_watched.values()):
        pool = ref()
        if pool is not None:
            pool._after_fork_in_child()


run_in_forked_child(_after_fork_in_child)
