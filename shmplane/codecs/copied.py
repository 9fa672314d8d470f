"""Bodies that were copied out of shared memory, or never were in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..system import Window

__all__ = ["BytesSink", "CopiedMemory"]


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
