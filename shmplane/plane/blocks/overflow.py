"""Which threads put what they put into the spill directory, since nothing in memory can make way for it.

It stands apart since every small put looks whether there are any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..process.attachment import Attachment

__all__ = ["is_overflowing", "overflow", "overflowing"]

#: by thread, the plane of which its new blocks go to the spill directory
overflowing: dict[int, Attachment] = {}


def is_overflowing(attachment: Attachment) -> bool:
    """Whether what this thread puts now is to go there."""
    return overflowing.get(get_ident()) is attachment


@contextlib.contextmanager
def overflow(attachment: Attachment) -> Iterator[None]:
    """What this thread puts inside the block goes there."""
    thread = get_ident()
    before = overflowing.get(thread)
    overflowing[thread] = attachment
    try:
        yield
    finally:
        overflowing.pop(thread, None)
        if before is not None:
            overflowing[thread] = before
