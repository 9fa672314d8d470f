"""What ``plane[name] = value`` and ``del plane[name]`` do: by the core where that can, else as a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...codecs import TableStream
from ...errors import BlockNotFound
from ...manifest import KIND_CODES, Transaction
from ...system import own
from .missing import no_such_block
from .overflow import overflowing
from .publish import put_unleased
from .streaming import put_stream
from .target import Target

if TYPE_CHECKING:
    from ...codecs import Encoded
    from ..process.attachment import Attachment

__all__ = ["assign", "delete"]


def assign(attachment: Attachment, encoded: Encoded, name: bytes) -> None:
    """Copy a value in and publish it; nothing in this process keeps the block."""
    core, whole = attachment.core, encoded.whole
    can = core is not None and whole is not None and not (attachment.suspect or overflowing)
    if can and core is not None and core.put(name, whole, encoded.frame, KIND_CODES[encoded.kind]):
        return
    if isinstance(encoded, TableStream):
        put_stream(attachment, encoded, Target(name))
    else:
        put_unleased(attachment, encoded, Target(name))


def delete(attachment: Attachment, name: bytes) -> None:
    """Take a name away; memory that somebody leases lives until the last lease ends. ``BlockNotFound``."""
    core = attachment.core
    if core is not None and not attachment.suspect and core.delete(name):
        return
    try:
        attachment.change(Transaction.delete, name)
    except own(BlockNotFound):
        raise no_such_block(attachment, name) from None
