"""Segments that are written through a mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .claims import abandon_creation
from .publish import begin

if TYPE_CHECKING:
    from ..process.attachment import Attachment
    from .claims import Creation
    from .target import Target

__all__ = ["begin_backed"]


def begin_backed(attachment: Attachment, target: Target, nbytes: int) -> Creation:
    """A CREATING row with a segment every page of which has memory, so that stores to it cannot be SIGBUS."""
    creation = begin(attachment, target, nbytes)
    try:
        if creation.place.fresh:
            attachment.memory.create_backed(creation.place)
        else:
            attachment.memory.back(creation.place)
    except BaseException:
        abandon_creation(attachment, creation)
        raise
    return creation
