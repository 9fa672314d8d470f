"""Arrays: the elements as they lie in memory, C or Fortran order, and a frame with dtype, shape and order.

Rule 1. A contiguous array is written as one buffer; any other through a bounce buffer of 256 KiB, in the
        order that is closer to its strides. There is never a second copy of the whole.
Rule 2. Shape and item size are multiplied as Python ints and compared with the memory before NumPy sees an
        address; strides are computed, not read.

Rule 3. Elements of a type that NumPy does not have may be given as plain words with the type's name, as torch tensors
        are; then it is the name that the frame has.

Subclasses of ``ndarray`` come back as plain arrays, except masked ones, which are refused since their mask
would be lost.
"""

from __future__ import annotations

import math
import struct
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UnsupportedValue
from ..system import own
from .base import CAN_STORE, Memory, Sink
from .borrow import borrow
from .dtypes import FOREIGN_NBYTES, is_storable, pack_dtype, unpack_dtype, words_dtype
from .envelope import HEADER_NBYTES, corrupt, seal, unseal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


__all__ = [
    "EncodedArray",
    "array_over",
    "describe_array",
    "encode_array",
    "encode_array_like",
    "grow_array",
    "is_fortran",
    "open_array",
    "parse_shape",
    "present_array",
    "words_over",
    "write_rows",
]

BOUNCE_NBYTES = 256 * 1024
MAX_NDIM = 64  #: of NumPy 2; NumPy 1 has 32
MAX_NBYTES = 2**63 - 1

_HEAD = struct.Struct("<BBH")  #: order ("C" or "F"), number of dimensions, bytes of dtype


