"""Fork: whoever shares descriptors or rows with the kernel hears of it before and after.

Participants are held weakly. A hook that fails never stops the fork: Python would print and ignore the error anyway,
so each participant answers for its own failure. That includes Ctrl-C, which would end a hook in the middle and be
swallowed; so each hook is registered twice, and a participant's second call goes on where an interrupted first one stopped.

A fork by C code runs no hook: of that a ``ForkWitness`` tells.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .imports import forget_held_imports, hold_imports, release_imports

__all__ = ["ForkWitness", "Participant", "begin_again_in_forks", "immortalise", "join_forks", "run_in_forked_child"]

_WIPE_ON_FORK = 18


class Participant(Protocol):
    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self) -> None: ...


class Beginner(Protocol):
    def begin_again_in_child(self) -> None: ...


_participants: list[weakref.ref[Participant]] = []
_beginners: weakref.WeakSet[Beginner] = weakref.WeakSet()


def join_forks(participant: Participant) -> None:
    """Tell ``participant`` of every fork by Python from now on, for as long as it lives."""
    _participants[:] = [known for known in _participants if known() is not None]
    _participants.append(weakref.ref(participant))


def run_in_forked_child(function: Callable[[], None]) -> None:
    """Call ``function`` in every child that this process forks by Python from now on."""
    os.register_at_fork(after_in_child=function)


def begin_again_in_forks(beginner: Beginner) -> None:
    """Call its ``begin_again_in_child``, twice, in every child that this process forks by Python while it lives."""
    _beginners.add(beginner)


def _living() -> list[Participant]:
    return [alive for known in _participants if (alive := known()) is not None]


def _before() -> None:
    for participant in _living():
        participant.before_fork()
    # After the planes' mutexes: who has one may be importing, and who imports does not wait for one.
    hold_imports()


def _in_parent() -> None:
    release_imports()
    for participant in reversed(_living()):
        participant.after_fork_in_parent()


def _in_child() -> None:
    forget_held_imports()
    for participant in reversed(_living()):
        participant.after_fork_in_child()
    for beginner in list(_beginners):
        beginner.begin_again_in_child()


for _time in range(2):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


class ForkWitness:
    """``page[0]`` is 1 in the process that last called ``renew``, and 0 in its children until they do.

    The kernel wipes the page in every child (``MADV_WIPEONFORK``, Linux 4.14), before the child runs, also when C code forked.
    Cost: 25 ns a look, half of ``getpid``.
    """

    def __init__(self) -> None:
        self._mapping = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._mapping.madvise(_WIPE_ON_FORK)
        self.page: memoryview = memoryview(self._mapping)
        self.renew()

    def renew(self) -> None:
        """From now on this is the process in question."""
        self.page[0] = 1


def immortalise(things: Iterable[Any]) -> None:
    """Never finalise these objects, also not at the end of this process: in a child, for which they say goodbye to a server.

    Each gets one reference that is never taken back; what a child inherits is shared with the parent's memory anyway.
    """
    for thing in list(things):
        # Safety: one reference more than anybody will ever give back; nothing is read or written through it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
