"""``.safetensors``: eight bytes of length, that much JSON, and the tensors' bytes one behind the other.

Rule 1. Whatever the header claims is compared with the file before anything is made of it: each tensor's bytes are what its
        dtype and shape need, and together they are all there is, without gaps and overlaps.
Rule 2. What stands under ``__metadata__`` is about the file and no tensor; it is left out.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ...errors import FileTruncated, UnsupportedValue
from ...system import own
from .npy import write_in_c_order
from .source import Pieces, Source

if TYPE_CHECKING:
    import numpy.typing as npt

    from ...system import ReplacingFile

__all__ = ["read_safetensors", "write_safetensors"]

#: names of NumPy's dtypes, or of types that NumPy does not have, by those of the format
_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
_NBYTES = {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
#: of a hundred thousand tensors; whoever needs more has something else in mind
_MOST_HEADER_NBYTES = 32 << 20
_MOST_DIMENSIONS = 64
_METADATA = "__metadata__"


def read_safetensors(source: Source) -> dict[str, Pieces]:
    """The tensors by name, in the order in which they lie."""
    length = int.from_bytes(source.head(8), "little")
    if source.nbytes < 8 or length > source.nbytes - 8:
        if source.head(1, 8) not in {b"{", b""}:
            raise ValueError(f"{source.path} is no .safetensors file: no JSON follows its first 8 bytes")
        raise FileTruncated(
            f"{source.path} ends within the header of a .safetensors file of {length:,} B: it was cut short",
            path=source.path,
            needed=8 + length,
            found=source.nbytes,
        )
    if length > _MOST_HEADER_NBYTES:
        raise ValueError(
            f"{source.path}: a .safetensors header of {length:,} B is not read; at most {_MOST_HEADER_NBYTES:,} B are"
        )
    described = _parse(source.head(length, 8), source.path)
    described.pop(_METADATA, None)
    spans = sorted(
        (_span(source.path, name, said) for name, said in described.items()), key=lambda span: (span[1], span[2])
    )
    return _lay_out(source, spans, 8 + length)


def _parse(text: bytes, path: str) -> dict[str, Any]:
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except own(ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header of this .safetensors file is no JSON object: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the header of this .safetensors file is no JSON object")  # noqa: TRY004 - of a file
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


_Span = tuple[str, int, int, str, tuple[int, ...]]


def _span(path: str, name: str, said: Any) -> _Span:
    """A tensor's name, begin, end, dtype and shape, which agree with each other."""
    try:
        dtype, shape, (begin, end) = said["dtype"], said["shape"], said["data_offsets"]
        if set(said) != {"dtype", "shape", "data_offsets"} or not (isinstance(shape, list) and isinstance(dtype, str)):
            raise TypeError
        if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end)):
            raise TypeError
    except own(TypeError, KeyError, ValueError):
        raise ValueError(f"{path}: what is said of tensor {name!r} is no dtype, shape and data_offsets") from None
    if dtype not in _DTYPES:
        raise UnsupportedValue(
            f"{path}: tensor {name!r} is of type {dtype!r}, which is not known here", dtype=str(dtype)
        )
    nbytes = math.prod(shape) * _itemsize(dtype)
    if end - begin != nbytes or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(
            f"{path}: tensor {name!r} of type {dtype} and shape {shape[:8]} has {nbytes:,} B, and its offsets {begin:,} to "
            f"{end:,} say something else"
        )
    return name, begin, end, dtype, tuple(shape)


def _itemsize(dtype: str) -> int:
    return _NBYTES[dtype] if dtype in _NBYTES else int(_DTYPES[dtype][2:])


def _lay_out(source: Source, spans: list[_Span], start: int) -> dict[str, Pieces]:
    found, expected = {}, 0
    for name, begin, end, dtype, shape in spans:
        if begin != expected:
            raise ValueError(
                f"{source.path}: tensor {name!r} begins at {begin:,}, where the one before it ends at {expected:,}: there "
                f"is a gap, or they overlap"
            )
        expected = end
        found[name] = Pieces(end - begin, source.part(start + begin), _DTYPES[dtype], shape)
    if start + expected > source.nbytes:
        raise FileTruncated(
            f"{source.path} ends before its tensors do: it was cut short",
            path=source.path,
            needed=start + expected,
            found=source.nbytes,
        )
    if start + expected < source.nbytes:
        raise ValueError(f"{source.path} has {source.nbytes - start - expected:,} B behind its last tensor")
    return found


def write_safetensors(out: ReplacingFile, arrays: dict[str, npt.NDArray[Any]]) -> None:
    described: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        end += array.nbytes
        described[name] = {
            "dtype": _name_of(name, array),
            "shape": list(array.shape),
            "data_offsets": [end - array.nbytes, end],
        }
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        write_in_c_order(out, array)


def _name_of(name: str, array: npt.NDArray[Any]) -> str:
    if name == _METADATA:
        raise UnsupportedValue(f"no array of a .safetensors file is called {_METADATA!r}; give it another name")
    found = _NAMES.get(array.dtype.name) or _NAMES.get(array.dtype.str)
    if found is None:
        raise UnsupportedValue(
            f"array {name!r} is of dtype {array.dtype}, which a .safetensors file cannot have; convert it, or save a .npz",
            dtype=str(array.dtype),
        )
    return found
