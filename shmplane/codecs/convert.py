"""The value of a block as another kind: ``get(as_=...)``.

Rule 1. What can share the block's memory does: an array as a pandas or Polars column, a column as an array.
        What cannot (``python``, row-wise views of columns) is a private copy.
Rule 2. What has no natural counterpart is refused, saying what is possible; nothing is guessed.

``numpy`` is another name for ``array``.

``torch`` of arrays, bytes and trees is made of a private copy of the body, by pages that the kernel copies when they are
written (``as_tensors`` of ``kinds``); of a table of one column it is a copy.

* array: ``array`` itself; ``arrow`` an Array (1-d) or Table (records); ``pandas``, ``polars`` a Series (1-d) or
  DataFrame (2-d, records); ``bytes`` as they lie in memory; ``python`` nested lists.
* table: ``array`` and ``torch`` of a single column; ``arrow`` a Table or ChunkedArray; ``pandas``, ``polars`` a DataFrame or
  Series; ``python`` a list of rows as dicts, or of values.
* bytes: ``array`` of ``uint8``; ``arrow`` a Buffer; ``bytes`` itself; ``python`` private ``bytes``.
* json: ``bytes`` of the text; ``python`` a value of one's own, which can be changed.
* tree: ``python`` plain containers, with each leaf as ``python``; ``torch`` plain containers of tensors.
* pickle: ``python`` the object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..system import own
from .array import present_array
from .codec import NoForm
from .document import decode_document
from .origin import TableRoot, present_table
from .raw import present_bytes
from .table import SERIES

__all__ = ["ARRAY_FORMS", "BYTES_FORMS", "JSON_FORMS", "TABLE_FORMS", "NoForm", "table_of"]


def _array_as_arrow(root: Any) -> Any:
    import pyarrow as pa

    array = present_array(root)
    try:
        if array.ndim == 1 and array.dtype.names is not None:
            return pa.table({name: array[name] for name in array.dtype.names})
        if array.ndim == 1:
            return pa.array(array, from_pandas=False)
    except own(pa.ArrowException, TypeError, ValueError) as error:
        raise NoForm(f"Arrow has no column for dtype {array.dtype} ({error})") from error
    raise NoForm(f"it has {array.ndim} dimensions, an Arrow column one")


def _array_as_pandas(root: Any) -> Any:
    import pandas as pd

    from .pandas_ import changeable

    array = present_array(root)
    try:
        if array.ndim == 2 or (array.ndim == 1 and array.dtype.names is not None):
            return changeable(pd.DataFrame(array, copy=False))
        if array.ndim == 1:
            return changeable(pd.Series(array, copy=False))
    except own(TypeError, ValueError) as error:
        raise NoForm(f"pandas has no column for dtype {array.dtype} ({error})") from error
    raise NoForm(f"it has {array.ndim} dimensions, a frame one or two")


def _array_as_polars(root: Any) -> Any:
    import polars as pl

    array = present_array(root)
    try:
        if array.ndim == 1 and array.dtype.names is not None:
            return pl.DataFrame({name: array[name] for name in array.dtype.names})
        if array.ndim == 2:
            return pl.from_numpy(array, orient="row")
        # Polars takes little-endian arrays alone, and others only when they look like objects.
        if array.ndim == 1 and array.dtype.isnative and array.dtype.kind in "?biufmMSU":
            return pl.from_arrow(_array_as_arrow(root)) if array.dtype.kind in "iufmM" else pl.Series(array)
    except own(pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise NoForm(f"Polars has no column for dtype {array.dtype} ({error})") from error
    raise NoForm(f"it has {array.ndim} dimensions and dtype {array.dtype}")


def _array_as_bytes(root: Any) -> memoryview:
    array = present_array(root)
    # In the order of the memory, which for Fortran order is that of the transpose.
    flat = (array if array.flags.c_contiguous else array.T).reshape(-1)
    return flat.view("u1").data if array.nbytes else memoryview(b"")


def _table_as_array(root: Any) -> Any:
    import pyarrow as pa

    table = table_of(root)
    columns = table.columns[:1] if _is_series(root) else table.columns
    if len(columns) != 1:
        raise NoForm(f"it has {len(columns)} columns, an array one; read it as_='arrow' and take a column")
    try:
        array = columns[0].to_numpy()
    except own(pa.ArrowException, TypeError, ValueError) as error:
        raise NoForm(f"NumPy has no dtype for {columns[0].type} ({error})") from error
    if array.dtype == object:
        raise NoForm(f"a column of type {columns[0].type} would be an array of Python objects")
    array.flags.writeable = False
    return array


def _is_series(root: Any) -> bool:
    return isinstance(root, TableRoot) and root.origin in SERIES


def _table_as_arrow(root: Any) -> Any:
    if not isinstance(root, TableRoot):
        return root
    return root.table.column(0) if _is_series(root) else root.table


def _table_as_pandas(root: Any) -> Any:
    import pandas as pd

    if isinstance(root, TableRoot) and root.origin.startswith("pandas"):
        return pd.Series(present_table(root), copy=True) if root.origin == "pandas-array" else present_table(root)
    from .pandas_ import changeable

    # Columns apart, since pandas would copy them to put them together.
    frame = changeable(table_of(root).to_pandas(split_blocks=True, self_destruct=False))
    return frame.iloc[:, 0] if _is_series(root) else frame


def _table_as_polars(root: Any) -> Any:
    if isinstance(root, TableRoot) and root.origin.startswith("polars"):
        return present_table(root)
    from .polars_ import polars_from_table

    try:
        frame = polars_from_table(table_of(root))
    except ImportError:
        raise
    except own(Exception) as error:
        raise NoForm(f"Polars does not take one of its columns ({error})") from error
    return frame.to_series(0) if _is_series(root) else frame


def table_of(root: Any) -> Any:
    """The Arrow table of a table's root."""
    return root.table if isinstance(root, TableRoot) else root


def _table_as_torch(root: Any) -> Any:
    from .torch_ import tensor_of

    return tensor_of(_table_as_array(root).copy())


def _bytes_as_array(root: Any) -> Any:
    import numpy as np

    return np.asarray(present_bytes(root))


def _bytes_as_arrow(root: Any) -> Any:
    import pyarrow as pa

    return pa.py_buffer(present_bytes(root))


ARRAY_FORMS: dict[str, Callable[[Any], Any]] = {
    "array": present_array,
    "arrow": _array_as_arrow,
    "pandas": _array_as_pandas,
    "polars": _array_as_polars,
    "bytes": _array_as_bytes,
    "python": lambda root: present_array(root).tolist(),
}
TABLE_FORMS: dict[str, Callable[[Any], Any]] = {
    "array": _table_as_array,
    "arrow": _table_as_arrow,
    "pandas": _table_as_pandas,
    "polars": _table_as_polars,
    "python": lambda root: _table_as_arrow(root).to_pylist(),
    "torch": _table_as_torch,
}
BYTES_FORMS: dict[str, Callable[[Any], Any]] = {
    "array": _bytes_as_array,
    "arrow": _bytes_as_arrow,
    "bytes": present_bytes,
    "python": lambda root: present_bytes(root).tobytes(),
}
JSON_FORMS: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda root: memoryview(root.text),
    "python": decode_document,
}