class ArrayFrame(NamedTuple):
    """What an array's frame says, with what follows from it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None  #: None: C order
    nbytes: int
    typestr: str
    view_as: np.dtype[Any] | None  #: set when the type string cannot express the dtype


class EncodedArray:
    """An array that is ready to be written."""

    __slots__ = ("array", "frame", "nbytes", "whole")
    kind = "array"

    def __init__(self, array: npt.NDArray[Any], frame: bytes, whole: npt.NDArray[Any] | None) -> None:
        self.array: npt.NDArray[Any] = array
        self.frame: bytes = frame
        self.whole: Any = whole  #: in C order, or its transpose; None: with gaps
        self.nbytes: int = array.nbytes

    def write_to(self, sink: Sink) -> None:
        import numpy as np

        if self.nbytes and self.whole is not None:
            sink.write(0, self.whole.reshape(-1).view(np.uint8).data)
        elif self.nbytes:
            write_rows(self.array.T if _is_closer_to_fortran(self.array) else self.array, sink)


def encode_array(array: npt.NDArray[Any], name: str | None = None) -> EncodedArray:
    """Describe an ``ndarray``. Cost: about 1 µs when its dtype and shape were seen before.

    Args:
        name: of the elements' type, when they are given as words.
    """
    flags = array.flags
    if flags.c_contiguous:
        return EncodedArray(array, _frame(array.dtype, array.shape, b"C", name), array)
    if flags.f_contiguous:
        return EncodedArray(array, _frame(array.dtype, array.shape, b"F", name), array.T)
    order = b"F" if _is_closer_to_fortran(array) else b"C"
    return EncodedArray(array, _frame(array.dtype, array.shape, order, name), None)


def describe_array(dtype: Any, shape: tuple[int, ...], *, is_fortran: bool = False) -> tuple[bytes, int]:
    """The frame of an array that is to be written, and the bytes of its elements.

    Args:
        dtype: NumPy's, or the name of a type that NumPy does not have.
    """
    import numpy as np

    name = dtype if isinstance(dtype, str) and dtype in FOREIGN_NBYTES else None
    elements = np.dtype(dtype) if name is None else words_dtype(name)
    frame = _frame(elements, shape, b"F" if is_fortran and len(shape) > 1 else b"C", name)
    return frame, math.prod(shape) * elements.itemsize


def is_fortran(array: npt.NDArray[Any]) -> bool:
    """Whether an array is written in Fortran order: it lies so, or nearly."""
    flags = array.flags
    return not flags.c_contiguous and (flags.f_contiguous or _is_closer_to_fortran(array))


def encode_array_like(value: Any) -> EncodedArray:
    """Describe what NumPy can see as an array: subclasses, scalars, ``__array__``, ``__dlpack__``, buffers, lists.

    ``__array__`` comes first: it says what the elements are. DLPack says what lies in memory, and leaves out what a
    library has put off, like the sign of a torch tensor with the negative bit.
    """
    import numpy as np

    tensors: Any = getattr(sys.modules.get("torch"), "Tensor", ())
    if isinstance(value, tensors):
        from .torch_ import elements_of

        return encode_array(*elements_of(value))
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise UnsupportedValue(
            f"a masked array cannot be stored, its mask would be lost; put value.filled(...), or data and mask apart. "
            f"{CAN_STORE}",
            type=type(value).__name__,
        )
    if hasattr(type(value), "__dlpack__") and not hasattr(type(value), "__array__"):
        try:
            return encode_array(np.from_dlpack(value))
        except own(Exception) as error:
            raise UnsupportedValue(
                f"this {type(value).__name__} cannot be read through DLPack: {error}", type=type(value).__name__
            ) from error
    return encode_array(_as_array(value))


def _as_array(value: Any) -> npt.NDArray[Any]:
    import numpy as np

    try:
        # NumPy takes these for bytes, whatever else they offer.
        if isinstance(value, (bytes, bytearray)) and hasattr(type(value), "__array__"):
            as_array: Any = type(value)
            value = as_array.__array__(value)
        return np.asarray(value)
    except own(Exception) as error:
        raise UnsupportedValue(
            f"NumPy cannot make an array of this {type(value).__name__}: {error}", type=type(value).__name__
        ) from error


def _is_closer_to_fortran(array: npt.NDArray[Any]) -> bool:
    steps = [abs(step) for step, count in zip(array.strides, array.shape, strict=True) if count > 1]
    return len(steps) > 1 and steps[0] < steps[-1]


@lru_cache(maxsize=4096)
def _frame(dtype: np.dtype[Any], shape: tuple[int, ...], order: bytes, name: str | None = None) -> bytes:
    if not is_storable(dtype):
        raise UnsupportedValue(
            f"an array of dtype {dtype} cannot be stored: its elements are not plain bytes of a fixed size. "
            f"Convert it (astype) or put it as a table. {CAN_STORE}",
            dtype=str(dtype),
        )
    if len(shape) > MAX_NDIM:
        raise UnsupportedValue(f"an array of {len(shape)} dimensions cannot be stored; at most {MAX_NDIM}", shape=shape)
    packed = pack_dtype(dtype) if name is None else name.encode()
    if len(packed) > 0xFFFF:
        raise UnsupportedValue(f"the dtype is too large to describe: {len(packed):,} bytes; use fewer fields")
    return seal(b"A", _pack(packed, shape, order[0]))


def _pack(packed: bytes, shape: tuple[int, ...], order: int) -> bytes:
    return _HEAD.pack(order, len(shape), len(packed)) + struct.pack(f"<{len(shape)}Q", *shape) + packed


def write_rows(array: npt.NDArray[Any], sink: Sink) -> None:
    """Write the elements of ``array`` in C order, through a bounce buffer."""
    import numpy as np

    count = max(1, BOUNCE_NBYTES // array.itemsize)
    bounce = np.zeros(min(count, array.size), array.dtype)
    chunks: Any = np.nditer(array, ["external_loop", "buffered"], ["readonly"], order="C", buffersize=count)
    offset = 0
    with chunks:
        for chunk in chunks:
            filled = bounce[: chunk.size]
            filled[...] = chunk
            sink.write(offset, filled.view(np.uint8).data)
            offset += filled.nbytes


@lru_cache(maxsize=4096)
def parse_array(frame: bytes) -> ArrayFrame:
    """What an array's frame says, checked by itself, or ``PlaneCorrupt``."""
    shape, packed = parse_shape(frame)
    return _complete(unpack_dtype(packed), shape, fortran=frame[HEADER_NBYTES] == ord("F"))


def parse_shape(frame: bytes) -> tuple[tuple[int, ...], bytes]:
    """Shape and packed dtype of an array's frame, without loading NumPy."""
    payload = unseal(b"A", frame)
    if len(payload) < _HEAD.size:
        corrupt("its frame is cut short")
    order, ndim, dtype_nbytes = _HEAD.unpack_from(payload)
    if order not in b"CF" or ndim > MAX_NDIM or len(payload) - _HEAD.size - 8 * ndim != dtype_nbytes:
        corrupt("its frame has no array's layout")
    shape = struct.unpack_from(f"<{ndim}Q", payload, _HEAD.size)
    return shape, payload[_HEAD.size + 8 * ndim :]


