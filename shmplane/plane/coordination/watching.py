"""Waiting for a newer version of a name: woken by whoever publishes it.

A process shows a bit per hash of the names it waits for. A publisher looks at these words, only when there are any, and
wakes the processes whose bit is set; they look again under the lock. Names that do not exist yet need nothing special.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING
from zlib import crc32

from ...errors import ClosedError
from ...manifest import watch_bit
from ...system import wait_for_change
from ..process.waker import running_loop
from .semaphores import SLICE_S, check_timeout, finish

if TYPE_CHECKING:
    from ..process.attachment import Attachment
    from ..process.leases import Lease

__all__ = ["wait", "wait_async"]


class _Watch:
    """One waiter for one name."""

    def __init__(self, attachment: Attachment, name: bytes, newer_than: int) -> None:
        self.attachment, self.name, self.newer_than = attachment, name, newer_than

    def look(self) -> tuple[Lease | None, int]:
        """Under the lock: lease the version if it is new enough, else watch the name; with the wake word to wait on."""
        attachment, tx = self.attachment, self.attachment.tx
        _, row = tx.current(self.name)
        if row >= 0 and tx.blocks.version[row] > self.newer_than:
            lease = attachment.lease(row)
            if self in attachment.watches:
                self.end()
            return lease, 0
        if self not in attachment.watches:
            attachment.watches.add(self)
            self._show()
        return None, tx.coordination.sequence()

    def end(self) -> None:
        """Under the lock: no longer interested."""
        self.attachment.watches.discard(self)
        self._show()

    def _show(self) -> None:
        mask = 0
        for watch in self.attachment.watches:
            mask |= watch_bit(crc32(watch.name))
        self.attachment.tx.coordination.watch(mask)

    def left(self, deadline: float | None, timeout: float | None) -> float:
        """Seconds of the next slice; ``TimeoutError`` when the time is over."""
        left = SLICE_S if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f"no version of {self.name.decode()!r} newer than {self.newer_than} came within {timeout:g} s"
            )
        return min(left, SLICE_S)


def wait(attachment: Attachment, name: bytes, *, newer_than: int, timeout: float | None) -> Lease:
    """Lease the first version newer than ``newer_than``."""
    check_timeout(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    watch = _Watch(attachment, name, newer_than)
    try:
        while True:
            lease, sequence = attachment.run(watch.look)
            if lease is not None:
                return lease  # type: ignore[no-any-return]
            wait_for_change(attachment.wake_address(), sequence, watch.left(deadline, timeout))
    finally:
        _end(attachment, watch)


async def wait_async(attachment: Attachment, name: bytes, *, newer_than: int, timeout: float | None) -> Lease:
    """The same for asyncio."""
    check_timeout(timeout)
    loop = running_loop()
    deadline = None if timeout is None else time.monotonic() + timeout
    watch = _Watch(attachment, name, newer_than)
    try:
        while True:
            lease, sequence = attachment.run(watch.look)
            if lease is not None:
                return lease  # type: ignore[no-any-return]
            await attachment.waker.wait(loop, sequence, watch.left(deadline, timeout))
    finally:
        _end(attachment, watch)


def _end(attachment: Attachment, watch: _Watch) -> None:
    if watch in attachment.watches:
        with contextlib.suppress(ClosedError):
            finish(attachment, watch.end)
        attachment.leave_if_idle()
