"""``BufferPool``: large buffers of one process, kept warm.

A fresh page costs a fault and its zeroing, so a large array takes twice as long to be filled as one whose pages are there.
What comes back to the pool has its pages already. Below some MiB the C library keeps freed memory itself, and ``np.empty`` is
as fast.

Rule 1. Memory that somebody can still reach is never handed out again. What ``with`` gives is a ``memoryview``, which is
released at its end, so that the name that the user still has is of no use; arrays and buffers made of it keep the memory, and
it counts as out until they are garbage.
Rule 2. What is out is known by the memory that is alive: nothing is counted up and down, so an exception of a signal handler
in between loses at most warmth.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from dataclasses import dataclass

from ..errors import ClosedError, PlaneFull
from ..names import parse_nbytes
from ..system import SIZE_CLASSES, Pages, begin_again_in_forks, class_nbytes, own, reserve, scratch_pages, size_class_of

__all__ = ["BufferPool", "BufferPoolStatistics", "PooledBuffer"]

#: garbage does not wake who waits for it
_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True)
class BufferPoolStatistics:
    """What a pool has, in bytes of memory, and how often that helped."""

    max_bytes: int
    out_nbytes: int  #: handed out, also what arrays still show after their ``with``
    kept_nbytes: int  #: warm, for the next
    out: int  #: buffers handed out
    kept: int  #: buffers that are warm
    reused: int  #: how often a buffer was warm, since the pool was made
    made: int  #: how often it was not


class _Returned:
    """Memory after its ``with``; ``view`` is what was handed out, as long as something shows it."""

    __slots__ = ("pages", "view")

    def __init__(self, pages: Pages, view: memoryview | None) -> None:
        self.pages: Pages = pages
        self.view: memoryview | None = view

    def is_free(self) -> bool:
        """Whether nobody else can reach the memory."""
        if self.view is not None:
            try:
                self.view.release()
            except own(BufferError):
                return False  # something exports it
            self.view = None
        return sys.getrefcount(self.pages) <= _ALONE


def _count_of_one_reference() -> int:
    only = _Returned(reserve(1, writable=True), None)
    return sys.getrefcount(only.pages)


_ALONE = _count_of_one_reference()


class BufferPool:
    """Writable buffers of at most ``max_bytes`` in all, by size class, reused while they are warm.

    ``max_bytes`` bounds what is out and what is kept together: kept buffers make room for new ones, and what is out makes the
    next call raise, or wait. A size is rounded up to its class (at most a quarter) while there is room for that.

    May be used from several threads. A forked child has the same buffers as private copies, and a pool that works at once.

    Args:
        max_bytes: an int, or text like ``"1GiB"``.
    """

    def __init__(self, max_bytes: int | str) -> None:
        self._max_bytes = parse_nbytes(max_bytes, "max_bytes")
        if not self._max_bytes:
            raise ValueError("max_bytes is at least 1")
        self._condition = threading.Condition()
        self._alive: weakref.WeakSet[Pages] = weakref.WeakSet()  # kept or out
        self._kept: list[list[Pages]] = [[] for _ in range(SIZE_CLASSES)]
        self._returned: list[_Returned] = []  # not known to be free yet
        self._reused = self._made = 0
        begin_again_in_forks(self)

    @property
    def max_bytes(self) -> int:
        """The most bytes that are out and kept together."""
        return self._max_bytes

    def buffer(self, nbytes: int | str, *, timeout: float | None = 0.0) -> PooledBuffer:
        """A buffer of exactly ``nbytes`` for a ``with`` block: ``with pool.buffer(n) as b: np.frombuffer(b, "f4")``.

        ``b`` is a writable ``memoryview`` of bytes; what is in it is undefined. After the block it cannot be used any more.
        Arrays over it can: their memory comes back when the last of them is garbage.

        Args:
            timeout: how long, in seconds, the block waits at its beginning for others to give buffers back; None: for ever.

        Raises:
            PlaneFull: (a ``MemoryError``) in the block's first line: what is out leaves no room.
            ValueError: less than 1 byte.

        Cost: a few µs when a buffer is warm; the kernel's faults otherwise.
        """
        size = parse_nbytes(nbytes, "nbytes")
        if not size:
            raise ValueError("a buffer has at least 1 byte, not 0")
        return PooledBuffer(self, size, timeout)

    def stats(self) -> BufferPoolStatistics:
        """What is out and what is kept now."""
        with self._condition:
            self._keep_unviewed()
            sizes = [len(pages) for pages in list(self._alive)]
            kept = [len(pages) for some in self._kept for pages in some]
            return BufferPoolStatistics(
                max_bytes=self._max_bytes,
                out_nbytes=sum(sizes) - sum(kept),
                kept_nbytes=sum(kept),
                out=len(sizes) - len(kept),
                kept=len(kept),
                reused=self._reused,
                made=self._made,
            )

    def trim(self, nbytes: int | str = 0) -> int:
        """Give kept buffers back to the system until at most ``nbytes`` are kept; returns how many bytes that were."""
        most = parse_nbytes(nbytes, "nbytes")
        with self._condition:
            self._keep_unviewed()
            return self._drop(self._kept_nbytes() - most)

    def __repr__(self) -> str:
        return f"<BufferPool of at most {self._max_bytes:,} B>"

    # Under the condition's lock

    def _acquire(self, nbytes: int, timeout: float | None) -> Pages:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while True:
                self._keep_unviewed()
                pages = self._find(nbytes)
                if pages is not None:
                    return pages
                left = _LOOK_AGAIN_S if deadline is None else min(deadline - time.monotonic(), _LOOK_AGAIN_S)
                if left <= 0 or nbytes > self._max_bytes:
                    raise self._full(nbytes)
                self._condition.wait(left)

    def _find(self, nbytes: int) -> Pages | None:
        """A warm buffer, or a new one; None: no room."""
        size = class_nbytes(nbytes)
        size_class = size_class_of(size)
        # All of a class hold what is rounded to its size; the next one wastes no more than a quarter as well.
        for kept in self._kept[size_class : size_class + 2]:
            if kept:
                self._reused += 1
                return kept.pop()
        room = self._max_bytes - self._out_nbytes()
        if nbytes > room:
            return None
        size = min(size, room)
        self._drop(size + self._kept_nbytes() - room)
        pages = scratch_pages(size)
        self._alive.add(pages)
        self._made += 1
        return pages

    def _keep_unviewed(self) -> None:
        """Keep what nothing shows any more."""
        still: list[_Returned] = []
        while self._returned:
            returned = self._returned.pop()
            if not returned.is_free():
                still.append(returned)
            elif returned.pages in self._alive:  # in a child of a fork it may be the parent's
                self._kept[size_class_of(len(returned.pages))].append(returned.pages)
        self._returned.extend(still)

    def _drop(self, nbytes: int) -> int:
        """Give at least ``nbytes`` of what is kept back to the system, largest first; how much that was."""
        dropped = 0
        for kept in reversed(self._kept):
            while kept and dropped < nbytes:
                dropped += len(kept.pop())
        return dropped

    def _kept_nbytes(self) -> int:
        return sum(len(pages) for kept in self._kept for pages in kept)

    def _out_nbytes(self) -> int:
        return sum(len(pages) for pages in list(self._alive)) - self._kept_nbytes()

    def _full(self, nbytes: int) -> PlaneFull:
        out = self._out_nbytes()
        return PlaneFull(
            f"a buffer of {nbytes:,} B: {out:,} B of the pool's {self._max_bytes:,} are out. Leave the `with` blocks of others "
            f"and drop the arrays over them, wait with timeout=, or make the pool with a larger max_bytes.",
            needed=nbytes,
            out=out,
            max_bytes=self._max_bytes,
        )

    def _release(self, returned: _Returned) -> None:
        with self._condition:
            self._returned.append(returned)
            self._keep_unviewed()
            self._condition.notify()

    def begin_again_in_child(self) -> None:
        """In a forked child: what threads of the parent had stays with them, what is kept is ours as well."""
        self._condition = threading.Condition()
        self._alive = weakref.WeakSet(pages for kept in self._kept for pages in kept)


class PooledBuffer:
    """What ``pool.buffer`` returns: a context manager, which takes the memory when its block begins."""

    __slots__ = ("_nbytes", "_pages", "_pool", "_timeout", "_view")

    def __init__(self, pool: BufferPool, nbytes: int, timeout: float | None) -> None:
        self._pool, self._nbytes, self._timeout = pool, nbytes, timeout
        self._pages: Pages | None = None
        self._view: memoryview | None = None

    def __enter__(self) -> memoryview:
        if self._pages is not None:
            raise ClosedError("this buffer is in use; ask the pool for another one")
        pages = self._pool._acquire(self._nbytes, self._timeout)
        self._pages = pages
        self._view = view = memoryview(pages)[: self._nbytes]
        return view

    def __exit__(self, *_: object) -> None:
        pages, view = self._pages, self._view
        self._pages = self._view = None
        if pages is not None:
            returned = _Returned(pages, view)
            # Nothing in this frame shows the memory when it is asked whether somebody does.
            del pages, view
            self._pool._release(returned)
