"""Following a name: the newest version again and again, for loops of threads and of asyncio tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NoReturn, Protocol

from ...names import check_block_name

if TYPE_CHECKING:
    from ..blocks.block import Block

__all__ = ["AsyncFollowing", "Following"]


class CanWait(Protocol):
    """A plane, as far as following a name needs it."""

    def wait(self, name: str, *, newer_than: int, timeout: float | None) -> Block: ...
    async def wait_async(self, name: str, *, newer_than: int, timeout: float | None) -> Block: ...


class Following(Iterator["Block"]):
    """What ``plane.follow`` returns. After a ``TimeoutError`` it can be asked again, and goes on where it was."""

    def __init__(self, plane: CanWait, name: str, *, newer_than: int, timeout: float | None) -> None:
        check_block_name(name)
        self._plane, self._name, self._newer_than, self._timeout = plane, name, newer_than, timeout

    def __next__(self) -> Block:
        block = self._plane.wait(self._name, newer_than=self._newer_than, timeout=self._timeout)
        self._newer_than = block.version
        return block

    def __aiter__(self) -> NoReturn:
        raise TypeError(
            f"plane.follow({self._name!r}) blocks its thread, so it is for a plain `for`; in an `async for` use "
            f"plane.follow_async({self._name!r})"
        )

    def __repr__(self) -> str:
        return f"<follows {self._name!r} from version {self._newer_than} on>"


class AsyncFollowing(AsyncIterator["Block"]):
    """What ``plane.follow_async`` returns; for the rest see ``Following``."""

    def __init__(self, plane: CanWait, name: str, *, newer_than: int, timeout: float | None) -> None:
        check_block_name(name)
        self._plane, self._name, self._newer_than, self._timeout = plane, name, newer_than, timeout

    async def __anext__(self) -> Block:
        block = await self._plane.wait_async(self._name, newer_than=self._newer_than, timeout=self._timeout)
        self._newer_than = block.version
        return block

    def __repr__(self) -> str:
        return f"<follows {self._name!r} from version {self._newer_than} on>"
