"""Putting what comes from somebody else: written once, as it comes, and looked at before anybody can see it.

What comes can be read only once, so only the room for it is asked for again when there is none. In between writing and
publishing the block is CREATING: whatever ends it there, or refuses what has come, leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...manifest import SMALL_NBYTES
from .claims import Lease, abandon_creation
from .publish import Prepared, begin, contents_of, prepare, publish, retry_after_reclaim, write_segment

if TYPE_CHECKING:
    from ...codecs import Encoded, Memory
    from ...system import Window
    from ..process.attachment import Attachment
    from .target import Target

__all__ = ["put_checked"]


class _Written:
    """A body that is written and not published: a ``Memory``."""

    __slots__ = ("__weakref__", "_view", "address", "nbytes")

    def __init__(self, view: memoryview, nbytes: int) -> None:
        import numpy as np

        self._view, self.nbytes = view, nbytes
        #: the view keeps what lies there
        self.address: int = np.frombuffer(view, "u1").__array_interface__["data"][0] if nbytes else 0

    @property
    def lease(self) -> object:
        return self

    def copy(self, nbytes: int) -> bytes:
        return bytes(self._view[:nbytes])

    def window(self, nbytes: int) -> Window | None:  # noqa: ARG002 - nobody keeps it for long
        return None


def put_checked(
    attachment: Attachment, encoded: Encoded, target: Target, check: Callable[[bytes, Memory], None]
) -> Lease:
    """Write a value, have ``check(frame, memory)`` look at it, and publish it; the lease on it.

    Raises whatever ``check`` or the writing of ``encoded`` does: then nothing was put.
    """
    contents = contents_of(encoded)
    if contents.nbytes <= SMALL_NBYTES:
        small = prepare(attachment, contents, encoded)
        if small.payload is not None:
            check(contents.frame, _Written(memoryview(small.payload), contents.body_nbytes))
            return _published(attachment, target, small)
    creation = retry_after_reclaim(attachment, begin, attachment, target, contents.nbytes)
    try:
        write_segment(attachment, creation.place, encoded, contents)
        view = attachment.memory.written(creation.place).view
        check(contents.frame, _Written(view, contents.body_nbytes))
        return _published(attachment, target, Prepared(contents, None, creation))
    except BaseException:
        abandon_creation(attachment, creation)
        raise


def _published(attachment: Attachment, target: Target, prepared: Prepared) -> Lease:
    lease = publish(attachment, target, prepared)
    lease.known_frame = prepared.contents.frame
    return lease
