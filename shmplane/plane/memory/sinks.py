"""Where the body of a block is written to: a file that is being filled, or warm mapped memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import ClosedError
from ...system import late, own, write_all
from .failures import translate

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from . import copying
else:
    copying = late("shmplane.plane.memory.copying")

__all__ = ["FileSink", "MappedSink"]


class FileSink:
    """Fills a file by ``pwrite``: half the cost of faulting fresh pages in one by one.

    Not in a forked child: by then its parent may have finished the block, and others may have the memory.
    """

    __slots__ = ("_fd", "_pid", "_plane")

    def __init__(self, fd: int, plane: str) -> None:
        self._fd, self._plane = fd, plane
        self._pid = os.getpid()

    def write(self, offset: int, data: Buffer) -> None:
        if os.getpid() != self._pid:
            raise ClosedError("the block belongs to the process that this one was forked from; put it here again")
        source = memoryview(data)
        try:
            write_all(self._fd, offset, source)
        except own(OSError) as error:
            raise translate(error, f"writing {source.nbytes:,} B", plane=self._plane) from error


class MappedSink:
    """Fills warm mapped memory."""

    __slots__ = ("_start", "_view")

    def __init__(self, view: memoryview, start: int = 0) -> None:
        self._view, self._start = view, start

    def write(self, offset: int, data: Buffer) -> None:
        source = memoryview(data)
        if not source.nbytes:
            return
        begin = self._start + offset
        copying.copy_bytes(self._view[begin : begin + source.nbytes], source.cast("B"))

    def room(self, offset: int, nbytes: int) -> memoryview:
        """That memory itself, for who reads a file into it."""
        begin = self._start + offset
        return self._view[begin : begin + nbytes]
