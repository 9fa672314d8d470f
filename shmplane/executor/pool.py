"""``ProcessPoolExecutor``: the standard library's, whose large arguments and results travel as blocks.

It is the standard one but for what is pickled: a call is wrapped in a ``Task``, a result in the message that the worker makes
of it (see ``worker``). Futures, queues, the threads behind them and all errors are the standard library's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, TypeVar, get_args

from ..names import parse_nbytes
from ..plane import Plane
from .retrying import Retrying
from .sending import Sender, Task
from .statistics import ExecutorStatistics
from .worker import run_call, start

if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.context import BaseContext


__all__ = ["ProcessPoolExecutor"]

P = ParamSpec("P")
R = TypeVar("R")

OnWorkerDeath = Literal["break", "retry"]

_LEAST_PROCESSES = 256
#: iterating over them runs nobody's code
_STILL = (list, tuple, range, repeat)


class _Batch(threading.local):
    """The ``map`` that a thread is inside of."""

    current: object = None


class ProcessPoolExecutor(futures.ProcessPoolExecutor):
    """A drop-in for ``concurrent.futures.ProcessPoolExecutor``: only the import changes.

    Large buffers in arguments and results (arrays, tables, frames, bytes, wherever they are) are copied once, into a block of
    shared memory. Arrays arrive writable, over private pages that are copied when they are written; results stay valid when
    the executor, the worker and the plane are gone. A ``Block``, or what shows one, travels as a handle.

    Args:
        max_workers, mp_context, initializer, initargs, max_tasks_per_child: as in the standard library.
        plane: where the blocks are; None: a temporary one of its own. It has its own opening: closing yours is fine.
        threshold: bytes from which a buffer, or what is left of the pickle, goes through the plane; an int or text.
        on_worker_death: ``"break"``: every task that is not done ends with ``BrokenProcessPool``, as in the standard library.
            ``"retry"``: the task of the dead worker runs again in a new one, at most twice, and all others go on. Tasks must
            then bear to be run more than once. Under the start method fork new workers are forked while threads run.

    Raises:
        TypeError, ValueError: as in the standard library.
        PlaneFull, PlaneSecurityError, ...: what opening a plane raises.

    Cost: about 15 us a task more than the standard library's, and with values above the threshold two short holds of the
    plane's lock and one copy each way. A value that the plane has no room for goes through the pipe; ``stats()`` counts it.
    """

    #: cloudpickle's ``module:class``, for functions that no module has
    _pickler: ClassVar[str] = ""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        plane: Plane | None = None,
        threshold: int | str = "64KiB",
        on_worker_death: OnWorkerDeath = "break",
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if on_worker_death not in get_args(OnWorkerDeath):
            raise ValueError(f'on_worker_death is "break" or "retry", not {on_worker_death!r}')
        if plane is not None and not isinstance(plane, Plane):
            raise TypeError(f"plane is a shmplane.Plane or None, not {type(plane).__name__}")
        nbytes = parse_nbytes(threshold, "threshold")
        self._threshold = nbytes
        self._batch = _Batch()
        self._watcher: threading.Thread | None = None
        begin: Any = start
        super().__init__(max_workers, mp_context, begin, (), max_tasks_per_child=max_tasks_per_child)
        workers: int = self._max_workers  # type: ignore[attr-defined]
        self._sender: Sender = Sender(_opened(plane, workers), threshold=nbytes, pickler=self._pickler)
        # The standard library looks at it when it starts a worker.
        self._initargs = (self._sender.origin, initializer, initargs)
        self._retrying: Retrying | None = None
        if on_worker_death == "retry":
            make = partial(
                type(self), 1, self._mp_context, initializer, initargs,
                max_tasks_per_child=max_tasks_per_child, plane=self._sender.plane, threshold=nbytes,
            )  # fmt: skip
            self._retrying = Retrying(partial(_one_of_many, make, self._sender), workers, self._sender.counts)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Schedule ``fn(*args, **kwargs)``.

        A buffer among the arguments is read when there is room in the queue for the task, as the standard library pickles.
        """
        if self._retrying is not None:
            return self._retrying.submit(fn, args, kwargs, self._batch.current)
        return self._submit_call((fn, args, kwargs), self._batch.current)

    def _submit_call(self, call: tuple[Any, ...], batch: object) -> Future[Any]:
        """``submit`` for function, arguments and keywords of one ``map``, or of none."""
        future: Future[Any] = super().submit(run_call, Task(self._sender, call, batch))
        if self._watcher is None:
            self._watch()
        return future

    def map(self, fn: Callable[..., R], *iterables: Iterable[Any], **options: Any) -> Iterator[R]:
        """As in the standard library. An array that is an argument of many calls is copied once, also a writable one."""
        # A generator can change an array between two calls: what comes of one is compared.
        is_still = all(type(iterable) in _STILL for iterable in iterables)
        with self._together(object() if is_still else None):
            return super().map(fn, *iterables, **options)

    @contextmanager
    def _together(self, batch: object) -> Iterator[None]:
        """What this thread submits meanwhile belongs together: an array that is sent again has not changed in between."""
        here = self._batch
        before, here.current = here.current, batch
        try:
            yield
        finally:
            here.current = before

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As in the standard library. Results stay valid; a temporary plane goes with the last of them."""
        if self._retrying is not None:
            self._retrying.shutdown(wait=wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)
        watcher = self._watcher
        if wait:
            if watcher is not None and watcher is not threading.current_thread():
                watcher.join()
            self._sender.plane.close()

    def terminate_workers(self) -> None:
        """End all workers at once; what is not done ends with ``BrokenProcessPool``, and no more is taken."""
        self._end_workers(BaseProcess.terminate)

    def kill_workers(self) -> None:
        """The same for workers that would not heed being told to end."""
        self._end_workers(BaseProcess.kill)

    def _end_workers(self, end: Callable[[BaseProcess], None]) -> None:
        for worker in [self] if self._retrying is None else self._retrying.abandon():
            processes = list((worker._processes or {}).values())
            worker.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                end(process)
        self.shutdown(wait=False, cancel_futures=True)

    def stats(self) -> ExecutorStatistics:
        """What went through it so far."""
        return self._sender.counts.taken()

    @property
    def _is_broken(self) -> bool:
        """Whether a worker died, so that it takes no more tasks."""
        return bool(self._broken)

    @property
    def _has_ended(self) -> bool:
        """Whether its workers and threads have ended, so that ``shutdown`` does not wait."""
        return self._watcher is not None and not self._watcher.is_alive()

    def _watch(self) -> None:
        """Once all workers have ended, drop what they left for nobody to read."""
        with self._shutdown_lock:
            manager: Any = self._executor_manager_thread
            if self._watcher is None and manager is not None:
                self._watcher = threading.Thread(
                    target=_drop_unread, args=(manager, self._sender), name="shmplane-executor", daemon=True
                )
                self._watcher.start()


def _drop_unread(manager: threading.Thread, sender: Sender) -> None:
    manager.join()
    sender.drop_unread()


def _one_of_many(make: Callable[[], ProcessPoolExecutor], all_of_them: Sender) -> ProcessPoolExecutor:
    """An executor of one worker, of several that send the same arrays."""
    executor = make()
    executor._sender.share_with(all_of_them)
    return executor


def _opened(plane: Plane | None, workers: int) -> Plane:
    """A ``Plane`` object of the executor's own."""
    if plane is None:
        return Plane.temporary(max_processes=max(_LEAST_PROCESSES, 2 * workers + 16))
    plane._open()
    return Plane(plane.name, root=plane.root, create=False)
