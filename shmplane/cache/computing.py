"""Computing what is missing: once per host, however many ask, and whoever of them is killed.

Who finds nothing takes the key's own lock, looks again, and computes. A killed one's lock comes back by itself, so the work
passes to the next. Where no semaphore is free it is computed without, and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import PlaneFull
from ..plane import MISSING, call_in_loop, call_in_thread, loading, refuse_own
from ..system import ignoring, own
from .keys import Key, digest_of, encode_key, title_of
from .tiers import Item, Tiers
from .values import encode_value

if TYPE_CHECKING:
    from ..plane import Plane, Semaphore

__all__ = ["Computing", "Question"]

#: that no computation takes: those by which items are set, and some for others who use the plane
_KEPT_SEMAPHORES = 96


class Question:
    """A key, and how its value is made."""

    __slots__ = ("args", "encoded", "fn", "grace", "name", "tag", "title", "ttl")

    def __init__(
        self,
        key: Key,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        ttl: float | None,
        tag: str | None,
        grace: float,
    ) -> None:
        self.encoded: bytes = encode_key(key)
        self.name: str = digest_of(self.encoded)
        title = title_of(key)
        #: what tells it from others in a message and in a chain of computations
        self.title: str = f"{title} ({self.name[:8]})" if title.endswith("...") else title
        self.fn, self.args, self.ttl, self.tag, self.grace = fn, args, ttl, tag, grace


class Computing:
    """The computations of one cache."""

    def __init__(self, tiers: Tiers, plane: Plane, prefix: str) -> None:
        self._tiers, self._plane, self._prefix = tiers, plane, prefix
        self._instance: int = plane._open().instance

    def get(self, asked: Question) -> Any:
        """The value, found or computed."""
        tiers = self._tiers
        value = tiers.find(asked.encoded, asked.name)
        if value is not MISSING:
            return value
        refuse_own(self._instance, asked.title)
        stale = tiers.find_stale(asked.encoded, asked.name, asked.grace) if asked.grace else MISSING
        lock = self._lock(asked)
        if lock is None:
            return self._compute(asked, stale)
        if stale is MISSING:
            lock.acquire()
        elif not lock.try_acquire():
            tiers.tally.count("stale_hits")
            return stale
        try:
            value = tiers.find_again(asked.encoded, asked.name)
            return self._compute(asked, stale) if value is MISSING else value
        finally:
            lock.release()

    def _compute(self, asked: Question, stale: Any) -> Any:
        began = time.monotonic()
        try:
            with loading(self._instance, asked.title):
                result = asked.fn(*asked.args)
        except own(Exception):
            return self._stale_or_raise(stale)
        return self._keep(asked, result, time.monotonic() - began)

    def _stale_or_raise(self, stale: Any) -> Any:
        """Within an ``except``."""
        if stale is MISSING:
            raise  # noqa: PLE0704 - what the function raised
        self._tiers.tally.count("stale_hits")
        return stale

    def _keep(self, asked: Question, result: Any, cost: float) -> Any:
        """Store what was computed, and show it as it would be found."""
        tiers = self._tiers
        tiers.tally.count("computes")
        item = Item(asked.ttl, grace=asked.grace, tag=asked.tag, cost=cost)
        tiers.store(asked.encoded, asked.name, encode_value(result), item)
        value = tiers.find_again(asked.encoded, asked.name, counted=False)
        return result if value is MISSING else value

    def _lock(self, asked: Question) -> Semaphore | None:
        with ignoring(PlaneFull):
            if self._tiers.hot.has_spare_semaphores(_KEPT_SEMAPHORES):
                return self._plane.lock(f"{self._prefix}make/{asked.name}")
        self._tiers.tally.count("computes_alone")
        return None

    async def get_async(self, asked: Question) -> Any:
        """The same for asyncio: what waits or touches a file is done in threads."""
        tiers = self._tiers
        value = tiers.hot.find_known(asked.name)
        if value is not MISSING:
            tiers.tally.hit()
            return value
        value = await call_in_thread(tiers.find, asked.encoded, asked.name)
        if value is not MISSING:
            return value
        refuse_own(self._instance, asked.title, in_task=True)
        stale = (
            await call_in_thread(tiers.find_stale, asked.encoded, asked.name, asked.grace) if asked.grace else MISSING
        )
        lock = self._lock(asked)
        if lock is None:
            return await self._compute_async(asked, stale)
        if stale is MISSING:
            await lock.acquire_async()
        elif not lock.try_acquire():
            tiers.tally.count("stale_hits")
            return stale
        try:
            value = await call_in_thread(tiers.find_again, asked.encoded, asked.name)
            return await self._compute_async(asked, stale) if value is MISSING else value
        finally:
            lock.release()

    async def _compute_async(self, asked: Question, stale: Any) -> Any:
        began = time.monotonic()
        try:
            with loading(self._instance, asked.title, in_task=True):
                result = await call_in_loop(asked.fn, *asked.args)
        except own(Exception):
            return self._stale_or_raise(stale)
        cost = time.monotonic() - began
        return await call_in_thread(self._keep, asked, result, cost, to_its_end=True)
