"""What pools need of the other processes of the host: permits for a common limit, and meters for common counts.

A plane has the real things, in shared memory; pools only know the protocols here, so they work without a plane and are
tested without one. ``permits_of`` and ``meter_of`` are the places where a plane is turned into them.

Rule 1. A call of these may have to wait for the plane's lock. So no event loop and no caller of ``acquire`` makes one:
threads of the pool do, and for asyncio the host thread, of which a process has one.
Rule 2. Giving back never fails: what cannot be given back at once, since somebody holds the plane's lock, the plane gives
back later. A slot of the pool does not depend on it.
Rule 3. A permit stands for an open connection. When its pool is gone, it is given back once the connection is gone as well;
one that cannot be watched (its type takes no weak references) counts as gone.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import ShmplaneError
from ..system import ignoring, own
from .reports import log
from .statistics import PoolStatistics, statistics_of_words, words_of

if TYPE_CHECKING:
    from .records import MemberRef
    from .settings import Settings

__all__ = [
    "HOST_THREAD",
    "HostFigures",
    "HostMeter",
    "HostPermits",
    "PermitSeeker",
    "Share",
    "host_statistics",
    "pools_of_words",
]

SEEK_SLICE = 5.0  #: seconds of one wait; the place in the queue is lost between two, so not too short
LOOK_EVERY = 0.25  #: seconds between two looks at whether the event loops of pools are closed


@runtime_checkable
class HostPermits(Protocol):
    """A named set of N permits, shared by all processes of the host; this object is one process's part in it.

    Rule 1. Permits belong to the process; any of its threads may release. All of them come back by themselves
    within a second after the process died, however it died.
    Rule 2. First come, first served over all processes: ``try_acquire`` fails while another process waits.
    Rule 3. A forked child holds none of its parent's permits, and asks for an object of its own.
    """

    def try_acquire(self) -> bool:
        """Take a permit if that can be done at once."""

    def acquire(self, timeout: float) -> bool:
        """Take a permit; False when none came within ``timeout`` seconds."""

    def release(self) -> None:
        """Give one permit of this process back, now or a little later."""

    def waiting_elsewhere(self) -> int:
        """How many other processes wait for a permit at this moment. Cheap: asked four times a second."""

    def close(self) -> None:
        """Give back what this process still holds, and leave; an ``acquire`` under way returns False soon."""


@runtime_checkable
class HostMeter(Protocol):
    """Words that every process writes for itself and anybody may sum: 16 levels, then counts."""

    def publish(self, words: Sequence[int]) -> None:
        """Say what this pool has counted so far."""

    def total(self) -> Sequence[int]:
        """The words summed over all processes: levels of the living, counts of all that ever were."""

    def close(self) -> None:
        """This pool has no levels any more; its counts stay."""


def permits_of(plane: Any, name: str, limit: int) -> HostPermits:
    """This process's part in the permits of all pools called ``name`` on the plane's host."""
    permits: HostPermits = plane._host_permits(name, limit)
    return permits


def meter_of(plane: Any, name: str) -> HostMeter | None:
    """Where a pool of this name counts; None when the plane, such as a stand-in in tests, has no meters."""
    make = getattr(plane, "_host_meter", None)
    return None if make is None else make(name)


def host_statistics(plane: Any) -> dict[str, PoolStatistics]:
    """The statistics of all pools that have a ``name`` and this plane, summed over all processes of the host, by name."""
    return pools_of_words(plane._host_meters())


def pools_of_words(meters: dict[str, list[int]]) -> dict[str, PoolStatistics]:
    """The same of the words of a plane's meters. Names that begin with a zero are not of pools."""
    return {name: statistics_of_words(name, words) for name, words in meters.items() if not name.startswith("\0")}


class Share:
    """What one pool has of the permits: one for each connection that is open or being opened."""

    def __init__(self, permits: HostPermits) -> None:
        self._permits = permits
        self._held: deque[None] = deque()  #: one entry a permit; a deque, since its calls are one step each
        self._is_ended = False
        self.refs: dict[int, MemberRef] = {}  #: to the connections that permits stand for, by their keys
        self._orphans: dict[int, EndRef] = {}

    def try_take(self) -> bool:
        """Take a permit if that can be done at once."""
        return self._note(taken=not self._is_ended and self._permits.try_acquire())

    def take(self, timeout: float) -> bool:
        """Take a permit; False when none came in time."""
        return self._note(taken=not self._is_ended and self._permits.acquire(timeout))

    def _note(self, *, taken: bool) -> bool:
        if taken:
            self._held.append(None)
        return taken

    def waiting_elsewhere(self) -> int:
        """How many other processes wait for a permit."""
        return self._permits.waiting_elsewhere()

    def release(self) -> None:
        """Give a permit back."""
        with ignoring(IndexError, ShmplaneError):  # all are back already, or the plane is gone, and its permits with it
            self._held.pop()
            self._permits.release()
        if self._is_ended and not self._held:
            self._permits.close()

    def end(self) -> None:
        """The pool needs no permits any more: give back those whose connections are gone, the others when they are."""
        if self._is_ended:
            return
        self._is_ended = True
        living = [conn for ref in list(self.refs.values()) if (conn := ref()) is not None]
        for conn in living:
            orphan = EndRef(conn, HOST_THREAD.put)
            orphan.ended = self._orphan_died
            self._orphans[id(orphan)] = orphan
        for _ in range(len(self._held) - len(living)):
            self.release()
        if not self._held:
            self._permits.close()

    def _orphan_died(self, orphan: EndRef) -> None:
        self._orphans.pop(id(orphan), None)
        self.release()


