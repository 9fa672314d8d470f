"""What a codec is: the border between Python values and the bytes of a block.

A block's bytes are ``[body][frame]``. The body is what other programs may want to read (array data, an Arrow
stream, raw bytes, JSON text) and starts at a multiple of 64 bytes; the frame says how to read it. A codec
never sees shared memory: it writes to a ``Sink`` and reads from a ``Memory``.

Rule 1. ``encode`` decides and sizes everything, copies no data that it need not, and raises before anything
        is written.
Rule 2. ``write_to`` writes each byte of the body exactly once, in ascending order, gaps as zeros.
Rule 3. ``open`` trusts neither frame nor body: a frame that does not fit its memory is ``PlaneCorrupt``.
Rule 4. All that ``open`` and ``present`` hand out keeps ``memory.lease`` alive and is read-only.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..system import Window

__all__ = ["BytesSink", "CAN_STORE", "CopiedMemory", "Encoded", "Memory", "Sink", "room_in", "warn_user"]

#: what the refusal of a value ends with
CAN_STORE = (
    "Values that can be stored: NumPy arrays and scalars of fixed-size dtypes; CPU tensors; Arrow, pandas and Polars "
    "tables and columns; bytes and other buffers; JSON values (dict, list, tuple, str, int, float, bool, None), also with "
    "all of these within them; "
    'and any object with codec="pickle".'
)


def warn_user(message: str) -> None:
    """Warn of the line outside this library that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("shmplane."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


class Sink(Protocol):
    """Where a body goes: a file being filled, or warm mapped memory."""

    def write(self, offset: int, data: Buffer) -> None:
        """Copy contiguous ``data`` to ``offset`` of the body."""


def room_in(sink: Sink, offset: int, nbytes: int) -> memoryview | None:
    """That part of the body itself, for a writer who can read into it; he fills all of it. None: write.

    A sink offers it by a method ``room(offset, nbytes)``.
    """
    offer: Callable[[int, int], memoryview | None] | None = getattr(sink, "room", None)
    return None if offer is None else offer(offset, nbytes)


class Memory(Protocol):
    """A body as this process sees it: readable for as long as ``lease`` is alive."""

    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def lease(self) -> object: ...
    def copy(self, nbytes: int) -> bytes:
        """The first ``nbytes``, copied out; the caller has checked that they are there."""

    def window(self, nbytes: int) -> Window | None:
        """The first ``nbytes`` on pages of their own, which keep the lease; None: it cannot be had just now."""


class Encoded(Protocol):
    """A value, ready to be written: everything is known but nothing is copied yet."""

    @property
    def kind(self) -> str:
        """``array``, ``table``, ``bytes``, ``json``, ``tree`` or ``pickle``."""

    @property
    def frame(self) -> bytes: ...
    @property
    def nbytes(self) -> int:
        """Bytes of the body."""

    @property
    def whole(self) -> Buffer | None:
        """The body as one contiguous buffer of whatever format; None: it is written in pieces."""

    def write_to(self, sink: Sink) -> None: ...


class BytesSink:
    """A body that is written as bytes of this process."""

    __slots__ = ("data",)

    def __init__(self, nbytes: int) -> None:
        self.data: bytearray = bytearray(nbytes)

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self.data[offset : offset + view.nbytes] = view


class CopiedMemory:
    """A body as bytes of this process: what codecs call a ``Memory``."""

    __slots__ = ("__weakref__", "_data", "nbytes")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.nbytes: int = len(data)

    @property
    def address(self) -> int:
        import numpy as np

        return int(np.frombuffer(self._data, "u1").__array_interface__["data"][0]) if self._data else 0

    @property
    def lease(self) -> object:
        return self

    def copy(self, nbytes: int) -> bytes:
        return self._data[:nbytes]

    def window(self, nbytes: int) -> Window | None:  # noqa: ARG002 - it lies on no pages of its own
        return None
