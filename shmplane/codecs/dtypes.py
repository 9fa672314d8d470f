"""NumPy dtypes as bytes, through a whitelist.

Simple dtypes are their type string (``<f8``, ``<M8[ns]``, ``|S5``). Structured ones are JSON: fields with
offsets, titles and subarray shapes, and the item size, so that padding and alignment come back too.

Rule 1. Only fixed-size built-in types: never objects, references, strings of variable width or foreign types.
Rule 2. A text is matched against the whitelist before NumPy sees it, and what NumPy makes of it is checked
        again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ..system import own
from .envelope import corrupt

if TYPE_CHECKING:
    import numpy as np

__all__ = ["is_storable", "pack_dtype", "unpack_dtype"]

MAX_DEPTH = 32  #: of structures within structures

_SIMPLE = re.compile(
    r"[<>|](?:[?bBiufcSUV]\d{1,10}|[mM]8(?:\[(?:[1-9]\d{0,8})?(?:Y|M|W|D|h|m|s|ms|us|μs|ns|ps|fs|as)\])?)"
)


def is_storable(dtype: np.dtype[Any]) -> bool:
    """Whether values of ``dtype`` are their own bytes: fixed size, no references, NumPy's own types."""
    if dtype.hasobject or dtype.isbuiltin == 2 or dtype.char not in "?bBhHiIlLqQefdgFDGSUVmM":
        return False
    if dtype.subdtype is not None:
        return is_storable(dtype.subdtype[0])
    return all(is_storable(field[0]) for field in (dtype.fields or {}).values())


def pack_dtype(dtype: np.dtype[Any]) -> bytes:
    """The bytes that ``unpack_dtype`` turns into an equal dtype."""
    described = _describe(dtype)
    return (described if isinstance(described, str) else json.dumps(described, separators=(",", ":"))).encode()


def _describe(dtype: np.dtype[Any]) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"of": _describe(base), "shape": list(shape)}
    if dtype.names is None:
        return dtype.str
    fields = [_describe_field(name, dtype) for name in dtype.names]
    return {"fields": fields, "nbytes": dtype.itemsize, "aligned": dtype.isalignedstruct}


def _describe_field(name: str, dtype: np.dtype[Any]) -> list[Any]:
    kind, offset, *title = dtype.fields[name]  # type: ignore[index]
    # NumPy gives every structure's titles as objects; only text can be kept.
    return [name, _describe(kind), offset, *(str(text) for text in title)]


def unpack_dtype(packed: bytes) -> np.dtype[Any]:
    """The dtype that was packed, or ``PlaneCorrupt``."""
    try:
        text = packed.decode()
        dtype = _build(json.loads(text) if text.startswith("{") else text, MAX_DEPTH)
    except own(Exception) as error:  # whatever a hostile text makes NumPy raise
        corrupt("its frame names no dtype", error)
    if not is_storable(dtype):
        corrupt(f"its frame names dtype {dtype}, which is not stored as bytes")
    return dtype


def _build(described: Any, depth: int) -> np.dtype[Any]:
    import numpy as np

    if isinstance(described, str):
        if not _SIMPLE.fullmatch(described):
            raise ValueError(described)
        return np.dtype(described)
    if depth == 0:
        raise ValueError("too deep")
    if "of" in described:
        return np.dtype((_build(described["of"], depth - 1), tuple(described["shape"])))
    return np.dtype(_build_structure(described, depth))  # type: ignore[call-overload, no-any-return]


def _build_structure(described: Any, depth: int) -> dict[str, Any]:
    fields = described["fields"]
    structure = {
        "names": [field[0] for field in fields],
        "formats": [_build(field[1], depth - 1) for field in fields],
        "offsets": [field[2] for field in fields],
        "itemsize": described["nbytes"],
        "aligned": described["aligned"] is True,
    }
    if any(len(field) > 3 for field in fields):
        structure["titles"] = [field[3] if len(field) > 3 else None for field in fields]
    return structure
