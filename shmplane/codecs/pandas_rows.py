"""pandas rows that go on where a table from pandas ends: the same labels, dtypes and kind of index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shmplane.codecs.pandas_ import frame_from_table, series_from_table, table_from_frame
from shmplane.codecs.table import SERIES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["lowered_rows"]


def lowered_rows(rows: Any, origin: str, recipe: bytes, sample: pa.Table) -> pa.Table:
    """The Arrow table of rows, with the columns of the table that ``sample`` has none of.

    Raises:
        ValueError: a label, dtype or the index differs; the message names it.
    """
    import pandas as pd

    if origin in SERIES:
        base = series_from_table(sample, recipe).to_frame("value")
        frame = rows.to_frame("value") if isinstance(rows, pd.Series) else rows
    else:
        base = frame_from_table(sample, recipe)
        frame = rows.to_frame() if isinstance(rows, pd.Series) else rows
    frame = _with_labels(frame, base)
    index = _index_like(frame.index, base.index, recipe)
    found = zip(range(frame.shape[1]), base.dtypes, base.columns, strict=True)
    columns = {at: _like(frame.iloc[:, at], dtype, label).set_axis(index) for at, dtype, label in found}
    frame = pd.DataFrame(columns, index=index, copy=False)
    frame.columns = base.columns
    table, _ = table_from_frame(frame)
    return table.rename_columns(sample.column_names)


def _with_labels(frame: Any, base: Any) -> Any:
    if frame.columns.equals(base.columns):
        return frame
    missing, unknown = base.columns.difference(frame.columns), frame.columns.difference(base.columns)
    if len(missing) or len(unknown) or not frame.columns.is_unique:
        problem = (
            f"the rows have no column {missing[0]!r}"
            if len(missing)
            else f"the table has no column {unknown[0]!r}"
            if len(unknown)
            else "the rows have a column twice"
        )
        raise ValueError(f"{problem}; the table has {', '.join(map(repr, base.columns))}")
    return frame[list(base.columns)]


def _index_like(index: Any, base: Any, recipe: bytes) -> Any:
    import pandas as pd

    if "range" in json.loads(recipe.decode("utf-8", "surrogatepass"))["index"]:
        if not isinstance(index, pd.RangeIndex):
            raise ValueError(
                "the table counts its rows and the rows have an index of their own; reset_index(drop=True)"
            )
        return index
    if index.nlevels != base.nlevels:
        raise ValueError(f"the index has {index.nlevels} levels in the rows and {base.nlevels} in the table")
    if isinstance(base, pd.MultiIndex):
        return index.set_names(base.names)
    if index.dtype != base.dtype:
        raise ValueError(f"the index is {index.dtype} in the rows and {base.dtype} in the table")
    if isinstance(index, pd.RangeIndex):
        index = pd.Index(
            index.to_numpy(), dtype=base.dtype
        )  # a range has no values of its own, as the table's index has
    return index.rename(base.name)


def _like(column: Any, dtype: Any, label: Any) -> Any:
    """The column in the table's dtype, when at most its categories or its kind of text differ."""
    import pandas as pd

    if column.dtype == dtype:
        return column
    categorical = isinstance(dtype, pd.CategoricalDtype)
    textual = pd.api.types.is_string_dtype(dtype) and pd.api.types.is_string_dtype(column.dtype)
    if categorical or textual:
        lost = column.notna() & ~column.isin(dtype.categories) if categorical else None
        if lost is None or not lost.any():
            return column.astype(dtype)
        raise ValueError(f"column {label!r} has {column[lost].iloc[0]!r}, which is none of the table's categories")
    raise ValueError(f"column {label!r} is {column.dtype} in the rows and {dtype} in the table; cast it first (astype)")
