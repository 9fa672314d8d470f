"""The compiled core of an attachment, where there is one: asked first by the hot calls, while the attachment is not suspect."""

from __future__ import annotations

from collections import deque
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from ...core import load
from ...manifest import Manifest, Transaction, make_core
from ...system import NOT_HAD, Busy, HostLock, Lost, Token, own
from .locking import word_of_slot
from .patience import LOCK_TIMEOUT_S
from .registry import Garbage, Owed

if TYPE_CHECKING:
    from ...core._core import Core
    from ..memory.segments import SegmentMemory

__all__ = ["HasCore", "drop_core", "give_core", "wait_for_core"]


class Accelerated(Protocol):
    """An attachment, as its core sees it."""

    manifest: Manifest
    memory: SegmentMemory
    lock: HostLock
    token: Token
    slot: int
    garbage: deque[Garbage]
    owed: deque[Owed]
    gone: deque[tuple[int, int]]
    leased: dict[int, Any]
    creating: dict[int, Any]
    core: Core | None
    core_module: ModuleType | None
    suspect: bool
    ended: str | None
    _tx: Transaction


class HasCore:
    """What an attachment knows of its core.

    Attributes:
        core: the fast path in front of what Python does, for as long as the attachment is not suspect.
        core_module: where one comes from; chosen once, with no lock in hand.
        leased, creating: what stands for this process's leases, and for blocks that it makes, by row: kept by claims, entered
            and ended by the core as well.
    """

    def __init__(self) -> None:
        self.core: Core | None = None
        self.core_module: ModuleType | None = load()
        self.leased: dict[int, Any] = {}
        self.creating: dict[int, Any] = {}


def give_core(attachment: Accelerated) -> None:
    """The slot's core and mark in the lock word: under the lock, or in a forked child that nobody knows yet."""
    drop_core(attachment)
    word = word_of_slot(attachment.manifest, attachment.token, attachment.core_module, attachment.slot)
    if word is not None:
        attachment.lock.use(word)
    if attachment.core_module is None:
        return
    made = make_core(
        attachment.core_module,
        attachment.manifest,
        attachment.slot,
        attachment.lock,
        attachment.garbage,
        attachment.owed,
        attachment.gone,
        attachment.leased,
        attachment.creating,
    )
    if made is not None:
        attachment.core, attachment.memory.forget_slabs = made, made.forget


def drop_core(attachment: Accelerated) -> None:
    """This process leaves the plane: whoever has its core in hand does nothing by it any more. Again: does nothing."""
    core, attachment.core = attachment.core, None
    attachment.memory.forget_slabs = _nothing
    if core is not None:
        core.retire()


def wait_for_core(attachment: Accelerated, core: Core, act: str, *args: Any) -> Any:
    """Wait for the plane's lock, and let the core do what it could not do without; what it returned, None: that is Python's.

    So who had to wait for the lock holds it no longer than others do, and keeps nobody else waiting for long.
    """
    try:
        if attachment.suspect or attachment.ended is not None:
            return None
        done = attachment.lock.run(LOCK_TIMEOUT_S, _within, attachment, core, act, args)
    except own(Busy, Lost):
        return None  # which says what is wrong
    if done is NOT_HAD:
        raise attachment.lock.timed_out(LOCK_TIMEOUT_S)
    return done


def _within(attachment: Accelerated, core: Core, act: str, args: tuple[Any, ...]) -> Any:
    """What the core does with the lock in hand, and that it was waited for."""
    done, lock = core.within(act, *args), attachment.lock
    if lock.waited:
        attachment._tx.counting.waited(lock)
    return done


def _nothing() -> None:
    """Nothing keeps mappings but the memory itself."""
