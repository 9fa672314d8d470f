"""Which codec stores a value: one ordered table, the order of the public contract.

Rule 1. Nothing is imported to ask: a value of a library's type cannot exist before the library is loaded.
Rule 2. The fast paths (``ndarray``, ``bytes``, what JSON is made of) are exact types that no earlier row could claim.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import late, own
from . import array, batches, document, origin, raw
from .base import CAN_STORE

if TYPE_CHECKING:
    from . import tree
    from .base import Encoded
else:
    tree = late("shmplane.codecs.tree")

__all__ = [
    "encode_by_rank",
    "encode_named_array",
    "encode_named_bytes",
    "encode_named_table",
    "encode_named_tree",
    "gather_rows",
]


_OF_JSON = frozenset((dict, list, tuple, str, int, float, bool, type(None)))


def encode_by_rank(value: Any) -> Encoded:
    """Describe ``value`` by the first codec that takes it."""
    kind = type(value)
    # A module that another thread is just importing has no classes yet.
    if kind is getattr(sys.modules.get("numpy"), "ndarray", None):
        return array.encode_array(value)
    if kind is bytes:
        return raw.encode_bytes(value)
    return _encode_json_or_tree(value) if kind in _OF_JSON else _encode_by_rank(value)


def _encode_by_rank(value: Any) -> Encoded:
    encoded = _encode_table(value) or _encode_itself(value)
    if encoded is not None:
        return encoded
    if _is_of(value, "numpy", "ndarray", "generic"):
        return array.encode_array_like(value)
    if isinstance(value, (dict, list, tuple)) or document.is_text_or_number(value):
        return _encode_json_or_tree(value)
    if _exports_arrow(value):
        return origin.encode_arrow_like(value)
    if _exports_array(value):
        return array.encode_array_like(value)
    if _exports_buffer(value):
        return raw.encode_buffer(value)
    raise UnsupportedValue(f"{type(value).__name__} cannot be stored. {CAN_STORE}", type=type(value).__name__)


def _encode_itself(value: Any) -> Encoded | None:
    """What knows how it is stored, such as ``Records``."""
    describe = getattr(type(value), "__shmplane_encode__", None)
    return None if describe is None else describe(value)


def _encode_json_or_tree(value: Any) -> Encoded:
    """JSON where nothing else is in it; else a tree, whose refusals say where something is."""
    if document.is_document(value, document.is_leaf):
        return document.encode_checked(value)
    return tree.encode_tree(value, encode_by_rank)


def encode_named_tree(value: Any) -> Encoded | None:
    """Describe containers, also when JSON would do; None for anything else."""
    return tree.encode_tree(value, encode_by_rank) if isinstance(value, (dict, list, tuple)) else None


def _encode_table(value: Any) -> Encoded | None:
    """The first rows of the contract: what is a table or column by its type."""
    if _is_of(value, "pandas", "DataFrame", "Series"):
        return origin.encode_pandas(value)
    if _is_of(value, "pandas", "MultiIndex"):
        raise UnsupportedValue(
            "a MultiIndex without a frame cannot be stored; put index.to_frame(index=False), or a frame that has it",
            type="MultiIndex",
        )
    if _is_pandas_array(value):
        return origin.encode_pandas_array(value)
    if _is_of(value, "polars", "DataFrame", "Series"):
        return origin.encode_polars(value)
    return origin.encode_arrow(value) if "pyarrow" in sys.modules else None


def gather_rows(rows: Any) -> Any:
    """Rows that could be read only once, as a table; any others as they are."""
    known = [("pandas", "DataFrame", "Series"), ("polars", "DataFrame", "Series"), ("pyarrow", "Table", "ChunkedArray")]
    if not hasattr(type(rows), "__arrow_c_stream__") or any(_is_of(rows, *names) for names in known):
        return rows
    stream = batches.stream_of(rows)
    return rows if stream is None else stream.table()


def encode_named_table(value: Any) -> Encoded | None:
    """Describe what can be a table; None for anything else."""
    encoded = _encode_table(value)
    if encoded is None and _exports_arrow(value):
        return origin.encode_arrow_like(value)
    return encoded


def encode_named_array(value: Any) -> Encoded | None:
    """Describe what can be an array; None for anything else."""
    if _exports_array(value) or isinstance(value, (list, tuple, int, float, complex)) or _exports_buffer(value):
        return array.encode_array_like(value)
    return None


def encode_named_bytes(value: Any) -> Encoded | None:
    """Describe what can be bytes; None for anything else."""
    if _is_of(value, "numpy", "ndarray") or _exports_buffer(value):
        return raw.encode_buffer(value)
    return None


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
