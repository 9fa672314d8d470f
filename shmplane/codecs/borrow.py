"""Arrays over borrowed memory: the only place where a codec turns an address into something readable.

NumPy keeps what it made an array of as the array's ``base`` for ever; that exporter holds the lease. So every view that NumPy
derives, and every ``memoryview`` of one, keeps the lease alive. It is one of the compiled core (``core/exporter.h``), which
has a buffer; or an object with an ``__array_interface__``, where there is no core or more has to be said.

Rule 1. Both say read-only, and the one has no writable buffer and the other none at all, so NumPy refuses
        ``flags.writeable = True``.
Rule 2. No attribute of the exporter leads to the lease: from a view nothing can be reached that could be
        closed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..core import load

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..system import Window
    from .base import Memory

__all__ = ["PieceOfBody", "borrow", "borrow_bytes", "memory_behind"]


class _Known(NamedTuple):
    """What arrays and exporters are made by."""

    ndarray: Callable[..., npt.NDArray[Any]]
    asarray: Callable[[Any], npt.NDArray[Any]]
    core: ModuleType | None


#: once it was looked for: to ask each time for NumPy costs as much as half of an array
_known: _Known | None = None
_core = load()


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
    # Safety: the caller compared offset and size with memory.nbytes; the exporter keeps the memory, and so the lease.
    known = _known or _find()
    address = (
        memory.address + offset
    )  # 0, of an empty copy, is no buffer to NumPy, which would make an array of its own
    if known.core is not None and strides is None and dtype is None and address:
        exporter: Any = known.core.export(memory, address, memory.nbytes - offset)
        return known.ndarray(shape, _dtype_of(typestr), exporter)
    exporter = _Exporter()
    exporter.__array_interface__ = {
        "data": (address, True),
        "shape": shape,
        "typestr": typestr,
        "strides": strides,
        "version": 3,
    }
    exporter.dtype = dtype
    _hold_memory(exporter, memory)
    return known.asarray(exporter)


def _find() -> _Known:
    global _known  # noqa: PLW0603 - one NumPy a process, and one core
    import numpy as np

    _known = _Known(np.ndarray, np.asarray, _core)
    return _known


@lru_cache(maxsize=256)
def _dtype_of(typestr: str) -> np.dtype[Any]:
    import numpy as np

    return np.dtype(typestr)


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
    if type(base) is _Exporter:
        found: Memory = _held_memory(base)
        return found
    core = (_known or _find()).core  # as when the array was made
    kept: Memory | None = None if core is None else core.kept_by(base)
    return kept
