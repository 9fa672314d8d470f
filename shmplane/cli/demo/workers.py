"""The worker processes, what they do when they are asked, and how one of them is killed.

They start under the spawn method, so they have nothing of their parent but its questions. Private memory is the unique set
size (USS): pages that no other process maps. So that the shared table does not count for whoever read a page first, it is
measured once all workers have read all of it.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import psutil
import pyarrow as pa
import pyarrow.acero  # what group_by loads at its first use is there before memory is measured

from ...cache import Cache
from ...executor import ProcessPoolExecutor as DropIn
from ...observe import Reading, reading
from ...plane import Plane
from ...scopes import Scope
from .questions import Question, as_rows, buffers_of, part_of, partial_answer, row_of

P = ParamSpec("P")
R = TypeVar("R")

#: of the block that only the doomed worker knows
ALONE_NBYTES = 16 << 20
_PATIENCE_S = 300.0
#: how long the doomed put may take to begin, and the part of its memory that should be there when the signal goes out
_PUT_PATIENCE_S, _WRITTEN = 30.0, 0.2
_SPAWN = multiprocessing.get_context("spawn")
_ENDING = {signal.SIGINT, signal.SIGTERM}
_mine = SimpleNamespace(imported_nbytes=0)  #: of this process, when it is a worker


class Worker(ProcessPoolExecutor):
    """One process as its parent sees it: an executor of its own, so that it can be asked alone, and killed."""

    pid = 0

    def __init__(self) -> None:
        super().__init__(1, _SPAWN, _begin)

    def ask(self, task: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        return self.submit(task, *arguments, **options).result(_PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken everything back."""
        for process in multiprocessing.active_children():  # one that has ended by itself is not among them
            if process.pid == self.pid:
                process.kill()
        self.shutdown(cancel_futures=True)


def start(number: int, scope: Scope) -> list[Worker]:
    """Workers that have done their imports; none outlives the scope."""
    team = [scope.own(Worker(), Worker.kill) for _ in range(number)]
    for worker, pid in zip(team, ask_all(os.getpid, [(worker, ()) for worker in team]), strict=True):
        worker.pid = pid
    return team


def start_pool(number: int, plane: Plane, scope: Scope) -> DropIn:
    """The drop-in for the standard library's executor; its workers do not outlive the scope either."""
    return scope.own(DropIn(number, _SPAWN, _begin, plane=plane, on_worker_death="retry"), DropIn.terminate_workers)


def ask_all(task: Callable[..., R], asked: Sequence[tuple[Executor, tuple[Any, ...]]]) -> list[R]:
    """What each answers to its arguments, all at the same time; any of them may start a process for it.

    Ctrl-C in the middle of a start would leave the child with half a program, of which it complains loudly. So it ends our
    wait for a thread, not what the thread does; and the children inherit that it is blocked there.
    """
    with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, _ENDING)) as thread:
        found = [thread.submit(who.submit, task, *arguments).result() for who, arguments in asked]
    return [answered.result(_PATIENCE_S) for answered in found]


def kill_in_the_middle(victim: Worker, plane: Plane, *, nbytes: int) -> dict[str, Any] | None:
    """Kill a worker that is told to put ``nbytes`` for ever; None when it was between two puts.

    We watch from outside until its row is CREATING and a part of the memory has been written. Whether it really was in the
    middle is read from the plane after its death, with what it leased and how much it had written.
    """
    with reading(plane.name, plane.root) as watched:
        putting, deadline, held = victim.submit(put_for_ever, nbytes), time.monotonic() + _PUT_PATIENCE_S, None
        while (held is None or held["written_nbytes"] < _WRITTEN * nbytes) and time.monotonic() < deadline:
            with suppress(TimeoutError):
                putting.result(0.0005)  # raises what went wrong
            held = _held_by(victim.pid, watched, nbytes)
        victim.kill()
        return _held_by(victim.pid, watched, nbytes)


def _held_by(pid: int, watched: Reading, nbytes: int) -> dict[str, Any] | None:
    """What it leases and puts, and how much of that has memory behind it; None without a put of that size."""
    found, written = watched.snapshot(), 0
    processes = {process.slot: process for process in found.processes if process.pid == pid}
    for block in found.blocks.values():
        segment = found.segments[block.segment]
        if block.owner in processes and segment.nbytes >= nbytes:
            with suppress(FileNotFoundError):
                written = os.stat(watched.segment_path(segment.id)).st_blocks * 512
            leased = [found.blocks[row] for row in processes[block.owner].leases]
            held = {"leases": [{"name": lease.name, "nbytes": lease.nbytes} for lease in leased]}
            return {"pid": pid, "mid_put": True, **held, "put_nbytes": segment.nbytes, "written_nbytes": written}
    return None


def timed(call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> tuple[R, float]:
    """What it returns, and its seconds."""
    began = time.monotonic()
    return call(*arguments, **options), time.monotonic() - began


# What a worker runs


def _begin() -> None:
    # Ctrl-C is for the parent, which ends us; when it is killed itself, we see to that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # One thread each: the workers share the cores, and a pool's memory would be counted as theirs.
    pa.set_cpu_count(1)
    _mine.imported_nbytes = private()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
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
    value, get_s = timed(_mine.plane.get, block)
    arrived(as_rows(value))
    return {"open_seconds": open_s, "get_seconds": get_s}


def arrived(value: Any) -> None:
    """What is asked about, shared or a copy that came through the pipe."""
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


def answer_or_die(questions: list[Question], rows: Any, died: Path) -> list[pa.Table]:
    """Partial answers of these rows; whoever is the first dies instead."""
    with suppress(FileExistsError):
        died.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return [partial_answer(rows, asked) for asked in questions]


def checksum() -> str:
    """Of every byte of the data, as this worker sees it."""
    return f"{functools.reduce(lambda found, buffer: zlib.crc32(buffer, found), buffers_of(_mine.value), 0):08x}"


def look(block: str, row: int) -> str:
    """A row of a block as it is now."""
    return row_of(_mine.plane[block], row)


def put_for_ever(nbytes: int) -> None:
    """Hold a block that nobody else knows, and put a large one again and again, each time into fresh memory."""
    _mine.alone = _mine.plane.put(None, bytes(ALONE_NBYTES), linger=0.0)
    value = bytes(nbytes)
    while True:
        _mine.plane.put("half-written", value).close()
        del _mine.plane["half-written"]
        _mine.plane.trim()
