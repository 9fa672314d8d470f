"""The threads of a pool: its keeper, those that open or close connections, and those that decide for the main thread.

The keeper sleeps until housekeeping is due. All are daemons, and the keeper holds its pool weakly, so that a forgotten pool
can go.

Only the main thread receives signals, and their handlers may raise anywhere in it. So what has to come to its end is done
by a helper thread (``complete``): an exception can end the main thread's wait, never the work.
"""

from __future__ import annotations

import threading
import weakref
from _thread import LockType, allocate_lock, get_ident, start_new_thread
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, Protocol

from ..system import ignoring, own
from .records import NOWHERE, Outcome, Taken, Waiter

__all__ = ["Threads"]

DONE_WITHIN = 1.0  #: seconds that an interrupted main thread waits for what it began; closing may take longer
LOOK_EVERY = 1.0  #: seconds after which a waiter has the keeper look, should an interrupt have cost it its wake-up


class Kept(Protocol):
    """A pool, as its keeper sees it."""

    def _sweep(self) -> float | None:
        """Do what is due; the seconds until there is more, None: never."""


class Job:
    """Work that is done once, by whichever thread comes to it first."""

    __slots__ = ("done", "is_begun", "is_done", "work")

    def __init__(self, work: Callable[[], object]) -> None:
        self.work: Callable[[], object] = work
        self.done: LockType = allocate_lock()
        self.done.acquire()
        self.is_begun: bool = False
        self.is_done: bool = False

    def run(self) -> None:
        """Do it, and say so."""
        self.is_begun = True
        try:
            self.work()
        finally:
            self.is_done = True
            self.done.release()


class Threads:
    """Runs the work of one pool in one process."""

    def __init__(self, pool: Kept) -> None:
        # Its put is a C function, which may be called from a finalizer whatever this thread is doing.
        self._alarm: SimpleQueue[object] = SimpleQueue()
        self._pool = weakref.ref(pool, self._alarm.put)
        # Nobody keeps the keeper's Thread object: its end would run Python code in the main thread, in a callback of
        # threading's own, where what a signal handler raises is lost.
        self._is_kept = False
        self._has_ended = allocate_lock()
        self._has_ended.acquire()
        self._starting = threading.Lock()
        self._jobs: deque[Job] = deque()

    # -- work

    @staticmethod
    def close(conn: Any) -> None:
        """Close a connection in its own way, if it has one."""
        if hasattr(conn, "close"):
            conn.close()

    def complete(self, work: Callable[[], object]) -> None:
        """Do ``work`` to its end, whatever is raised in this thread meanwhile; an exception comes when it is done."""
        if get_ident() != threading.main_thread().ident:
            work()
            return
        job = Job(work)
        try:
            self._jobs.append(job)  # from here on it will be done: by whichever thread looks next
            self._work()
            job.done.acquire()
        except BaseException:
            if not job.is_done:
                self._work()
            until = monotonic() + DONE_WITHIN
            while (job.is_begun or job in self._jobs) and not job.is_done and monotonic() < until:
                sleep(0.0002)
            raise

    def _work(self) -> None:
        try:
            start_new_thread(self._do_jobs, ())
        except own(RuntimeError):
            self._do_jobs()  # the system gives us no more threads

    def _do_jobs(self) -> None:
        while self._jobs:
            with ignoring(IndexError):  # another thread was quicker
                self._jobs.popleft().run()

    def run(
        self,
        work: Callable[[], Any],
        then: Callable[[Outcome], object],
        *,
        apart: bool = False,
        must_finish: bool = False,  # noqa: ARG002  threads cannot be cancelled
        grace: float | None = None,  # noqa: ARG002
    ) -> None:
        """Call ``work`` here, or ``apart`` in a thread of its own, and ``then`` with what came of it."""
        if not apart:
            then(outcome_of(work))
            return
        try:
            threading.Thread(target=lambda: then(outcome_of(work)), name="shmplane-connect", daemon=True).start()
        except own(RuntimeError) as error:
            then(Outcome(None, error))  # no more threads: the same as if the server gave us no more connections

    def ask_host(self, work: Callable[[], Any], then: Callable[[Outcome], object]) -> None:
        """``run`` of what may have to wait for the plane."""
        self.run(work, then, apart=True)

    def hand_over(self, act: Callable[[], object]) -> bool:
        """Do what another thread of the pool found; whether that can be done."""
        act()
        return True

    def tell_host(self, work: Callable[[], object]) -> None:
        """The same without an answer; callers are threads of the pool, which may wait."""
        work()

    in_loop = tell_host  #: what any thread may do itself

    # -- housekeeping

    def keep(self) -> None:
        """Start the keeper, unless it works already."""
        if self._is_kept:
            return
        with self._starting:
            if not self._is_kept:
                args = (self._pool, self._alarm, self._has_ended)
                threading.Thread(target=_keep, args=args, name="shmplane-keeper", daemon=True).start()
                self._is_kept = True

    def stop(self, *, wait: bool) -> None:
        """Let the keeper end as soon as nothing is left to do; ``wait`` a little for that."""
        self.wake()
        if wait and self._is_kept and self._has_ended.acquire(timeout=DONE_WITHIN):
            self._has_ended.release()

    def wake(self) -> None:
        """Let the keeper look at once: something is due earlier than it thought."""
        self._alarm.put(None)

    # -- waiting

    def new_waiter(self, since: float, taken: Taken = NOWHERE) -> Waiter:
        """A waiter that sleeps until its ``wake`` is released."""
        wake = allocate_lock()
        wake.acquire()
        return Waiter(wake, since, taken)

    def wake_waiter(self, waiter: Waiter) -> None:
        """End its sleep."""
        waiter.wake.release()

    def sleep_until_done(self, waiter: Waiter, deadline: float) -> None:
        """Sleep until the roster is done with the waiter, or the deadline has passed."""
        while not waiter.done:
            left = deadline - monotonic()
            if left <= 0:
                return
            if not waiter.wake.acquire(timeout=min(left, LOOK_EVERY)):
                self.wake()


def outcome_of(work: Callable[[], Any]) -> Outcome:
    """Call it; what came of it."""
    try:
        return Outcome(work(), None)
    except BaseException as error:  # noqa: BLE001  whoever gets the outcome decides
        return Outcome(None, error)


def _keep(ref: weakref.ref[Kept], alarm: SimpleQueue[object], has_ended: LockType) -> None:
    pause: float | None = 0.0
    try:
        while pause is not None:
            with suppress(Empty):
                alarm.get(timeout=pause)
            pool = ref()
            if pool is None:
                return
            pause = pool._sweep()
            del pool
    finally:
        has_ended.release()
