"""Tasks that outlive their worker: each worker is an executor of its own, so that one which dies takes its task alone.

Rule 1. A worker has one task at a time: the one that it had when it died is the one that was lost.
Rule 2. A lost task goes to the front, to a new worker; after the third time it ends with ``BrokenProcessPool``.
Rule 3. What a future's callback does is done with no lock in hand, also none of the standard library's.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..system import own

if TYPE_CHECKING:
    from .statistics import Counts

__all__ = ["Retrying"]

_MOST_RETRIES = 2


class Worker(Protocol):
    """An executor of one worker."""

    @property
    def _is_broken(self) -> bool: ...
    @property
    def _has_ended(self) -> bool: ...
    def _submit_call(self, call: tuple[Any, ...], batch: object) -> Future[Any]: ...
    def shutdown(self, wait: bool = True) -> None: ...


class _Job:
    """A task that somebody waits for, and how often its worker has died."""

    __slots__ = ("batch", "call", "future", "losses")

    def __init__(self, call: tuple[Any, ...], batch: object) -> None:
        self.call, self.batch = call, batch
        self.future: Future[Any] = Future()
        self.losses = 0


class Retrying:
    """The tasks of one executor, and its workers.

    Args:
        make: makes an executor of one worker.
        workers: the most of them.
    """

    def __init__(self, make: Callable[[], Worker], workers: int, counts: Counts) -> None:
        self._make, self._workers, self._counts = make, workers, counts
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[_Job] = deque()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._dead: list[Worker] = []
        self._is_shut = self._is_abandoned = False
        self.pid: int = os.getpid()
        self._inside = threading.local()
        _living.add(self)

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], batch: object
    ) -> Future[Any]:
        """A future of ``fn(*args, **kwargs)``; ``RuntimeError`` after the end."""
        job = _Job((fn, args, kwargs), batch)
        with self._changed:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(job)
        self._start_some()
        return job.future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Take no more tasks; with ``wait`` return when all are done and all workers have ended."""
        cancelled: list[_Job] = []
        with self._changed:
            self._is_shut = True
            if cancel_futures:
                # What was lost has been running, and is not cancelled any more.
                cancelled = [job for job in self._waiting if not job.losses]
                self._waiting = deque(job for job in self._waiting if job.losses)
        for job in cancelled:
            if job.future.cancel():
                job.future.set_running_or_notify_cancel()
        if wait:
            with self._changed:
                while self._waiting or self._busy:
                    self._changed.wait()
        self._end_idle(wait=wait)

    def abandon(self) -> list[Any]:
        """Take no more tasks and run none again; the workers that there are, for whoever ends them."""
        with self._changed:
            self._is_shut = self._is_abandoned = True
            workers = [*self._idle, *self._busy]
            lost = [job for job in self._waiting if job.losses]
            self._waiting = deque(job for job in self._waiting if not job.losses)
        for job in lost:
            job.future.set_exception(BrokenProcessPool("the workers were ended, and the task's had died before"))
        self.shutdown(wait=False, cancel_futures=True)
        return workers

    def _end_idle(self, *, wait: bool) -> None:
        """End the workers that have nothing to do, unless there is something."""
        with self._changed:
            if self._waiting:
                return
            ending = [*self._idle, *self._dead]
            # Whoever waits for the end waits for those as well that were told to end before.
            self._idle, self._dead = [], [] if wait else ending
        for worker in ending:
            worker.shutdown(wait=wait)

    def _close_dead(self) -> None:
        """Close the executors of dead workers whose threads have ended; the others later."""
        with self._changed:
            ended = [worker for worker in self._dead if worker._has_ended]
            self._dead = [worker for worker in self._dead if worker not in ended]
        for worker in ended:
            worker.shutdown()

    # Running

    def _start_some(self) -> None:
        """Give tasks to workers that have none. What is done at once comes back here, and is left to the loop it came from."""
        here = self._inside
        if getattr(here, "is_starting", False):
            return
        here.is_starting = True
        try:
            while self._start_next():
                pass
        finally:
            here.is_starting = False

    def _start_next(self) -> bool:
        """Whether there may be more to start."""
        with self._changed:
            if not self._waiting or len(self._busy) >= self._workers:
                return False
            job = self._waiting.popleft()
            if not job.losses and not job.future.set_running_or_notify_cancel():
                self._changed.notify_all()
                return True
            # One at a time is started: of two that fork at once, one would keep the pipes of the other open.
            worker, running = self._start(job)
        running.add_done_callback(partial(self._done, job, worker))
        return True

    def _start(self, job: _Job) -> tuple[Worker | None, Future[Any]]:
        while True:
            try:
                worker = self._idle.pop() if self._idle else self._make()
            except own(Exception) as error:
                return None, _failed(error)
            try:
                running = worker._submit_call(job.call, job.batch)
            except own(BrokenProcessPool):
                self._dead.append(worker)  # while it had nothing to do
                continue
            except own(Exception) as error:
                worker.shutdown(wait=False)
                return None, _failed(error)
            self._busy.add(worker)
            return worker, running

    def _done(self, job: _Job, worker: Worker | None, running: Future[Any]) -> None:
        """What a worker was given is done, or it has died over it. In the thread of that worker's executor."""
        if worker is not None and worker._is_broken:
            # From Python 3.12 on that thread has the lock of its executor in hand, which is to be ended: see Rule 3.
            threading.Thread(
                target=self._settle, args=(job, worker, running), name="shmplane-retry", daemon=True
            ).start()
        else:
            self._settle(job, worker, running)

    def _settle(self, job: _Job, worker: Worker | None, running: Future[Any]) -> None:
        """Say so to whoever waits, or run it again; then go on with the others."""
        error = running.exception()
        is_dead = worker is not None and worker._is_broken
        is_lost = is_dead and isinstance(error, BrokenProcessPool)
        if is_lost:
            job.losses += 1
        with self._changed:
            is_over = not is_lost or job.losses > _MOST_RETRIES or self._is_abandoned
            if not is_over:
                self._waiting.appendleft(job)
                self._counts.add(retried=1)
        if is_over:
            job.call = ()  # whatever still knows the job is not to keep its arguments
            if error is None:
                job.future.set_result(running.result())
            else:
                job.future.set_exception(error)
        with self._changed:
            if worker is not None:
                self._busy.discard(worker)
                (self._dead if is_dead else self._idle).append(worker)
            is_last = self._is_shut and not self._waiting and not self._busy
            self._changed.notify_all()
        self._close_dead()
        self._start_some()
        if is_last:
            self._end_idle(wait=False)


def _failed(error: BaseException) -> Future[Any]:
    """A future that has failed already, so that its job ends as any other does."""
    failed: Future[Any] = Future()
    failed.set_exception(error)
    return failed


_living: weakref.WeakSet[Retrying] = weakref.WeakSet()


def _finish_at_exit() -> None:
    """At the interpreter's end, as the standard library: tasks that were submitted are done first."""
    for retrying in list(_living):
        if retrying.pid == os.getpid():  # else it is the parent's of a forked worker, which also ends like this
            retrying.shutdown(wait=True, cancel_futures=False)


# Registered after the standard library's own, which was by the import above, it is called before that, which takes no more
# tasks.
threading._register_atexit(_finish_at_exit)  # type: ignore[attr-defined]
