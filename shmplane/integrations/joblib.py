"""joblib, and with it scikit-learn: ``joblib.parallel_backend("shmplane")`` once this module has been imported.

    import joblib
    import shmplane.integrations.joblib

    with joblib.parallel_config("shmplane"):
        joblib.Parallel(n_jobs=2)(joblib.delayed(fit)(part) for part in parts)

Arguments and results are sent by ``ProcessPoolExecutor``: an array that every task gets is copied once into shared memory, not
written to a file, and results come back the same way. All else is as with loky, joblib's own backend: workers are started as
by it (they do not import the main module), functions are pickled by joblib's cloudpickle, nested calls run in threads and then
in sequence, workers are used again by the next call and end when nobody called for five minutes.
"""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from typing import Any, ClassVar

from joblib import register_parallel_backend
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    LokyBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from .. import ProcessPoolExecutor
from .spawning import LoneContext

__all__ = ["end_workers"]

_IDLE_S = 300.0
#: joblib brings its own until 1.5
_CLOUDPICKLE = "joblib.externals.cloudpickle" if find_spec("joblib.externals.cloudpickle") else "cloudpickle"


class _Executor(ProcessPoolExecutor):
    """Pickles functions that no module has."""

    _pickler: ClassVar[str] = f"{_CLOUDPICKLE}:Pickler"


class _Workers:
    """The executor that the last call has left, for the next one that wants the same."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._idle: tuple[Any, _Executor, threading.Timer] | None = None
        self._pid = os.getpid()

    def _swap(
        self, idle: tuple[Any, _Executor, threading.Timer] | None
    ) -> tuple[Any, _Executor, threading.Timer] | None:
        """What was kept, in whose place there is ``idle`` now."""
        if self._pid != os.getpid():  # forked: the workers are the parent's, and perhaps the mutex is locked for ever
            self._mutex, self._idle, self._pid = threading.Lock(), None, os.getpid()
        with self._mutex:
            before, self._idle = self._idle, idle
        return before

    def take(self, key: Any) -> _Executor | None:
        """The executor of this key; one of another key ends."""
        idle = self._swap(None)
        if idle is None:
            return None
        known, executor, timer = idle
        timer.cancel()
        if known == key and not executor._is_broken:
            return executor
        executor.shutdown(wait=False)
        return None

    def keep(self, key: Any, executor: _Executor, seconds: float) -> None:
        """It ends unless somebody takes it in time, or another one comes to be kept."""
        timer = threading.Timer(seconds, self.end)
        timer.daemon = True
        self._end(self._swap((key, executor, timer)))
        timer.start()

    def end(self, *, wait: bool = False) -> None:
        """Nothing is kept any more."""
        self._end(self._swap(None), wait=wait)

    @staticmethod
    def _end(idle: tuple[Any, _Executor, threading.Timer] | None, *, wait: bool = False) -> None:
        if idle is not None:
            idle[2].cancel()
            idle[1].shutdown(wait=wait)


_workers = _Workers()


def end_workers() -> None:
    """End the workers that the last call has left, and wait until they have."""
    _workers.end(wait=True)


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What ``joblib.parallel_config("shmplane", ...)`` makes.

    Args:
        plane, threshold, on_worker_death: as of ``ProcessPoolExecutor``.
        idle_worker_timeout: seconds after which workers without work end.
        inner_max_num_threads: the most threads of BLAS and OpenMP in a worker; default: the cores shared out.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        idle_worker_timeout: float = _IDLE_S,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = options
        self._idle_s = idle_worker_timeout
        self._key: Any = None
        self._executor: _Executor | None = None
        self._call: object = None

    def effective_n_jobs(self, n_jobs: int) -> int:
        """As loky's: one inside of workers of ``multiprocessing`` and of threads."""
        found: int = LokyBackend.effective_n_jobs(self, n_jobs)
        return found

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Take the workers of the call before, or start others."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        env = self._prepare_worker_env(n_jobs=n_jobs)
        self._key = (n_jobs, *sorted(env.items()), *self._options.items())
        self._executor = _workers.take(self._key)
        if self._executor is None:
            self._executor = _Executor(n_jobs, LoneContext(env), **self._options)
        self.parallel = parallel
        return n_jobs

    def start_call(self) -> None:
        """What is sent from now on belongs to one call: what is sent again in it is copied once."""
        self._call = object()

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Run a batch of calls."""
        executor = self._executor
        if executor is None:
            raise RuntimeError("the workers have ended; call Parallel anew")
        with executor._together(self._call):
            future = executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Any) -> Any:
        """What a batch returned."""
        return future.result()

    def terminate(self) -> None:
        """Leave the workers to the next call."""
        executor, self._executor = self._executor, None
        if executor is not None:
            if executor._is_broken:
                executor.shutdown(wait=False)
            else:
                _workers.keep(self._key, executor, self._idle_s)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the workers, whatever they do."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.terminate_workers()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


register_parallel_backend("shmplane", Backend)
