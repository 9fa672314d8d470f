"""What processes do together through a plane: wait for versions, take turns, load once, share an array that changes.

The base of ``Plane``; apart from it because it knows blocks only by their names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from ..names import check_block_name
from .blocks.block import Block
from .blocks.mutables import open_mutable
from .coordination import watching
from .coordination.loading import loading, refuse_own
from .coordination.meters import PoolMeter, totals
from .coordination.pools import PoolPermits
from .coordination.semaphores import Semaphore, check_permits, open_semaphore
from .coordination.waiting import Closing
from .following import AsyncFollowing, Following

if TYPE_CHECKING:
    import numpy.typing as npt

    from .process.attachment import Attachment

__all__ = ["Coordinated"]


class Coordinated(MutableMapping[str, Any]):
    """Waiting, locks, semaphores and mutable arrays by name."""

    name: str
    _trust_pickle: bool
    _closing: Closing

    if TYPE_CHECKING:

        def _open(self) -> Attachment: ...
        def put(self, name: str, value: Any) -> Block: ...

    def wait(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> Block:
        """Block until ``name`` has a version newer than ``newer_than``, and lease it. Goes on through a delete.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
            ClosedError: the plane was destroyed, or this object closed.

        Cost: woken by whoever publishes, within about 0.1 ms.
        """
        lease = watching.wait(
            self._open(), check_block_name(name), newer_than=newer_than, timeout=timeout, closing=self._closing
        )
        return Block(lease, trust_pickle=self._trust_pickle)

    async def wait_async(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> Block:
        """``wait`` for asyncio; it can be cancelled at any time."""
        encoded = check_block_name(name)
        lease = await watching.wait_async(
            self._open(), encoded, newer_than=newer_than, timeout=timeout, closing=self._closing
        )
        return Block(lease, trust_pickle=self._trust_pickle)

    def follow(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> Iterator[Block]:
        """Yield the newest version whenever there is a newer one; may skip versions.

        Raises:
            TimeoutError: none came within ``timeout`` seconds; the next one may still be asked for.
            ClosedError: the plane was destroyed, or this object closed.
        """
        check_block_name(name)
        return Following(self, name, newer_than=newer_than, timeout=timeout)

    def follow_async(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> AsyncIterator[Block]:
        """``follow`` for asyncio: ``async for block in plane.follow_async(name)``."""
        check_block_name(name)
        return AsyncFollowing(self, name, newer_than=newer_than, timeout=timeout)

    def lock(self, name: str) -> Semaphore:
        """A host-wide lock: first come, first served; a killed holder's comes back by itself. Not re-entrant."""
        return self._semaphore(b"l:" + check_block_name(name), 1, f"lock {name!r} of plane {self.name!r}")

    def semaphore(self, name: str, permits: int) -> Semaphore:
        """A host-wide semaphore of ``permits``; ``PlaneMismatch`` when others hold or wait with another count."""
        check_permits(permits)
        return self._semaphore(b"s:" + check_block_name(name), permits, f"semaphore {name!r} of plane {self.name!r}")

    def _semaphore(self, name: bytes, permits: int, title: str) -> Semaphore:
        return open_semaphore(self._open(), name, permits, title=title, closing=self._closing)

    def _host_permits(self, name: str, limit: int) -> PoolPermits:
        """What a connection pool called ``name`` needs for its ``host_limit``."""
        check_permits(limit)
        attachment, closing = self._open(), Closing(f"pool {name!r}")
        title = f"the limit of pools {name!r} in plane {self.name!r}"
        semaphore = open_semaphore(attachment, b"p:" + check_block_name(name), limit, title=title, closing=closing)
        return PoolPermits(attachment, semaphore, closing)

    def _host_meter(self, name: str) -> PoolMeter:
        """Where a connection pool called ``name`` counts, so that any process can tell the sums."""
        return PoolMeter(self._open(), check_block_name(name))

    def _host_meters(self) -> dict[str, list[int]]:
        """What the pools of all processes have counted, by their names."""
        return totals(self._open())

    def get_or_put(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """The value of ``name``, or what ``fn(*args)`` returns, put once per host however many processes ask at once.

        An exception of ``fn`` reaches its caller and the others try in turn; a killed loader's work passes to the next.

        Raises:
            RuntimeError: ``fn`` asks for the name that it loads, itself or through the loader of another name.
        """
        encoded = check_block_name(name)
        missing = object()
        value = self.get(name, missing)
        if value is not missing:
            return value
        instance = self._open().instance
        refuse_own(instance, name)
        title = f"the loading of {name!r} in plane {self.name!r}"
        with self._semaphore(b"g:" + encoded, 1, title):
            value = self.get(name, missing)
            if value is missing:
                with loading(instance, name):
                    loaded = fn(*args)
                # Its lease keeps the value, also when somebody deletes the name at once.
                with self.put(name, loaded) as block:
                    value = block.value()
            return value

    def mutable(self, name: str, shape: Any = None, dtype: Any = None) -> npt.NDArray[Any]:
        """Create (zero-filled) or attach one array that every process sees change; guard it with ``lock``.

        Args:
            shape, dtype: what it is to be; None: whatever is there.

        Raises:
            PlaneMismatch: it is there with another shape or dtype, or is not mutable.
            BlockNotFound: it is not there and ``shape`` is None.
        """
        return open_mutable(self._open(), name, shape, dtype)
