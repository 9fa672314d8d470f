"""Waiting for a newer version of a name, once or again and again: woken by whoever publishes it.

A process shows a bit per hash of the names it waits for. A publisher looks at these words, only when there are any, and
wakes the processes whose bit is set; they look again under the lock. Names that do not exist yet need nothing special.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NoReturn, Protocol
from zlib import crc32

from ...manifest import Transaction, watch_bit
from ...names import check_block_name
from ...system import NOT_HAD
from ..blocks.claims import Lease, claims_of
from ..process.patience import moment
from ..process.registry import Registry
from .waiting import Closing, Wait, check_timeout, wait_for, wait_for_async

if TYPE_CHECKING:
    from ..blocks.block import Block
    from ..process.attachment import Attachment

__all__ = ["AsyncFollowing", "Following", "wait", "wait_async", "watches_of"]


class Watches(Registry):
    """The waits for a name that are under way in this process."""

    def __init__(self, _: Attachment) -> None:
        self.watches: set[_Watch] = set()

    @property
    def is_idle(self) -> bool:
        return not self.watches

    @property
    def ends_silently(self) -> bool:
        return bool(self.watches)

    def begin_again_in_child(self) -> None:
        self.watches.clear()

    def end(self) -> None:
        self.watches.clear()


def watches_of(attachment: Attachment) -> Watches:
    """This process's waits for names."""
    return attachment.registry(Watches)


class _Watch(Wait):
    """One waiter for one name."""

    def __init__(self, attachment: Attachment, name: bytes, newer_than: int, closing: Closing) -> None:
        self.attachment, self.name, self.newer_than, self.closing = attachment, name, newer_than, closing
        self.lease: Lease | None = None
        self.failed = self.is_done = self._is_shown = False

    @property
    def has_left(self) -> bool:
        return self._is_shown

    def look(self, tx: Transaction) -> int:
        """Lease the version if it is new enough, else watch the name; returns the wake word to watch."""
        attachment = self.attachment
        _, row = tx.current(self.name)
        if row >= 0 and tx.blocks.version[row] > self.newer_than:
            self.lease = claims_of(attachment).lease(tx, attachment, row)
            self.is_done = True
            self.undo(tx)
            return 0
        if not self._is_shown:
            self._is_shown = True
            watches_of(attachment).watches.add(self)
            self._show(tx)
            attachment.timer.tick()
        return tx.coordination.sequence()

    def undo(self, tx: Transaction) -> None:
        """No longer interested."""
        if self._is_shown:
            watches_of(self.attachment).watches.discard(self)
            self._show(tx)
            self._is_shown = False

    def _show(self, tx: Transaction) -> None:
        mask = 0
        for watch in list(watches_of(self.attachment).watches):
            mask |= watch_bit(crc32(watch.name))
        tx.coordination.watch(mask)

    def result(self, timeout: float | None) -> Lease:
        """What came, or what to raise when nothing did."""
        if self.lease is not None:
            return self.lease
        if self.closing.closed or timeout is None:
            raise self.closing.error()
        attachment = self.attachment
        if attachment.try_look(moment(attachment), _nothing) is NOT_HAD:
            raise attachment.lock.timed_out(timeout)
        raise TimeoutError(
            f"no version of {self.name.decode()!r} newer than {self.newer_than} came within {timeout:g} s"
        )


def wait(attachment: Attachment, name: bytes, *, newer_than: int, timeout: float | None, closing: Closing) -> Lease:
    """Lease the first version newer than ``newer_than``."""
    check_timeout(timeout)
    watch = _Watch(attachment, name, newer_than, closing)
    wait_for(watch, timeout)
    return watch.result(timeout)


async def wait_async(
    attachment: Attachment, name: bytes, *, newer_than: int, timeout: float | None, closing: Closing
) -> Lease:
    """The same for asyncio."""
    check_timeout(timeout)
    watch = _Watch(attachment, name, newer_than, closing)
    await wait_for_async(watch, timeout)
    return watch.result(timeout)


def _nothing(_: Transaction) -> None:
    """Finds out whether the plane's lock is to be had."""


class CanWait(Protocol):
    """A plane, as far as following a name needs it."""

    def wait(self, name: str, *, newer_than: int, timeout: float | None) -> Block: ...
    async def wait_async(self, name: str, *, newer_than: int, timeout: float | None) -> Block: ...


class _Follows:
    def __init__(self, plane: CanWait, name: str, *, newer_than: int, timeout: float | None) -> None:
        check_block_name(name)
        self._plane, self._name, self._newer_than, self._timeout = plane, name, newer_than, timeout

    def __repr__(self) -> str:
        return f"<follows {self._name!r} from version {self._newer_than} on>"


class Following(_Follows, Iterator["Block"]):
    """What ``plane.follow`` returns. After a ``TimeoutError`` it can be asked again, and goes on where it was."""

    def __next__(self) -> Block:
        block = self._plane.wait(self._name, newer_than=self._newer_than, timeout=self._timeout)
        self._newer_than = block.version
        return block

    def __aiter__(self) -> NoReturn:
        raise TypeError(
            f"plane.follow({self._name!r}) blocks its thread, so it is for a plain `for`; in an `async for` use "
            f"plane.follow_async({self._name!r})"
        )


class AsyncFollowing(_Follows, AsyncIterator["Block"]):
    """What ``plane.follow_async`` returns; for the rest see ``Following``."""

    async def __anext__(self) -> Block:
        block = await self._plane.wait_async(self._name, newer_than=self._newer_than, timeout=self._timeout)
        self._newer_than = block.version
        return block
