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


def begin_backed(attachment: Attachment, target: Target, nbytes: int, in_memory: bool = False) -> Creation:
    """A CREATING row with a segment every page of which has memory, so that stores to it cannot be SIGBUS.

    Args:
        in_memory: and not in the spill directory, whatever is full.
    """
    creation = begin(attachment, target, nbytes, in_memory=in_memory)
    try:
        if creation.place.fresh:
            attachment.memory.create_backed(creation.place)
        else:
            attachment.memory.back(creation.place)
    except BaseException:
        abandon_creation(attachment, creation)
        raise
    return creation
