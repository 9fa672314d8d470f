"""A worker process: started under the spawn method, it has nothing of its parent but a pipe.

It answers one request at a time. Private memory is the unique set size (USS): pages that no other process maps. So that
the shared table does not count for whoever read a page first, it is measured once all workers have read all of it.
"""

from __future__ import annotations

import gc
import signal
import time
import zlib
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from .questions import Partial, Question, part_of, partial_answer

__all__ = ["SCRATCH", "Attached", "Copied", "Worked", "work"]

#: the name that the doomed put would publish
SCRATCH = "half-written"


class Attached(NamedTuple):
    """How the worker came to its table.

    Attributes:
        open_s: opening the plane by its name.
        get_s: from the block's name to a table.
    """

    open_s: float
    get_s: float


class Worked(NamedTuple):
    partials: list[Partial]
    seconds: float


class Copied(NamedTuple):
    arrived: float  #: time.monotonic, the same clock in all processes of a host
    private_nbytes: int


class _Worker:
    """What the worker has; each public method answers a request of its name."""

    def __init__(self) -> None:
        import numpy  # noqa: F401, ICN001 - what the work needs is there before memory is measured
        import pyarrow as pa
        import pyarrow.acero  # what group_by loads at its first use
        import pyarrow.compute

        from ...plane import Plane

        # One thread each: the workers share the cores, and a pool's memory would be counted as theirs.
        pa.set_cpu_count(1)
        self._open = partial(Plane, create=False)

        self.plane: Any = None
        self.value: Any = None
        self._imported_nbytes = _private_nbytes()

    def attach(self, root: str, plane: str, block: str) -> Attached:
        began = time.monotonic()
        self.plane = self._open(plane, root=root)
        opened = time.monotonic()
        self.value = self.plane[block]
        got = time.monotonic()
        return Attached(opened - began, got - opened)

    def answer(self, questions: list[Question], part: int, parts: int) -> Worked:
        began = time.monotonic()
        rows = part_of(self.value, part, parts)
        partials = [partial_answer(rows, question) for question in questions]
        return Worked(partials, time.monotonic() - began)

    def copied(self, value: Any) -> Copied:
        """A copy came through the pipe."""
        arrived = time.monotonic()
        self.value = value
        return Copied(arrived, self.private())

    def total_of_row(self, block: str, row: int) -> float:
        """Of the array's current version."""
        return float(self.plane[block][row].sum())

    def rows_now(self, block: str) -> int:
        """Of the table's current version."""
        return int(self.plane[block].num_rows)

    def checksum(self) -> int:
        """Of every byte of the table, as this worker sees it."""
        return _checksum(self.value)

    def lease_alone(self, nbytes: int) -> None:
        """Hold a block that nobody else knows."""
        import numpy as np

        self._alone = self.plane.put(None, np.zeros(nbytes, "u1"), linger=0.0)

    def private(self) -> int:
        """USS now, over what it was after the imports."""
        import pyarrow as pa

        gc.collect()
        pa.default_memory_pool().release_unused()
        return _private_nbytes() - self._imported_nbytes

    def put_for_ever(self, nbytes: int) -> None:
        """Put a large block again and again, each time into fresh memory, until somebody ends it."""
        import numpy as np

        value = np.zeros(nbytes, "u1")
        while True:
            self.plane.put(SCRATCH, value).close()
            del self.plane[SCRATCH]
            self.plane.trim()


def work(connection: Connection) -> None:
    """Answer requests until the other end is closed."""
    # Ctrl-C is for the parent, which ends us by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It was blocked while we were started, and so for us.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    worker = _Worker()
    connection.send(None)
    while True:
        try:
            request, *arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = getattr(worker, request)(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent says it
            answer = error
        try:
            connection.send(answer)
        except BrokenPipeError:
            return


def _private_nbytes() -> int:
    import psutil

    return int(psutil.Process().memory_full_info().uss)


def _checksum(value: Any) -> int:
    if hasattr(value, "column_names"):
        return _checksum_of_table(value)
    return zlib.crc32(value.reshape(-1, order="A").view("u1"))


def _checksum_of_table(table: Any) -> int:
    checksum = 0
    for column in table.columns:
        for chunk in column.chunks:
            parts = [chunk, chunk.dictionary] if hasattr(chunk, "dictionary") else [chunk]
            for buffer in (buffer for part in parts for buffer in part.buffers() if buffer is not None):
                checksum = zlib.crc32(buffer, checksum)
    return checksum
