"""What is tried again when there was no room.

First the planes go in which nobody lives any more, if it is the file system that is full; then what is not needed in this
plane: what dead processes held, roots that are kept for the next get, warm memory, evictable blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import PlaneFull
from ...system import own
from ..process.upkeep import reclaim_for

if TYPE_CHECKING:
    from ..process.attachment import Attachment

__all__ = ["retry_after_reclaim"]

R = TypeVar("R")


def retry_after_reclaim(attachment: Attachment, attempt: Callable[..., R], *args: Any) -> R:
    """What ``attempt(*args)`` returns, which is called up to three times."""
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
    attachment.change(reclaim_for, attachment, full)
    return attempt(*args)
