"""NumPy dtypes as bytes, through a whitelist.

Simple dtypes are their type string (``<f8``, ``<M8[ns]``, ``|S5``). Structured ones are JSON: fields with
offsets, titles and subarray shapes, and the item size, so that padding and alignment come back too.

Types that NumPy knows from ``ml_dtypes``, or that torch alone has, are their name (``bfloat16``); their elements are
plain words of that many bytes, so that tensors can be stored and read where the other library is not installed.

Rule 1. Only fixed-size built-in types and those that are named here: never objects, references, strings of variable
        width or other foreign types.
Rule 2. A text is matched against the whitelist before NumPy sees it, and what NumPy makes of it is checked
        again.
"""

from __future__ import annotations

import json
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import own
from .envelope import corrupt
from .libraries import with_cure

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FOREIGN_NBYTES", "foreign_name", "is_storable", "itemsize_of", "pack_dtype", "unpack_dtype", "words_dtype"]

MAX_DEPTH = 32  #: of structures within structures

#: types of ``ml_dtypes``: bytes of an element
_ML_NBYTES = {"bcomplex32": 4, "bfloat16": 2, "complex32": 4} | dict.fromkeys(
    [
        "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz",
        "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
        "int1", "int2", "int4", "uint1", "uint2", "uint4",
    ],
    1,
)  # fmt: skip
#: types that torch alone has
_TORCH_NBYTES = {"bits16": 2} | dict.fromkeys(
    [
        "bits1x8", "bits2x4", "bits4x2", "bits8", "float4_e2m1fn_x2",
        "int3", "int5", "int6", "int7", "uint3", "uint5", "uint6", "uint7",
    ],
    1,
)  # fmt: skip
#: all types that are stored by their name: bytes of an element
FOREIGN_NBYTES = _ML_NBYTES | _TORCH_NBYTES

_SIMPLE = re.compile(
    r"[<>|](?:[?bBiufcSUV]\d{1,10}|[mM]8(?:\[(?:[1-9]\d{0,8})?(?:Y|M|W|D|h|m|s|ms|us|μs|ns|ps|fs|as)\])?)"
)


def is_storable(dtype: np.dtype[Any]) -> bool:
    """Whether values of ``dtype`` are their own bytes: fixed size, no references, NumPy's own types or named ones."""
    if dtype.isbuiltin == 2:
        return foreign_name(dtype) is not None
    if dtype.hasobject or dtype.char not in "?bBhHiIlLqQefdgFDGSUVmM":
        return False
    if dtype.subdtype is not None:
        return is_storable(dtype.subdtype[0])
    return all(is_storable(field[0]) for field in (dtype.fields or {}).values())


def foreign_name(dtype: np.dtype[Any]) -> str | None:
    """The name of a type that ``ml_dtypes`` gave NumPy, in this machine's byte order; None for all others."""
    if dtype.isbuiltin != 2 or not dtype.isnative:
        return None
    name = dtype.name
    given = getattr(sys.modules.get("ml_dtypes"), name, None) if name in _ML_NBYTES else None
    return name if given is dtype.type else None


def words_dtype(name: str) -> np.dtype[Any]:
    """Integers as wide as the elements of a type that is stored by its name."""
    import numpy as np

    return np.dtype(f"i{FOREIGN_NBYTES[name]}" if FOREIGN_NBYTES[name] > 1 else "u1")


def pack_dtype(dtype: np.dtype[Any]) -> bytes:
    """The bytes that ``unpack_dtype`` turns into an equal dtype."""
    described = _describe(dtype)
    return (described if isinstance(described, str) else json.dumps(described, separators=(",", ":"))).encode()


def _describe(dtype: np.dtype[Any]) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"of": _describe(base), "shape": list(shape)}
    if dtype.names is None:
        return foreign_name(dtype) or dtype.str
    fields = [_describe_field(name, dtype) for name in dtype.names]
    return {"fields": fields, "nbytes": dtype.itemsize, "aligned": dtype.isalignedstruct}


def _describe_field(name: str, dtype: np.dtype[Any]) -> list[Any]:
    kind, offset, *title = dtype.fields[name]  # type: ignore[index]
    # NumPy gives every structure's titles as objects; only text can be kept.
    return [name, _describe(kind), offset, *(str(text) for text in title)]


def itemsize_of(packed: bytes) -> int:
    """Bytes of an element, which for a type that is stored by its name take no library; or ``PlaneCorrupt``."""
    nbytes = FOREIGN_NBYTES.get(packed.decode("ascii", "replace"))
    return unpack_dtype(packed).itemsize if nbytes is None else nbytes


@lru_cache(maxsize=1024)
def unpack_dtype(packed: bytes) -> np.dtype[Any]:
    """The dtype that was packed, or ``PlaneCorrupt``.

    Raises:
        ModuleNotFoundError: it takes a library that is not installed; the message says which.
        UnsupportedValue: torch alone has this type.
    """
    try:
        text = packed.decode()
        dtype = _build(json.loads(text) if text.startswith("{") else text, MAX_DEPTH)
    except own(UnsupportedValue):
        raise
    except own(ModuleNotFoundError) as error:
        raise with_cure(error) from None
    except own(Exception) as error:  # whatever a hostile text makes NumPy raise
        corrupt("its frame names no dtype", error)
    if not is_storable(dtype):
        corrupt(f"its frame names dtype {dtype}, which is not stored as bytes")
    return dtype


def _build(described: Any, depth: int) -> np.dtype[Any]:
    import numpy as np

    if isinstance(described, str):
        if described in FOREIGN_NBYTES:
            return _foreign(described)
        if not _SIMPLE.fullmatch(described):
            raise ValueError(described)
        return np.dtype(described)
    if depth == 0:
        raise ValueError("too deep")
    if "of" in described:
        return np.dtype((_build(described["of"], depth - 1), tuple(described["shape"])))
    return np.dtype(_build_structure(described, depth))  # type: ignore[call-overload, no-any-return]


def _foreign(name: str) -> np.dtype[Any]:
    if name in _TORCH_NBYTES:
        raise UnsupportedValue(f'NumPy has no dtype for torch.{name}; get it with as_="torch"', dtype=name)
    import ml_dtypes
    import numpy as np

    kind = getattr(ml_dtypes, name, None)
    if kind is None:
        raise ModuleNotFoundError(f"this ml_dtypes has no {name}: pip install -U ml_dtypes", name="ml_dtypes." + name)
    dtype: np.dtype[Any] = np.dtype(kind)
    return dtype


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
