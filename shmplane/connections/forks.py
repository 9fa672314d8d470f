"""Fork: a child never touches its parent's connections.

After a fork the child forgets all connections of its pools and starts with empty ones. Forgetting is not enough: a
connection that became garbage would say goodbye on the socket it shares with the parent (psycopg sends Terminate), at the
latest when the child's interpreter ends. So each is made immortal first.

A fork by C code (uWSGI's preloading) runs no hook. So whoever takes a connection, or does more than giving one back,
looks at a page that the kernel wipes in a child, which costs one load. (What a child gives back before it took anything
lies in a copy of its parent's pool that nobody is served from.)
"""

from __future__ import annotations

import weakref
from typing import Protocol

from ..system import ForkWitness, run_in_forked_child
from .host import HOST_THREAD

__all__ = ["SAME_PROCESS", "begin_again_if_forked", "watch"]


class Pool(Protocol):
    """What is told."""

    def _after_fork_in_child(self) -> None: ...


_witness = ForkWitness()
#: ``SAME_PROCESS[0]`` is 0 in a child whose pools still have to begin again
SAME_PROCESS: memoryview = _witness.page
_pools: list[weakref.ref[Pool]] = []


def watch(pool: Pool) -> None:
    """Call ``pool._after_fork_in_child`` in every child, as long as the pool lives."""
    _pools[:] = [ref for ref in _pools if ref() is not None]
    _pools.append(weakref.ref(pool))


def begin_again_if_forked() -> None:
    """In a child that C code forked: do what Python's hook would have done."""
    if not SAME_PROCESS[0]:
        _after_fork_in_child()


def _after_fork_in_child() -> None:
    HOST_THREAD.begin_again()
    for ref in _pools:
        pool = ref()
        if pool is not None:
            pool._after_fork_in_child()
    _witness.renew()


run_in_forked_child(_after_fork_in_child)