class Counted(Protocol):
    """A pool, as far as its figures go."""

    def stats(self) -> PoolStatistics: ...


class HostFigures:
    """What a pool counts, as other processes see it."""

    def __init__(self, pool: Counted, settings: Settings) -> None:
        self._pool = weakref.ref(pool)  # a strong reference would make a circle
        self._settings = settings
        self._meter: HostMeter | None = None
        self._published: list[int] = []
        self._lock = threading.Lock()

    def of_host(self) -> PoolStatistics:
        """The sum over all processes; this pool's own figures when it has no plane or no name."""
        told = self._tell()
        if self._meter is None or self._settings.name is None:
            return told
        return statistics_of_words(self._settings.name, self._meter.total())

    def publish(self) -> None:
        """Tell all processes what was counted so far; raises nothing of its own."""
        try:
            told = self._tell()
            if self._meter is not None and told.is_closed and not told.size:
                self._meter.close()
        except own(Exception) as error:
            # A pool works without its plane's figures.
            log.debug("pool %r: its counts reach no other process: %s", self._settings.name, repr(error))

    def _tell(self) -> PoolStatistics:
        # One at a time, or older figures could be told last.
        with self._lock:
            pool = self._pool()
            if pool is None:
                raise ReferenceError("the pool is gone")
            now, settings = pool.stats(), self._settings
            if self._meter is None and settings.plane is not None and settings.name is not None:
                self._meter = meter_of(settings.plane, settings.name)
                _told.append(weakref.ref(self))
            if self._meter is not None and (words := words_of(now)) != self._published:
                self._meter.publish(words)
                self._published = words
            return now


_told: list[weakref.ref[HostFigures]] = []


@atexit.register
def _publish_all() -> None:
    """Say the last word of pools that nobody closes before the interpreter ends."""
    for ref in _told:
        figures = ref()
        if figures is not None:
            with ignoring(Exception):
                figures.publish()


class EndRef(weakref.ref[Any]):
    """Tells the host thread that something is garbage; ``ended`` is what it calls then. Its callback is one call into C."""

    __slots__ = ("ended",)
    ended: Callable[[EndRef], object]


class HostThread:
    """The one thread of this process that does for its pools what may have to wait for a plane's lock."""

    def __init__(self) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        """At first, and in a forked child."""
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self.put: Callable[[Any], None] = self._inbox.put  #: a C function, so weak references may call it
        self._starting = threading.Lock()
        self._is_running = False
        self._pools: dict[int, EndRef] = {}

    def do(self, work: Callable[[], object]) -> None:
        """Call ``work`` soon, after what was asked for earlier."""
        self.put(work)
        self.start()

    def watch(self, pool: object, end: Callable[[], object]) -> None:
        """Call ``end``, which must not lead to the pool, once the pool is garbage, or lost (asked four times a second)."""

        def ended(ref: EndRef) -> None:
            self._pools.pop(id(ref), None)
            end()

        ref = EndRef(pool, self.put)
        ref.ended = ended
        self._pools[id(ref)] = ref
        self.start()

    def start(self) -> None:
        """Make sure that it runs."""
        if self._is_running:
            return
        with self._starting:
            if not self._is_running:
                threading.Thread(target=self._run, args=(self._inbox,), name="shmplane-host", daemon=True).start()
                self._is_running = True

    def _run(self, inbox: SimpleQueue[Any]) -> None:
        while True:
            item = None
            with suppress(Empty):
                item = inbox.get(timeout=LOOK_EVERY if self._pools else None)
            try:
                if isinstance(item, EndRef):
                    item.ended(item)
                elif item is not None:
                    item()
                else:
                    self._look_around()
            except Exception:  # noqa: BLE001  the thread serves all pools of the process
                log.exception("the host thread of pools: a call failed")
            del item

    def _look_around(self) -> None:
        for ref in list(self._pools.values()):
            pool = ref()
            if pool is not None and pool._is_lost():
                pool._forget_idle()
                ref.ended(ref)


HOST_THREAD = HostThread()


class PermitSeeker:
    """A thread that waits for a permit as long as the pool wants one; at most one per pool and process.

    Only one waits at a time, so a process takes one place in the host's queue, not one per caller.
    """

    def __init__(
        self,
        share: Share,
        *,
        wanted: Callable[[], bool],
        found: Callable[[], bool],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._share = share
        self._wanted = wanted  #: asked between two waits
        self._found = found  #: called with a permit in hand; False when it is not needed any more
        self._failed = failed  #: called when no permit can come any more
        self._running = threading.Lock()

    def seek(self) -> None:
        """Start, unless it is under way."""
        if self._running.acquire(blocking=False):
            try:
                threading.Thread(target=self._seek, name="shmplane-permits", daemon=True).start()
            except BaseException:
                self._running.release()
                raise

    def _seek(self) -> None:
        try:
            while self._wanted():
                try:
                    taken = self._share.take(SEEK_SLICE)
                except ShmplaneError as error:
                    if not error.retryable:
                        self._failed(error)
                        return
                    time.sleep(LOOK_EVERY)
                    continue
                if taken and not self._found():
                    self._share.release()
        finally:
            self._running.release()
        # A caller that asked just before the lock was free was turned away; look once more for it.
        if self._wanted():
            self.seek()
