"""The worker processes, and what they do when they are asked.

They start under the spawn method, so they have nothing of their parent but its questions. Private memory is the unique set
size (USS): pages that no other process maps. So that the shared table does not count for whoever read a page first, it is
measured once all workers have read all of it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import psutil
import pyarrow as pa
import pyarrow.acero  # what group_by loads at its first use is there before memory is measured

from ...cache import Cache
from ...plane import Plane
from ...scopes import Scope
from .questions import Question, buffers_of, part_of, partial_answer, row_of

P = ParamSpec("P")
R = TypeVar("R")

#: the name that the doomed put would publish
SCRATCH = "half-written"
#: of the block that only the doomed worker knows
ALONE_NBYTES = 16 << 20

_ENDING = {signal.SIGINT, signal.SIGTERM}
PATIENCE_S = 300.0
_mine = SimpleNamespace(imported_nbytes=0)  #: of this process, when it is a worker


class Worker:
    """One process as its parent sees it: an executor of its own, so that it can be asked alone, and killed."""

    def __init__(self) -> None:
        self.pid = 0
        self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_begin)

    def tell(self, task: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> Future[R]:
        return self._executor.submit(task, *arguments, **options)

    def ask(self, task: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        return self.tell(task, *arguments, **options).result(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken everything back."""
        for process in multiprocessing.active_children():  # one that has ended by itself is not among them
            if process.pid == self.pid:
                process.kill()
        self._executor.shutdown(cancel_futures=True)


def start(number: int, scope: Scope) -> list[Worker]:
    """Workers that have done their imports; none outlives the scope."""
    team = [scope.own(Worker(), Worker.kill) for _ in range(number)]
    # Ctrl-C in the middle of a start would leave the child with half a program, of which it complains loudly. So it ends our
    # wait for a thread, not what the thread does; and the children inherit that it is blocked there.
    with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, _ENDING)) as thread:
        pids = [thread.submit(worker.tell, os.getpid).result() for worker in team]
    for worker, pid in zip(team, pids, strict=True):
        worker.pid = pid.result(PATIENCE_S)
    return team


def timed(call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> tuple[R, float]:
    """What it returns, and its seconds."""
    began = time.monotonic()
    return call(*arguments, **options), time.monotonic() - began


def _begin() -> None:
    # Ctrl-C is for the parent, which ends us; when it is killed itself, we see to that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # One thread each: the workers share the cores, and a pool's memory would be counted as theirs.
    pa.set_cpu_count(1)
    _mine.imported_nbytes = private()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def private() -> int:
    """USS now, over what it was after the imports."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    return int(psutil.Process().memory_full_info().uss) - int(_mine.imported_nbytes)


def attach(root: str, plane: str, block: str) -> dict[str, float]:
    """From the names to a table or an array."""
    _mine.plane, open_s = timed(Plane, plane, root=root, create=False)
    _mine.value, get_s = timed(_mine.plane.get, block)
    return {"open_seconds": open_s, "get_seconds": get_s}


def arrived(value: Any) -> None:
    """A copy came through the pipe."""
    _mine.value = value


def answer(
    questions: list[Question], part: int, parts: int, cached: dict[str, Any] | None = None
) -> tuple[list[pa.Table], float]:
    """Partial answers, computed or found in the cache that is opened with ``cached``, and the seconds that they took."""
    rows = part_of(_mine.value, part, parts)
    if cached is None:
        return timed(lambda: [partial_answer(rows, asked) for asked in questions])
    with Cache(**cached) as cache:
        find = cache.get_or_compute
        return timed(lambda: [find((asked.title, part, parts), partial_answer, rows, asked) for asked in questions])


def checksum() -> int:
    """Of every byte of the data, as this worker sees it."""
    found = 0
    for buffer in buffers_of(_mine.value):
        found = zlib.crc32(buffer, found)
    return found


def look(block: str, row: int) -> list[Any]:
    """A row of a block as it is now; empty when there is no such row."""
    return row_of(_mine.plane[block], row)


def put_for_ever(nbytes: int) -> None:
    """Hold a block that nobody else knows, and put a large one again and again, each time into fresh memory."""
    _mine.alone = _mine.plane.put(None, bytes(ALONE_NBYTES), linger=0.0)
    value = bytes(nbytes)
    while True:
        _mine.plane.put(SCRATCH, value).close()
        del _mine.plane[SCRATCH]
        _mine.plane.trim()
