"""Which lock a plane has, and what stands for this process in it.

A plane's lock is of one kind for life: ``word``, which only processes with the compiled core can take, or ``ofd``, which all
can. It is chosen by who makes the plane. Who has a slot takes a lock word by the mark of that; who joins, by that of a seat.
"""

from __future__ import annotations

from types import ModuleType

from ...core import load, why_not
from ...errors import LockTimeout, PlaneMismatch
from ...manifest import LockKind, Manifest, make_lock_word, sit_down
from ...system import HostLock, Token, WholeLock

__all__ = ["choose_lock", "lock_of_joiner", "word_of_slot"]


def choose_lock(name: str, asked: LockKind | None) -> LockKind:
    """The kind for a new plane; ``PlaneMismatch`` for a word where there is no core."""
    if asked == "ofd":
        return asked
    if _can_take(load()):
        return "word"
    if asked == "word":
        raise PlaneMismatch(
            f"plane {name!r} was asked for with lock='word', which needs the compiled core: {_why_not()}. "
            f"Leave the option out, or use lock='ofd'.",
            option="lock",
            asked=asked,
            found="ofd",
        )
    return "ofd"


def lock_of_joiner(manifest: Manifest, token: Token, lock_fd: int, module: ModuleType | None, name: str) -> HostLock:
    """The plane's lock for a process that has no slot yet.

    Raises:
        PlaneMismatch: the lock is a word, and this process has no core to take it with.
        LockTimeout: too many processes join at this moment.
    """
    if manifest.lock == "ofd":
        return HostLock(lock_fd, manifest.describe_holder)
    if module is None or not _can_take(module):
        raise PlaneMismatch(
            f"plane {name!r} has lock='word', which needs the compiled core, and this process has none: {_why_not()}. "
            f"Install shmplane with its core, or make the plane with lock='ofd', which both kinds of process can open.",
            option="lock",
            asked="ofd",
            found="word",
        )
    word = sit_down(module, manifest, token)
    if word is None:
        raise LockTimeout(
            f"all seats of processes that join plane {name!r} or look at it are taken. Look for stopped processes: let "
            f"them go on (kill -CONT) or end them; the call can be repeated.",
            timeout=0.0,
        )
    return HostLock(lock_fd, manifest.describe_holder, word)


def word_of_slot(manifest: Manifest, token: Token, module: ModuleType | None, slot: int) -> WholeLock | None:
    """For the process of ``slot``; None where the lock is no word."""
    if manifest.lock == "ofd" or module is None:
        return None
    return make_lock_word(module, manifest, token, slot)


def _can_take(module: ModuleType | None) -> bool:
    return module is not None and bool(module.can_tell_forks())


def _why_not() -> str:
    return why_not() or "the kernel is too old for it"
