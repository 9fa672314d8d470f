"""What processes do together through a plane: wait for versions, take turns, load once, share an array that changes.

The base of ``Plane``; apart from it because it knows blocks only by their names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from ..codecs import SMALL_DOCUMENT_NBYTES
from ..names import check_block_name
from .blocks.block import Block
from .blocks.mutables import open_mutable
from .blocks.views import Views
from .coordination import watching
from .coordination.finding import find_async
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

#: kinds whose views cost no more than a mapping
_SHOWN_AT_ONCE = {"array", "bytes"}


class Coordinated(MutableMapping[str, Any]):
    """Waiting, locks, semaphores and mutable arrays by name."""

    name: str
    _trust_pickle: bool
    _closing: Closing
    _views: Views

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
                value = self._put_and_show(name, loaded)
            return value

    async def get_or_put_async(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """``get_or_put`` for asyncio; ``fn`` is async, or plain and called in a thread of its own.

        A cancelled call passes the work on: the next one computes, whatever a plain ``fn`` that goes on returns. Once the
        value is being put, a cancellation comes after that.

        Raises:
            RuntimeError: ``fn``, or a task or thread that it started meanwhile, asks for the name that it loads.
        """
        from .coordination.in_threads import call_in_loop, call_in_thread
        from .coordination.waker import running_loop

        running_loop()
        encoded = check_block_name(name)
        missing = object()
        value = await self._find_async(name, encoded, missing)
        if value is not missing:
            return value
        instance = self._open().instance
        refuse_own(instance, name, in_task=True)
        title = f"the loading of {name!r} in plane {self.name!r}"
        async with self._semaphore(b"g:" + encoded, 1, title):
            value = await self._find_async(name, encoded, missing)
            if value is missing:
                with loading(instance, name, in_task=True):
                    loaded = await call_in_loop(fn, *args)
                value = await call_in_thread(self._put_and_show, name, loaded, to_its_end=True)
            return value

    async def _find_async(self, name: str, encoded: bytes, default: Any) -> Any:
        """``get`` that never waits for the plane's lock in the loop's thread."""
        from .coordination.in_threads import call_in_thread

        attachment = self._open()
        value = self._views.held(attachment, name, default)
        if value is not default:
            return value
        found = await find_async(attachment, encoded, self._closing)
        if found is None:
            return default
        if found[0].facts.codec in _SHOWN_AT_ONCE or found[0].nbytes <= SMALL_DOCUMENT_NBYTES:
            return self._views.show(name, found)
        return await call_in_thread(self._views.show, name, found)

    def _put_and_show(self, name: str, loaded: Any) -> Any:
        # Its lease keeps the value, also when somebody deletes the name at once.
        with self.put(name, loaded) as block:
            return block.value()

    def mutable(self, name: str, shape: Any = None, dtype: Any = None) -> npt.NDArray[Any]:
        """Create (zero-filled) or attach one array that every process sees change; guard it with ``lock``.

        Args:
            shape, dtype: what it is to be; None: whatever is there.

        Raises:
            PlaneMismatch: it is there with another shape or dtype, or is not mutable.
            BlockNotFound: it is not there and ``shape`` is None.
        """
        return open_mutable(self._open(), name, shape, dtype)
