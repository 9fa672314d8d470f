"""A file that is read in pieces, and a value that comes of it in pieces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import FileTruncated
from ...system import open_to_read, read_into
from ..failures import translated

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["PIECE_NBYTES", "OnProgress", "Pieces", "Source", "StrPath"]

PIECE_NBYTES = 1 << 20

StrPath = str | os.PathLike[str]
OnProgress = Callable[[int, int], object] | None


class Pieces(NamedTuple):
    """A value whose bytes come a piece at a time, in ascending order and as often as they are asked for.

    Attributes:
        dtype: of an array: NumPy's, or the name of a type that NumPy does not have; None: these are plain bytes.
    """

    nbytes: int
    pieces: Callable[[], Iterator[tuple[int, Buffer]]]
    dtype: Any = None
    shape: tuple[int, ...] = ()
    is_fortran: bool = False


class Source:
    """A regular file, open for reading."""

    def __init__(self, path: str, progress: OnProgress = None) -> None:
        self.path = path
        self._progress = progress
        self._reported = -1
        with translated("opening", path):
            self._fd = open_to_read(path)
            self.nbytes: int = os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)

    def report(self, done: int) -> None:
        """So many bytes of the file have been read; it is said only when it is more than before."""
        done = min(done, self.nbytes)
        if self._progress is not None and done > self._reported:
            self._reported = done
            self._progress(done, self.nbytes)

    def report_all(self) -> None:
        self.report(self.nbytes)

    def head(self, nbytes: int, offset: int = 0) -> bytes:
        """The first bytes from ``offset`` on, as many as there are."""
        held = bytearray(max(0, min(nbytes, self.nbytes - offset)))
        return bytes(held[: self._fill(memoryview(held), offset)])

    def pieces(self, offset: int, nbytes: int) -> Iterator[tuple[int, memoryview]]:
        """The bytes from ``offset`` on: each piece and where in them it begins. It is overwritten by the next one."""
        held = memoryview(bytearray(min(PIECE_NBYTES, nbytes)))
        done = 0
        while done < nbytes:
            view = held[: min(PIECE_NBYTES, nbytes - done)]
            if self._fill(view, offset + done) < view.nbytes:
                raise FileTruncated(
                    f"{self.path} became shorter while it was read: it had {self.nbytes:,} B. Load it again.",
                    path=self.path,
                    needed=self.nbytes,
                )
            yield done, view
            done += view.nbytes
            self.report(offset + done)

    def _fill(self, view: memoryview, offset: int) -> int:
        with translated("reading", self.path):
            return read_into(self._fd, offset, view)
