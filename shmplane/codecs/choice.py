"""Which codec stores a value: one ordered table, the order of the public contract.

Rule 1. Nothing is imported to ask: a value of a library's type cannot exist before the library is loaded.
Rule 2. The fast paths (``ndarray``, ``bytes``) are exact types that no earlier row could claim.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from shmplane.codecs import array, document, frames, pickled, raw
from shmplane.codecs.array import parse_shape
from shmplane.codecs.base import CAN_STORE
from shmplane.codecs.rows import rows_from
from shmplane.errors import UnsupportedValue

from ..system import own

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmplane.codecs.base import Encoded

__all__ = ["KINDS", "encode", "encode_rows"]

KINDS = ("array", "table", "bytes", "json", "pickle")


def encode(value: Any, codec: str | None = None) -> Encoded:
    """Describe ``value`` for storing, by the first codec that takes it, or by the one named.

    Args:
        value: any of the kinds in the public contract.
        codec: ``"array"``, ``"table"``, ``"bytes"``, ``"json"`` or ``"pickle"``; None chooses any but pickle.

    Raises:
        UnsupportedValue: no codec takes it, or not the one named; the message says which kinds there are.
        ValueError: there is no codec of that name.
    """
    if codec is not None:
        return _encode_as(value, codec)
    kind = type(value)
    # A module that another thread is just importing has no classes yet.
    if kind is getattr(sys.modules.get("numpy"), "ndarray", None):
        return array.encode_array(value)
    if kind is bytes:
        return raw.encode_bytes(value)
    return _encode_by_rank(value)


def encode_rows(rows: Any) -> Encoded:
    """Describe rows that begin an array, when they are one by the order of the contract, or else a table."""
    if not isinstance(rows, (dict, list, tuple, str, bytes)):
        encoded = encode(rows)
        if encoded.kind == "table" or (encoded.kind == "array" and parse_shape(encoded.frame)[0]):
            return encoded
    return encode(rows_from(rows), "table")


def _encode_by_rank(value: Any) -> Encoded:
    encoded = _encode_table(value)
    if encoded is not None:
        return encoded
    if _is_of(value, "numpy", "ndarray", "generic"):
        return array.encode_array_like(value)
    if value is None or isinstance(value, (dict, list, tuple, str, int, float)):
        return document.encode_document(value)
    if _exports_arrow(value):
        return frames.encode_arrow_like(value)
    if _exports_array(value):
        return array.encode_array_like(value)
    if _exports_buffer(value):
        return raw.encode_buffer(value)
    raise UnsupportedValue(f"{type(value).__name__} cannot be stored. {CAN_STORE}", type=type(value).__name__)


def _encode_as(value: Any, codec: str) -> Encoded:
    encoder = _BY_NAME.get(codec)
    if encoder is None:
        raise ValueError(f"there is no codec {codec!r}; there are {', '.join(KINDS)}")
    encoded = encoder(value)
    if encoded is None:
        raise UnsupportedValue(
            f"{type(value).__name__} cannot be stored as {codec}. {CAN_STORE}", type=type(value).__name__
        )
    return encoded


def _encode_table(value: Any) -> Encoded | None:
    """The first rows of the contract: what is a table or column by its type."""
    if _is_of(value, "pandas", "DataFrame", "Series"):
        return frames.encode_pandas(value)
    if _is_pandas_array(value):
        return frames.encode_pandas_array(value)
    if _is_of(value, "polars", "DataFrame", "Series"):
        return frames.encode_polars(value)
    return frames.encode_arrow(value) if "pyarrow" in sys.modules else None


def _as_table(value: Any) -> Encoded | None:
    encoded = _encode_table(value)
    if encoded is None and _exports_arrow(value):
        return frames.encode_arrow_like(value)
    return encoded


def _as_array(value: Any) -> Encoded | None:
    if _exports_array(value) or isinstance(value, (list, tuple, int, float, complex)) or _exports_buffer(value):
        return array.encode_array_like(value)
    return None


def _as_bytes(value: Any) -> Encoded | None:
    if _is_of(value, "numpy", "ndarray") or _exports_buffer(value):
        return raw.encode_buffer(value)
    return None


_BY_NAME: dict[str, Callable[[Any], Encoded | None]] = {
    "array": _as_array,
    "table": _as_table,
    "bytes": _as_bytes,
    "json": document.encode_document,
    "pickle": pickled.encode_pickle,
}


def _is_of(value: Any, module: str, *names: str) -> bool:
    loaded = sys.modules.get(module)
    # A module that another thread is just importing has no classes yet, and so no values.
    return loaded is not None and any(isinstance(value, getattr(loaded, name, ())) for name in names)


def _is_pandas_array(value: Any) -> bool:
    """An array or index of pandas with a dtype of its own, in whose place NumPy would see other values."""
    pandas = sys.modules.get("pandas")
    extensions = getattr(getattr(pandas, "api", None), "extensions", None)
    kinds: Any = (getattr(extensions, "ExtensionArray", ()), getattr(pandas, "Index", ()))
    if not isinstance(value, kinds):
        return False
    return not _is_of(value.dtype, "numpy", "dtype") and type(value).__name__ != "NumpyExtensionArray"


def _exports_arrow(value: Any) -> bool:
    kind = type(value)
    return hasattr(kind, "__arrow_c_stream__") or hasattr(kind, "__arrow_c_array__")


def _exports_array(value: Any) -> bool:
    kind = type(value)
    return any(hasattr(kind, name) for name in ("__dlpack__", "__array__", "__array_interface__"))


def _exports_buffer(value: Any) -> bool:
    try:
        memoryview(value).release()
    except own(TypeError, ValueError, BufferError):
        return False
    return True
