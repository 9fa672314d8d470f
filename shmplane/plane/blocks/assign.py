"""``plane[name] = value``: a put without a lease, by the compiled core where that can.

Of values that it has seen the like of, arrays and ``bytes``, the core does all of it (see ``core/values.h``). Of others it is
told the frame, and of the next like them it knows that. What it cannot do is a transaction of Python's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...codecs import Encoded, TableStream, encode_by_rank
from ...manifest import KIND_CODES, SMALL_NBYTES
from ...names import check_block_name
from ..process.fast import wait_for_core
from .block import unwrapped
from .overflow import overflowing
from .publish import put_unleased
from .putting import put_large
from .streaming import put_stream
from .target import Target

if TYPE_CHECKING:
    from ..process.attachment import Attachment

__all__ = ["assign"]


def assign(attachment: Attachment, name: str, value: Any) -> None:
    """Put a value under a name; nothing in this process keeps the block."""
    if _can_ask(attachment) and _is_done(attachment, "assign", name, value):
        return
    value = unwrapped(value)
    encoded, checked = encode_by_rank(value), check_block_name(name)
    if type(encoded) is TableStream:
        put_stream(attachment, encoded, Target(checked))
    elif encoded.whole is None or not _can_ask(attachment) or not _is_put(attachment, checked, encoded, value):
        put_unleased(attachment, encoded, Target(checked))


def _is_put(attachment: Attachment, name: bytes, encoded: Encoded, value: Any) -> bool:
    """The same by the core, if that can."""
    if encoded.nbytes + len(encoded.frame) > SMALL_NBYTES:
        return put_large(attachment, encoded, name, wants_lease=False) is not None
    kind, whole = KIND_CODES[encoded.kind], encoded.whole
    core = attachment.core
    # What is put as it is, and an array, is NumPy's own and of no subclass: those are encoded as a plain array over them.
    if core is not None and whole is value and (type(value) is bytes or encoded.kind == "array"):
        core.learn(value, encoded.frame, kind)
    return _is_done(attachment, "put", name, whole, encoded.frame, kind)


def _can_ask(attachment: Attachment) -> bool:
    return attachment.core is not None and not (attachment.suspect or overflowing)


def _is_done(attachment: Attachment, act: str, *wanted: Any) -> bool:
    core = attachment.core  # once: another thread may end the attachment
    if core is None:
        return False
    done = getattr(core, act)(*wanted)
    return bool(wait_for_core(attachment, core, act, *wanted) if done is False else done)
