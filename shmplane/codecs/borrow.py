"""Arrays over borrowed memory: the only place where a codec turns an address into something readable.

NumPy asks an exporter for its ``__array_interface__`` and keeps it as the array's ``base`` for ever; the
exporter holds the lease. So every view that NumPy derives, and every ``memoryview`` of one, keeps the lease
alive.

Rule 1. The interface says read-only, and the exporter has no buffer protocol, so NumPy refuses
        ``flags.writeable = True``.
Rule 2. No attribute of the exporter leads to the lease: from a view nothing can be reached that could be
        closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..system import Window
    from .base import Memory

__all__ = ["PieceOfBody", "borrow", "borrow_bytes", "memory_behind"]


#: of NumPy, once it is loaded: to ask each time costs as much as half of the array
_as_array: Callable[[Any], npt.NDArray[Any]] | None = None


class Root(Protocol):
    """What views of a whole body keep."""

    memory: Memory


class _Exporter:
    """The ``base`` of a borrowed array; ``dtype`` is what to view it as, when a type string cannot say it."""

    __slots__ = ("__array_interface__", "_memory", "dtype")
    __array_interface__: dict[str, Any]
    dtype: np.dtype[Any] | None


# The slot keeps its place in the object (and in the garbage collector's view) but loses its name.
_hold_memory = _Exporter.__dict__["_memory"].__set__
_held_memory = _Exporter.__dict__["_memory"].__get__
del _Exporter._memory  # type: ignore[attr-defined]


def borrow(
    memory: Memory,
    typestr: str,
    shape: tuple[int, ...],
    *,
    strides: tuple[int, ...] | None = None,
    dtype: np.dtype[Any] | None = None,
    offset: int = 0,
) -> npt.NDArray[Any]:
    """A read-only array over ``memory``; the caller has checked that it fits. Cost: about 1 µs."""
    exporter = _Exporter()
    # Safety: the caller compared offset and size with memory.nbytes; the exporter keeps the memory, and so the lease.
    exporter.__array_interface__ = {
        "data": (memory.address + offset, True),
        "shape": shape,
        "typestr": typestr,
        "strides": strides,
        "version": 3,
    }
    exporter.dtype = dtype
    _hold_memory(exporter, memory)
    return (_as_array or _load_numpy())(exporter)


def _load_numpy() -> Callable[[Any], npt.NDArray[Any]]:
    global _as_array  # noqa: PLW0603 - one NumPy a process
    import numpy as np

    _as_array = np.asarray
    return _as_array


def borrow_bytes(memory: Memory, offset: int = 0, nbytes: int | None = None) -> npt.NDArray[np.uint8]:
    """``nbytes`` of ``memory`` from ``offset``, as ``uint8``; the caller has checked that they are there."""
    return borrow(memory, "|u1", (memory.nbytes - offset if nbytes is None else nbytes,), offset=offset)


class PieceOfBody:
    """A value within the body of another one, whose root it keeps, and that the lease: a ``Memory`` of its own."""

    __slots__ = ("address", "lease", "nbytes")

    def __init__(self, root: Root, offset: int, nbytes: int) -> None:
        self.address: int = root.memory.address + offset
        self.nbytes: int = nbytes
        self.lease: object = root

    def copy(self, nbytes: int) -> bytes:
        """The first bytes, copied out."""
        return borrow_bytes(self, nbytes=nbytes).tobytes()

    def window(self, nbytes: int) -> Window | None:  # noqa: ARG002 - it begins anywhere
        """There are none."""
        return None


def memory_behind(array: npt.NDArray[Any]) -> Memory | None:
    """What the array, or the one that it is a view of, was borrowed from; None for any other."""
    import numpy as np

    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    found: Memory | None = _held_memory(base) if type(base) is _Exporter else None
    return found
