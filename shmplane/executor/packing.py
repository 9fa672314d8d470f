"""Pickling with the large buffers left out, and without a copy of what stays in.

Pickle protocol 5 hands out what exports a buffer. Three things it would copy first are seen to here: arrays with gaps or of a
dtype without a buffer format, read-only arrays (which would arrive read-only, where any other executor gives writable ones),
and ``memoryview``, which it refuses. Large ``bytes`` and ``str`` cannot be left out, since Python owns their memory; but the
pickler hands them to its file as they are, so the pickle is a list of pieces that are copied once, into the block.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from importlib import import_module
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..system import own

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: a chunk that is an eighth larger than what it shows is not sent as it is
_WORTH_CUTTING = 3
#: by type; ``ForkingPickler.register`` adds to it
_registered: dict[type, Callable[[Any], Any]] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]

__all__ = ["LeftOut", "Packed", "pack", "unpack"]


class LeftOut(NamedTuple):
    """A buffer that is not in the pickle."""

    raw: memoryview  #: contiguous bytes
    address: int
    origin: Any  #: the array that it is of; None: something else

    @property
    def is_read_only(self) -> bool:
        """Whether whoever gave it cannot write it."""
        return self.raw.readonly if self.origin is None else not self.origin.flags.writeable


class Packed(NamedTuple):
    """A pickle in pieces, and the buffers that were left out of it."""

    stream: list[Any]  #: bytes-like pieces, as the pickler wrote them
    nbytes: int  #: of the stream
    buffers: list[LeftOut]  #: in the order in which the pickle wants them


class _Pieces:
    """A file that keeps what is written to it."""

    __slots__ = ("pieces", "write")

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.write: Callable[[Any], None] = self.pieces.append


class _Left:
    """What one pickle leaves out. Not the pickler's own, which would be in a cycle with this and keep what it pickled."""

    __slots__ = ("buffers", "origins", "threshold")

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.buffers: list[LeftOut] = []
        self.origins: dict[int, Any] = {}  #: arrays that are being pickled, by address

    def leave_out(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether the pickle is to have it after all."""
        raw = buffer.raw()
        if raw.nbytes < self.threshold:
            return True
        address = _address_of(raw)
        self.buffers.append(LeftOut(raw, address, self.origins.get(address)))
        return False


class _LeavesOut:
    """What a pickler does with large buffers; in front of a class of picklers."""

    left: _Left
    reducers: dict[type, Callable[[Any, Any], Any]]

    def begin(self, threshold: int) -> Callable[[pickle.PickleBuffer], bool]:
        """Nothing has been left out yet. Returns what is to be asked of each buffer."""
        self.left = _Left(threshold)
        self.reducers = _reducers if len(_reducers) == _MOST_REDUCERS else _reducers_now()
        return self.left.leave_out

    def reduce_array(self, array: npt.NDArray[Any]) -> Any:
        if array.dtype.hasobject:
            return NotImplemented
        if array.nbytes < max(self.left.threshold, 1):
            return array.__reduce_ex__(4)  # it arrives writable, whatever it is here
        flat, order = _flat_bytes(array)
        if order is None:  # gaps: a copy, which the next array may have the memory of
            order = "C"
        else:
            self.left.origins[flat.__array_interface__["data"][0]] = array
        return restore_array, (pickle.PickleBuffer(cast("Any", flat)), array.dtype, array.shape, order)

    def reduce_arrow(self, array: Any) -> Any:
        """A column of pandas over Arrow, which pickles a copy of itself: of one chunk the chunk will do."""
        state = dict(vars(array))
        chunks: Any = state.get("_pa_array")
        if getattr(chunks, "num_chunks", 0) != 1:
            return NotImplemented
        chunk = chunks.chunk(0)
        if chunk.get_total_buffer_size() > chunk.nbytes + (chunk.nbytes >> _WORTH_CUTTING):
            return NotImplemented  # a piece of something larger, all of which would go
        state["_pa_array"] = chunk
        if "_cache" in state:
            state["_cache"] = {}
        return copyreg.__newobj__, (type(array),), state  # type: ignore[attr-defined]

    def reduce_tensor(self, tensor: Any) -> Any:
        """CPU tensors go as blocks; what torch has its own way for (devices, sparse and quantised ones) goes that way."""
        torch: Any = sys.modules["torch"]
        is_plain = tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized
        if not is_plain or tensor.requires_grad or tensor.is_conj() or tensor.is_neg():
            return NotImplemented
        words = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        return restore_tensor, (words, tensor.dtype, tuple(tensor.shape))


def _reduce_view(_: Any, view: memoryview) -> Any:
    data = pickle.PickleBuffer(cast("Any", view if view.c_contiguous else bytearray(view.tobytes())))
    if _can_cast(view):
        return restore_view, (data, view.format, view.shape, view.readonly)
    dtype = _dtype_of_view(view)
    if dtype is None:
        raise TypeError("cannot pickle 'memoryview' object")
    return restore_array_view, (data, dtype, view.shape, view.readonly)


def _can_cast(view: memoryview) -> bool:
    """Whether bytes can be made a view of this format and shape again."""
    if not view.nbytes and view.ndim != 1:
        return False
    try:
        memoryview(bytes(view.itemsize)).cast(cast("Any", view.format))
    except ValueError:
        return False
    return True


def _dtype_of_view(view: memoryview) -> np.dtype[Any] | None:
    """Of arrays whose views have this format: records, another byte order. None: there is none."""
    import numpy as np

    # NumPy cannot read each format that it writes.
    candidates = (lambda: cast("Any", view.obj).dtype, lambda: np.asarray(view).dtype)
    for candidate in candidates:
        try:
            dtype = pickle.loads(pickle.dumps(candidate()))  # noqa: S301 - our own; as it arrives
            # Of the same shape, since the format says whether all records are aligned. Memory that nobody touches is none.
            arrives: Any = np.empty(view.shape, dtype) if isinstance(dtype, np.dtype) else None
            is_same = arrives is not None and memoryview(arrives).format == view.format
        except own(Exception):  # whatever makes it none
            continue
        if is_same and dtype.itemsize and not dtype.hasobject:
            return cast("np.dtype[Any]", dtype)
    return None


#: by type, for those whose library is loaded
_reducers: dict[type, Callable[[Any, Any], Any]] = {memoryview: _reduce_view}
_REDUCED_LATE: dict[tuple[str, str], Callable[[Any, Any], Any]] = {
    ("numpy", "ndarray"): _LeavesOut.reduce_array,
    ("pandas.arrays", "ArrowExtensionArray"): _LeavesOut.reduce_arrow,
    ("pandas.arrays", "ArrowStringArray"): _LeavesOut.reduce_arrow,
    ("torch", "Tensor"): _LeavesOut.reduce_tensor,
}
_MOST_REDUCERS = 1 + len(_REDUCED_LATE)


def _reducers_now() -> dict[type, Callable[[Any, Any], Any]]:
    """With those of libraries that have been loaded since; a value cannot exist before its library is loaded."""
    for (module, name), reduce in _REDUCED_LATE.items():
        # A module that another thread is just importing has no classes yet.
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            _reducers[kind] = reduce
    return _reducers


class _Pickler(_LeavesOut, pickle.Pickler):
    """Leaves large buffers out, and knows what ``multiprocessing`` and torch registered."""

    def __init__(self, file: Any, threshold: int) -> None:
        super().__init__(file, 5, True, self.begin(threshold))
        # What ``ForkingPickler`` has as a chain of two, which is slower to make and to look at.
        self.dispatch_table = copyreg.dispatch_table | _registered

    def reducer_override(self, value: Any) -> Any:
        reduce = self.reducers.get(type(value))
        return NotImplemented if reduce is None else reduce(self, value)


def pickler_named(name: str) -> Callable[[Any, int], Any]:
    """A class of picklers, made of cloudpickle's ``module:class``, or of the standard library's for ``""``."""
    if not name:
        return _Pickler
    known = _named.get(name)
    if known is None:
        module, _, attribute = name.partition(":")
        known = _named[name] = _made_of(getattr(import_module(module), attribute))
    return known


_named: dict[str, Callable[[Any, int], Any]] = {}


def _made_of(base: Any) -> Callable[[Any, int], Any]:
    class CloudPickler(_LeavesOut, base):  # type: ignore[misc]
        """The same over cloudpickle, for functions that no module has."""

        def __init__(self, file: Any, threshold: int) -> None:
            super().__init__(file, 5, self.begin(threshold))
            self.dispatch_table = ChainMap(_registered, base.dispatch_table)

        def reducer_override(self, value: Any) -> Any:
            reduce = self.reducers.get(type(value))
            return super().reducer_override(value) if reduce is None else reduce(self, value)

    return CloudPickler


def pack(value: Any, threshold: int, pickler: str = "") -> Packed:
    """Pickle ``value`` without its buffers of ``threshold`` bytes and more, which are referred to."""
    file = _Pieces()
    made = pickler_named(pickler)(file, threshold)
    made.dump(value)
    return Packed(file.pieces, sum(len(piece) for piece in file.pieces), made.left.buffers)


def unpack(stream: Any, buffers: Any) -> Any:
    """What ``pack`` was given. Runs whatever code the pickle names."""
    return pickle.loads(stream, buffers=buffers)  # noqa: S301 - from our own worker, or from whom we work for


# Arrays


def _address_of(raw: memoryview) -> int:
    """Where a buffer begins."""
    import numpy as np

    address: int = np.frombuffer(raw, np.uint8).__array_interface__["data"][0]
    return address


def _flat_bytes(array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], str | None]:
    """The elements as bytes in a row, with the order that they are in; None: copied in C order, since there are gaps."""
    import numpy as np

    if array.flags.c_contiguous:
        return array.reshape(-1).view(np.uint8), "C"
    if array.flags.f_contiguous:
        return array.T.reshape(-1).view(np.uint8), "F"
    return np.array(array, order="C").reshape(-1).view(np.uint8), None


def restore_array(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> npt.NDArray[Any]:
    """The array over a buffer of this process's own, writable."""
    import numpy as np

    # A buffer that was read-only at the sender's comes as a read-only view of ours, which is not.
    if isinstance(buffer, memoryview) and isinstance(buffer.obj, np.ndarray):
        buffer = buffer.obj
    flat = np.frombuffer(buffer, np.uint8)
    if not flat.flags.writeable:
        flat = flat.copy()
    return flat.view(dtype).reshape(shape, order="F" if order == "F" else "C")


def restore_tensor(words: npt.NDArray[np.uint8], dtype: Any, shape: tuple[int, ...]) -> Any:
    """The tensor over an array of its bytes."""
    torch: Any = import_module("torch")
    return torch.from_numpy(words).view(dtype).reshape(shape)


# Buffers of the standard library


def restore_view(buffer: Any, form: str, shape: tuple[int, ...], readonly: bool) -> memoryview:
    """A ``memoryview`` of the same format and shape."""
    view = memoryview(buffer).cast("B") if memoryview(buffer).nbytes else memoryview(bytearray())
    if form != "B" or len(shape) != 1:
        view = view.cast(cast("Any", form), shape) if view.nbytes else view.cast(cast("Any", form))
    return view.toreadonly() if readonly else view


def restore_array_view(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], readonly: bool) -> memoryview:
    """The same of a format that only arrays have."""
    view = memoryview(cast("Any", restore_array(buffer, dtype, shape, "C")))
    return view.toreadonly() if readonly else view
