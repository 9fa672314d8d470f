"""The worker processes, both ends of each: the parent asks through a pipe, the worker answers one request at a time.

They start under the spawn method, so they have nothing of their parent but the pipe. Private memory is the unique set
size (USS): pages that no other process maps. So that the shared table does not count for whoever read a page first, it
is measured once all workers have read all of it.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.resource_tracker import ensure_running
from typing import Any, Self

import psutil
import pyarrow as pa

from ..exits import PROBLEMS, Failed
from .questions import Partial, Question, part_of, partial_answer

__all__ = ["CACHED_NBYTES", "SCRATCH", "Worker", "Workers", "timed"]

#: of memory for the cache
CACHED_NBYTES = 16 << 20

#: the name that the doomed put would publish
SCRATCH = "half-written"
_PATIENCE_S = 300.0
_ENDING = {signal.SIGINT, signal.SIGTERM}


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What it returns, and its seconds."""
    began = time.monotonic()
    return call(*arguments), time.monotonic() - began


class Worker:
    """One process, as its parent sees it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        with theirs:
            self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def tell(self, request: str, *arguments: Any) -> None:
        with self._may_be_lost():
            self._connection.send((request, *arguments))

    def answer(self, patience_s: float = _PATIENCE_S) -> Any:
        """Wait for the answer to what was told; ``TimeoutError``, or the error of the worker, is raised here."""
        with self._may_be_lost():
            if not self._connection.poll(patience_s):
                raise TimeoutError(f"worker {self.pid} has said nothing for {patience_s:.0f} s")
            answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, request: str, *arguments: Any) -> Any:
        self.tell(request, *arguments)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken everything back."""
        self._process.kill()
        self._process.join()

    def stop(self, patience_s: float = 10.0) -> None:
        """Let it end by itself, or kill it."""
        self._connection.close()
        self._process.join(patience_s)
        self.kill()

    @contextmanager
    def _may_be_lost(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(5.0)
            code = self._process.exitcode
            raise Failed(PROBLEMS, f"worker {self.pid} has ended, exit code {code}; is there memory enough?") from None


class Workers:
    """All workers; none outlives the ``with`` block."""

    def __init__(self) -> None:
        self._started: list[Worker] = []

    def start(self, number: int) -> list[Worker]:
        """Side by side; return when all have done their imports."""
        # Ctrl-C in the middle of a start would leave the child with half a program, of which it complains loudly. So it
        # ends our wait for a thread, not what the thread does; and the children inherit that it is blocked there.
        ensure_running()  # it would unblock it
        with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, _ENDING)) as thread:
            for _ in range(number):
                thread.submit(lambda: self._started.append(Worker())).result()
        for worker in self._started[-number:]:
            worker.answer()
        return self._started[-number:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        for worker in self._started:
            worker.stop(10.0 if kind is None else 0.0)


def _work(connection: Connection) -> None:
    """The worker's end: answer requests until the other end is closed."""
    # Ctrl-C is for the parent, which ends us by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    requests, answer = _Requests(), None
    try:
        while True:
            connection.send(answer)
            request, *arguments = connection.recv()
            try:
                answer = getattr(requests, request)(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, the parent says it
                answer = error
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Requests:
    """What a worker has; each public method answers the request of its name."""

    def __init__(self) -> None:
        import pyarrow.acero  # noqa: F401 - what group_by loads at its first use is there before memory is measured

        from ...plane import Plane

        # One thread each: the workers share the cores, and a pool's memory would be counted as theirs.
        pa.set_cpu_count(1)
        self._open = partial(Plane, create=False)
        self.plane: Any = None
        self.value: Any = None
        self._imported_nbytes = _private_nbytes()

    def attach(self, root: str, plane: str, block: str) -> dict[str, float]:
        """From the names to a table or an array."""
        self.plane, open_s = timed(partial(self._open, plane, root=root))
        self.value, get_s = timed(self.plane.get, block)
        return {"open_seconds": open_s, "get_seconds": get_s}

    def arrived(self, value: Any) -> float:
        """A copy came through the pipe: when, by the clock of all processes of a host."""
        self.value = value
        return time.monotonic()

    def answer(self, questions: list[Question], part: int, parts: int) -> tuple[list[Partial], float]:
        """The partial answers and the seconds that they took."""
        return timed(lambda rows: [partial_answer(rows, q) for q in questions], part_of(self.value, part, parts))

    def answer_by_cache(
        self, directory: str, questions: list[Question], part: int, parts: int
    ) -> tuple[list[Any], int, float]:
        """Partial answers as JSON values, found or computed; how many were computed, and the seconds."""
        from ...cache import Cache

        computed: list[str] = []

        def compute(question: Question) -> list[Any]:
            computed.append(question.title)
            found = partial_answer(part_of(self.value, part, parts), question)
            return [[list(key), count, float(total).hex()] for key, (count, total) in found.items()]

        with Cache(directory, memory=CACHED_NBYTES, disk=4 * CACHED_NBYTES) as cache:
            began = time.perf_counter()
            found = [cache.get_or_compute((asked.title, part, parts), compute, asked) for asked in questions]
            took = time.perf_counter() - began
            return [list(answer) for answer in found], len(computed), took

    def total_of_row(self, block: str, row: int) -> float:
        return float(self.plane[block][row].sum())

    def rows_now(self, block: str) -> int:
        return int(self.plane[block].num_rows)

    def checksum(self) -> int:
        """Of every byte of the data, as this worker sees it."""
        checksum = 0
        for buffer in _buffers(self.value):
            checksum = zlib.crc32(buffer, checksum)
        return checksum

    def private(self) -> int:
        """USS now, over what it was after the imports."""
        gc.collect()
        pa.default_memory_pool().release_unused()
        return _private_nbytes() - self._imported_nbytes

    def lease_alone(self, nbytes: int) -> None:
        """Hold a block that nobody else knows."""
        self._alone = self.plane.put(None, bytes(nbytes), linger=0.0)

    def put_for_ever(self, nbytes: int) -> None:
        """Put a large block again and again, each time into fresh memory, until somebody ends it."""
        value = bytes(nbytes)
        while True:
            self.plane.put(SCRATCH, value).close()
            del self.plane[SCRATCH]
            self.plane.trim()


def _private_nbytes() -> int:
    return int(psutil.Process().memory_full_info().uss)


def _buffers(value: Any) -> Iterator[Any]:
    if not hasattr(value, "column_names"):
        yield value.reshape(-1, order="A").view("u1")
        return
    for chunk in (chunk for column in value.columns for chunk in column.chunks):
        for part in [chunk, chunk.dictionary] if hasattr(chunk, "dictionary") else [chunk]:
            yield from (buffer for buffer in part.buffers() if buffer is not None)
