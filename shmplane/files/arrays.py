"""Arrays over bytes of a file: dtype, shape and offset checked before NumPy sees an address.

Rule 1. Only dtypes whose values are their own bytes: a reference read from a file would be an address to jump to.
Rule 2. Shape and item size are multiplied as Python ints.
"""

from __future__ import annotations

import ast
import math
from operator import index
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import FileTruncated, UnsupportedValue
from ..names import check_count
from ..system import own

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Layout", "array_over", "layout_of", "layout_of_npy"]

_NPY = b"\x93NUMPY"
_MOST_DIMENSIONS = 64  #: of NumPy 2; NumPy 1 has 32
#: what NumPy itself parses of a file that nobody vouches for
_MOST_HEADER_NBYTES = 10_000
_PLAIN = "?bBhHiIlLqQefdgFDGSUVmM"


class Layout(NamedTuple):
    """An array within a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int  #: of its first byte
    nbytes: int
    order: Literal["C", "F"] = "C"


def layout_of(file_nbytes: int, dtype: Any, shape: Any, offset: object) -> Layout:
    """The array that was asked for; without a shape, of one dimension up to the end of the file.

    Raises:
        ValueError: it does not lie within the file; UnsupportedValue: values of the dtype are not plain bytes.
    """
    wanted = _check_dtype(dtype)
    start = check_count(offset, "offset is an int of bytes")
    if not 0 <= start <= file_nbytes:
        raise ValueError(f"offset {start:,} lies outside of the file, which has {file_nbytes:,} B")
    room = file_nbytes - start
    if shape is None:
        if not wanted.itemsize or room % wanted.itemsize:
            raise ValueError(f"{room:,} B from offset {start:,} are no whole number of {wanted} elements; give a shape")
        lengths: tuple[int, ...] = (room // wanted.itemsize,)
    else:
        lengths = _check_shape(shape)
    nbytes = math.prod(lengths) * wanted.itemsize
    if nbytes > room:
        raise ValueError(
            f"{wanted} of shape {lengths} needs {nbytes:,} B; the file has {room:,} from offset {start:,}. "
            f"Give a smaller shape, or resize() the file."
        )
    return Layout(wanted, lengths, start, nbytes)


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    import numpy as np

    wanted: np.dtype[Any] = np.dtype(dtype)
    if not _is_plain(wanted):
        raise UnsupportedValue(
            f"an array of dtype {wanted} cannot lie in a file: its elements are not plain bytes of a fixed size",
            dtype=str(wanted),
        )
    return wanted


def _is_plain(dtype: np.dtype[Any]) -> bool:
    if dtype.hasobject:
        return False
    if dtype.subdtype is not None:
        return _is_plain(dtype.subdtype[0])
    if dtype.fields:
        return all(_is_plain(field[0]) for field in dtype.fields.values())
    return (dtype.isbuiltin != 2 and dtype.char in _PLAIN) or dtype.type.__module__.split(".")[0] == "ml_dtypes"


def _check_shape(shape: Any) -> tuple[int, ...]:
    try:
        lengths = tuple(index(length) for length in shape) if hasattr(shape, "__iter__") else (index(shape),)
    except own(TypeError):
        raise TypeError(f"shape is an int or a tuple of ints, not {shape!r}") from None
    if any(length < 0 for length in lengths):
        raise ValueError(f"shape {lengths}: no length is negative")
    if len(lengths) > _MOST_DIMENSIONS:
        raise ValueError(f"a shape of {len(lengths)} dimensions; at most {_MOST_DIMENSIONS}")
    return lengths


def layout_of_npy(data: memoryview, path: str, *, file_nbytes: int | None = None) -> Layout:
    """The array of a ``.npy`` file.

    Args:
        data: the whole file; or so much of it that its header is there, when ``file_nbytes`` says how much there is.

    Raises:
        ValueError: it is no such file; FileTruncated: it ends before its array does; UnsupportedValue: of objects.
    """
    if data[: len(_NPY)] != _NPY:
        raise ValueError(f"{path} is no .npy file; say which dtype its bytes have: array('f8')")
    described, start = _read_header(data, path)
    layout = _described(described, start, path)
    found = len(data) if file_nbytes is None else file_nbytes
    if layout.nbytes > found - start:
        raise FileTruncated(
            f"{path} ends too early: its header tells of {layout.dtype} of shape {layout.shape}, {layout.nbytes:,} B, and "
            f"{found - start:,} follow. It was cut short, or is still being written.",
            path=path,
            needed=start + layout.nbytes,
            found=found,
        )
    return layout


def _read_header(data: memoryview, path: str) -> tuple[Any, int]:
    """What the header says, and where the elements start."""
    version = data[6] if len(data) > 6 else 0
    width = 2 if version == 1 else 4
    start = 8 + width
    length = int.from_bytes(data[8:start], "little")
    if len(data) < start + length:
        raise FileTruncated(f"{path} ends within the header of a .npy file", path=path, found=len(data))
    if version not in (1, 2, 3) or length > _MOST_HEADER_NBYTES:
        raise ValueError(f"{path}: version {version} of .npy with a header of {length:,} B is not read here")
    text = bytes(data[start : start + length])
    try:
        return ast.literal_eval(text.decode("utf-8" if version == 3 else "latin-1").strip()), start + length
    except own(Exception) as error:  # whatever a hostile text makes the parser raise
        raise ValueError(f"{path}: the header of this .npy file is no description of an array") from error


def _described(described: Any, start: int, path: str) -> Layout:
    import numpy as np

    try:
        # Whatever is said besides is another format.
        if set(described) != {"descr", "fortran_order", "shape"} or not isinstance(described["fortran_order"], bool):
            raise ValueError(f"it tells of {sorted(described)}")
        dtype = _check_dtype(np.lib.format.descr_to_dtype(described["descr"]))
        shape = _check_shape(described["shape"])
    except UnsupportedValue:
        raise
    except own(Exception) as error:  # whatever a hostile description makes NumPy raise
        raise ValueError(f"{path}: the header of this .npy file describes no array: {error}") from error
    order: Literal["C", "F"] = "F" if described["fortran_order"] else "C"
    return Layout(dtype, shape, start, math.prod(shape) * dtype.itemsize, order)


def array_over(view: memoryview, layout: Layout) -> npt.NDArray[Any]:
    """The array over its bytes; writable when they are. The array keeps the memory."""
    import numpy as np

    try:
        return np.ndarray(layout.shape, layout.dtype, buffer=view, order=layout.order)
    except own(ValueError) as error:
        raise ValueError(f"NumPy makes no array of shape {layout.shape}: {error}") from error
