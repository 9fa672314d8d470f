"""What is tried again when there was no room.

First the planes go in which nobody lives any more, if it is the file system that is full; then what is not needed in this
plane: what dead processes held, roots that are kept for the next get, warm memory, evictable blocks. At last what nobody leases
moves to the spill directory, where the plane has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import PlaneFull
from ...system import late, own

if TYPE_CHECKING:
    from ..process import upkeep
    from ..process.attachment import Attachment
    from . import spilling
else:
    spilling = late("shmplane.plane.blocks.spilling")
    upkeep = late("shmplane.plane.process.upkeep")

__all__ = ["retry_after_reclaim"]

R = TypeVar("R")


def retry_after_reclaim(attachment: Attachment, attempt: Callable[..., R], *args: Any) -> R:
    """What ``attempt(*args)`` returns, which is called again after each thing that may have made room."""
    try:
        return attempt(*args)
    except own(PlaneFull) as full:
        if not attachment.make_room(attachment.root, full):
            return _after_reclaim(attachment, full, attempt, args)
    try:
        return attempt(*args)
    except own(PlaneFull) as full:
        return _after_reclaim(attachment, full, attempt, args)


def _after_reclaim(attachment: Attachment, full: PlaneFull, attempt: Callable[..., R], args: tuple[Any, ...]) -> R:
    attachment.kept.forget_all()
    try:
        return upkeep.once_there_is_room(attachment, full, attempt, args)
    except own(PlaneFull) as still_full:
        if attachment.memory.spill is None or not spilling.can_help(attachment, still_full):
            raise
        refused = still_full
    return spilling.once_there_is_room(attachment, refused, attempt, args)
