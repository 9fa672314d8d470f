"""Finding the current version of a name from a task: without a wait for the plane's lock that would hold its loop up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..blocks.claims import lease_current
from .waiting import SLICE_S, wait_for_async

if TYPE_CHECKING:
    from ...manifest import Transaction
    from ..blocks.claims import Lease, Tracked
    from ..process.attachment import Attachment
    from .waiting import Closing

__all__ = ["find_async"]


class _Find:
    """One look at a name: a ``Wait`` that is done once the lock was to be had, whatever it found."""

    def __init__(self, attachment: Attachment, name: bytes, closing: Closing) -> None:
        self.attachment, self.name, self.closing = attachment, name, closing
        self.failed = self.is_done = False
        self.found: tuple[Lease, Tracked, int, int] | None = None

    @property
    def has_left(self) -> bool:
        return False

    def look(self, tx: Transaction) -> int:
        self.found = lease_current(tx, self.attachment, self.name)
        self.is_done = True
        return 0

    def undo(self, tx: Transaction) -> None:
        """A lease ends with its object."""

    def is_next(self) -> bool:
        return True

    def slice(self) -> float:
        return SLICE_S


async def find_async(attachment: Attachment, name: bytes, closing: Closing) -> tuple[Lease, Tracked, int, int] | None:
    """What ``lease_current`` finds, for asyncio."""
    find = _Find(attachment, name, closing)
    if not await wait_for_async(find, None):
        raise closing.error()
    return find.found