def _complete(dtype: np.dtype[Any], shape: tuple[int, ...], *, fortran: bool) -> ArrayFrame:
    # NumPy multiplies the nonzero lengths even when one length is zero, and must not overflow.
    extent = max(dtype.itemsize, 1)
    strides = []
    for length in shape:
        strides.append(extent if dtype.itemsize else 0)
        extent *= max(length, 1)
    if extent > MAX_NBYTES:
        corrupt(f"its frame claims an array of shape {shape}")
    nbytes = 0 if 0 in shape else extent if dtype.itemsize else 0
    view_as = dtype if dtype.names is not None or dtype.isbuiltin == 2 else None
    typestr = f"|V{dtype.itemsize}" if view_as else dtype.str
    return ArrayFrame(dtype, shape, tuple(strides) if fortran else None, nbytes, typestr, view_as)


def open_array(frame: bytes, memory: Memory, _: object = ()) -> npt.NDArray[Any]:
    """The root of an array's views. Cost: about 2 µs when the frame was seen before."""
    claim = parse_array(frame)
    if claim.nbytes > memory.nbytes:
        corrupt(f"its frame claims {claim.nbytes:,} bytes of {memory.nbytes:,}")
    try:
        return borrow(memory, claim.typestr, claim.shape, strides=claim.strides, dtype=claim.view_as)
    except own(ValueError) as error:
        raise UnsupportedValue(
            f"an array of {len(claim.shape)} dimensions needs NumPy 2: pip install 'numpy>=2'", shape=claim.shape
        ) from error


def array_over(frame: bytes, buffer: memoryview) -> npt.NDArray[Any]:
    """An array as ``frame`` says over a buffer of at least its size; writable when the buffer is."""
    import numpy as np

    claim = parse_array(frame)
    if claim.nbytes > buffer.nbytes:
        corrupt(f"its frame claims {claim.nbytes:,} bytes of {buffer.nbytes:,}")
    return np.ndarray(claim.shape, claim.dtype, buffer=buffer, strides=claim.strides)


def words_over(frame: bytes, buffer: memoryview) -> tuple[npt.NDArray[Any], str | None]:
    """The same, but for elements of a type that is stored by its name: these as words, and the name. Takes no library."""
    shape, packed = parse_shape(frame)
    name = packed.decode("ascii", "replace")
    if name not in FOREIGN_NBYTES:
        return array_over(frame, buffer), None
    return array_over(seal(b"A", _pack(words_dtype(name).str.encode(), shape, frame[HEADER_NBYTES])), buffer), name


def grow_array(frame: bytes, rows: Any, name: str) -> tuple[npt.NDArray[Any], bytes | None]:
    """Rows as an array in C order that goes on where the array of ``frame`` ends, and the frame of both.

    The frame is None for an array in Fortran order, in which rows do not lie one behind the other.

    Raises:
        ValueError: another dtype or shape; the message says which.
        UnsupportedValue: a table.
    """
    import numpy as np

    claim = parse_array(frame)
    if not claim.shape:
        raise ValueError(f"array {name!r} has no dimensions, so there is no axis 0 to append along")
    if hasattr(rows, "columns"):
        raise UnsupportedValue(f"block {name!r} is an array, to which no rows of a table can be added; put them apart")
    try:
        # Python numbers take the array's dtype, as in NumPy.
        is_array = hasattr(rows, "dtype") or hasattr(type(rows), "__dlpack__")
        array = _elements_like(frame, claim.dtype, rows) if is_array else np.asarray(rows, claim.dtype)
    except own(TypeError, ValueError) as error:
        raise ValueError(f"the rows are no array of dtype {claim.dtype}, as array {name!r} is: {error}") from error
    if array.dtype != claim.dtype:
        raise ValueError(f"the rows are of dtype {array.dtype} and array {name!r} of {claim.dtype}; use astype")
    if array.ndim != len(claim.shape) or array.shape[1:] != claim.shape[1:]:
        wanted = f"(n, {', '.join(map(str, claim.shape[1:]))})" if len(claim.shape) > 1 else "(n,)"
        raise ValueError(f"the rows are of shape {array.shape}; array {name!r} takes rows of shape {wanted}")
    shape = (claim.shape[0] + array.shape[0], *claim.shape[1:])
    in_order = claim.strides is None or len(claim.shape) == 1
    return np.ascontiguousarray(array), _frame(claim.dtype, shape, b"C") if in_order else None


def _elements_like(frame: bytes, dtype: np.dtype[Any], rows: Any) -> npt.NDArray[Any]:
    """Rows as an array; words of the type that ``frame`` has by name as elements of it."""
    encoded = encode_array_like(rows)
    are_words = encoded.array.dtype != dtype and parse_shape(encoded.frame)[1] == parse_shape(frame)[1]
    return encoded.array.view(dtype) if are_words else encoded.array


def present_array(root: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A new read-only view of ``root``, which it keeps alive. Cost: about 0.2 µs."""
    dtype = root.base.dtype  # type: ignore[union-attr]
    return root.view() if dtype is None else root.view(dtype)
