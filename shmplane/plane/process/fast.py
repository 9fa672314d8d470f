"""The compiled core of an attachment, where there is one: asked first by the hot calls, while the attachment is not suspect."""

from __future__ import annotations

from collections import deque
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from ...core import load
from ...manifest import make_core
from .registry import Garbage, Owed

if TYPE_CHECKING:
    from ...core._core import Core
    from ...manifest import Manifest
    from ...system import HostLock
    from ..memory.segments import SegmentMemory

__all__ = ["drop_core", "give_core", "no_core"]


class Accelerated(Protocol):
    """An attachment, as its core sees it."""

    manifest: Manifest
    memory: SegmentMemory
    lock: HostLock
    slot: int
    garbage: deque[Garbage]
    owed: deque[Owed]
    gone: deque[tuple[int, int]]
    leased: dict[int, Any]
    core: Core | None
    core_module: ModuleType | None


def no_core() -> tuple[Core | None, ModuleType | None]:
    """What an attachment without a slot has: no core, and where one comes from, which is chosen once, with no lock in hand."""
    return None, load()


def give_core(attachment: Accelerated) -> None:
    """The slot's core; under the lock."""
    drop_core(attachment)
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
    )
    if made is not None:
        attachment.core, attachment.memory.forget_slabs = made, made.forget


def drop_core(attachment: Accelerated) -> None:
    """This process leaves the plane: whoever has its core in hand does nothing by it any more. Again: does nothing."""
    core, attachment.core = attachment.core, None
    attachment.memory.forget_slabs = _nothing
    if core is not None:
        core.retire()


def _nothing() -> None:
    """Nothing keeps mappings but the memory itself."""
