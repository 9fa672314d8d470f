"""Finding the current version of a name from a task: without a wait for the plane's lock that would hold its loop up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ...codecs import SMALL_DOCUMENT_NBYTES
from ...names import check_block_name
from ..blocks.claims import Lease, Tracked, lease_current
from ..blocks.views import Known, held, show
from .in_threads import call_in_thread
from .waiting import Closing, Wait, wait_for_async

if TYPE_CHECKING:
    from ...manifest import Transaction
    from ..process.attachment import Attachment

__all__ = ["find_async"]

#: kinds whose views cost no more than a mapping
_SHOWN_AT_ONCE = {"array", "bytes"}


class _Find(Wait):
    """One look at a name, which is done once the lock was to be had, whatever it found."""

    has_left = False

    def __init__(self, attachment: Attachment, name: bytes, closing: Closing) -> None:
        self.attachment, self.name, self.closing = attachment, name, closing
        self.failed = self.is_done = False
        self.found: tuple[Lease, Tracked, int, int] | None = None

    def look(self, tx: Transaction) -> int:
        self.found = lease_current(tx, self.attachment, self.name)
        self.is_done = True
        return 0

    def undo(self, tx: Transaction) -> None:
        """A lease ends with its object."""


async def find_async(
    attachment: Attachment, known: dict[str, Known], name: str, default: Any, closing: Closing, *, trust_pickle: bool
) -> Any:
    """The value of a name or ``default``, for asyncio; what takes its time to decode is decoded in a thread."""
    value = held(attachment, known, name, default)
    if value is not default:
        return value
    find = _Find(attachment, check_block_name(name), closing)
    if not await wait_for_async(find, None):
        raise closing.error()
    if find.found is None:
        return default
    shown = partial(show, known, name, find.found, trust_pickle=trust_pickle)
    lease = find.found[0]
    if lease.facts.codec in _SHOWN_AT_ONCE or lease.nbytes <= SMALL_DOCUMENT_NBYTES:
        return shown()
    return await call_in_thread(shown)
