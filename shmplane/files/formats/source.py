"""A file that is read in pieces, and a value that is read from it when there is memory for it.

Reading goes straight into the memory of whoever asks. Large pieces that the kernel has in memory are read by two threads when
a core is idle; from a disk by one, since two would make it go back and forth.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from ... import system
from ...errors import FileTruncated
from ...system import PAGE_NBYTES, is_cached, open_to_read, own, read_into
from ..failures import translated

__all__ = ["PIECE_NBYTES", "Fill", "OnProgress", "Pieces", "Source", "StrPath"]

#: what passes through memory of its own stays in the processor's cache
PIECE_NBYTES = 256 << 10
_LARGE_PIECE_NBYTES = 16 << 20
_IN_TWO_NBYTES = 8 << 20

StrPath = str | os.PathLike[str]
OnProgress = Callable[[int, int], object] | None


#: fills the memory that it is given with the next bytes of a value
Fill = Callable[[memoryview], None]


class Pieces(NamedTuple):
    """A value whose bytes are read in ascending order, as often as that is begun: ``with pieces.reading() as fill``.

    Attributes:
        dtype: of an array: NumPy's, or the name of a type that NumPy does not have; None: these are plain bytes.
    """

    nbytes: int
    reading: Callable[[], AbstractContextManager[Fill]]
    dtype: Any = None
    shape: tuple[int, ...] = ()
    is_fortran: bool = False


class Source:
    """A regular file, open for reading."""

    def __init__(self, path: str, progress: OnProgress = None) -> None:
        self.path = path
        self.nbytes: int  #: how long it is when it is opened
        self._progress = progress
        self._reported = -1
        self._read_nbytes = 0  #: of the file, for what was handed out so far
        with translated("opening", path):
            self._fd, self.nbytes = open_to_read(path)

    def close(self) -> None:
        os.close(self._fd)

    def report(self, done: int) -> None:
        """So many bytes of the file have been read; it is said only when it is more than before."""
        done = min(done, self.nbytes)
        if self._progress is not None and done > self._reported:
            self._reported = done
            self._progress(done, self.nbytes)

    def check_whole(self) -> None:
        """``FileTruncated`` when somebody cut the file since it was opened: a text may end anywhere."""
        with translated("reading", self.path):
            found = os.fstat(self._fd).st_size
        if found < self.nbytes:
            raise self._shorter()

    def _shorter(self) -> FileTruncated:
        return FileTruncated(
            f"{self.path} became shorter while it was read: it had {self.nbytes:,} B. Load it again.",
            path=self.path,
            needed=self.nbytes,
        )

    def share(self) -> float:
        """How much of the file what was handed out comes from; of a table."""
        return self._read_nbytes / max(self.nbytes, 1)

    def count(self, nbytes: int) -> None:
        """Note that what is handed out next comes from the first ``nbytes``."""
        self._read_nbytes = min(nbytes, self.nbytes)

    def report_all(self) -> None:
        self.report(self.nbytes)

    def head(self, nbytes: int, offset: int = 0) -> bytes:
        """The first bytes from ``offset`` on, as many as there are."""
        held = bytearray(max(0, min(nbytes, self.nbytes - offset)))
        return bytes(held[: self._fill(memoryview(held), offset)])

    def part(self, offset: int) -> Callable[[], AbstractContextManager[Fill]]:
        """The bytes from ``offset`` on, for ``Pieces``."""
        return partial(self._reading, offset)

    @contextmanager
    def _reading(self, offset: int) -> Iterator[Fill]:
        at = [offset]

        def fill(view: memoryview) -> None:
            for start in range(0, view.nbytes, _LARGE_PIECE_NBYTES):
                piece = view[start : start + _LARGE_PIECE_NBYTES]
                self._fill_whole(piece, at[0])
                at[0] += piece.nbytes
                self.report(at[0])

        yield fill

    def _fill_whole(self, view: memoryview, offset: int) -> None:
        if view.nbytes >= _IN_TWO_NBYTES and self._helps_in_two(offset, view.nbytes):
            found = self._fill_in_two(view, offset)
        else:
            found = self._fill(view, offset)
        if found < view.nbytes:
            raise self._shorter()

    def _helps_in_two(self, offset: int, nbytes: int) -> bool:
        is_in_memory = is_cached(self._fd, offset + nbytes // 2) and is_cached(self._fd, offset + nbytes - 1)
        return is_in_memory and system.can_run_beside() and system.has_idle_core()

    def _fill_in_two(self, view: memoryview, offset: int) -> int:
        middle = view.nbytes // 2 // PAGE_NBYTES * PAGE_NBYTES
        found = [0, 0]

        def read(half: int, part: memoryview, at: int) -> None:
            found[half] = self._fill(part, at)

        try:
            system.run_beside(partial(read, 0, view[:middle], offset), partial(read, 1, view[middle:], offset + middle))
        except own(RuntimeError):  # no more threads
            return self._fill(view, offset)
        return found[0] + found[1] if found[0] == middle else found[0]

    def _fill(self, view: memoryview, offset: int) -> int:
        with translated("reading", self.path):
            return read_into(self._fd, offset, view)
