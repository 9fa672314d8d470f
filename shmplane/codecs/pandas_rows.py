"""pandas rows that go on where a table from pandas ends: the same labels, dtypes and kind of index.

Each column of the rows is brought to Arrow by itself and compared with what the table's recipe says, so that the cost is
that of the rows. Of the table itself only a dictionary is ever looked at, when a column is categorical.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import pandas_columns as columns
from . import pandas_index as indexes
from .pandas_recipe import recipe_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["rows_as_arrow"]


def rows_as_arrow(rows: Any, sample: pa.Table) -> pa.Table:
    """The Arrow table of rows, with the columns of the table that ``sample`` has none of.

    Raises:
        ValueError: a label, dtype or the index differs; the message names it.
    """
    import pyarrow as pa

    said = recipe_of(sample.schema)
    is_frame = "columns" in said
    labels = indexes.labels_of(sample.schema) if is_frame else [indexes.unpack_label(said["name"])]
    if hasattr(rows, "columns"):
        series = _in_order(rows, labels) if is_frame else [rows.iloc[:, 0]]
    else:
        series = _in_order(rows.to_frame(), labels) if is_frame else [rows]
    wanted = zip(series, labels, sample.columns, said["how"], strict=False)
    arrays = [_lowered(values, label, column, how) for values, label, column, how in wanted]
    arrays += _lowered_index(rows.index, said["index"], sample.columns[len(arrays) :])
    return pa.Table.from_arrays(arrays, names=sample.column_names)


def _in_order(frame: Any, labels: Any) -> list[Any]:
    """The columns that have these labels, in their order."""
    if not frame.columns.equals(labels):
        missing, unknown = labels.difference(frame.columns), frame.columns.difference(labels)
        if len(missing) or len(unknown) or not frame.columns.is_unique:
            problem = (
                f"the rows have no column {missing[0]!r}"
                if len(missing)
                else f"the table has no column {unknown[0]!r}"
                if len(unknown)
                else "the rows have a column twice"
            )
            raise ValueError(f"{problem}; the table has {', '.join(map(repr, labels))}")
        frame = frame[list(labels)]
    return [column for _, column in frame.items()]


def _lowered(series: Any, label: Any, column: pa.ChunkedArray, how: dict[str, Any]) -> Any:
    """The column in the table's dtype, when at most its categories or its kind of text differ."""
    array, found = columns.to_arrow(columns.values_of(series), label)
    if "categories" not in how and (found == how or ("object" in found and "object" in how)):
        return array
    import pandas as pd

    dtype = columns.from_arrow(column, how).dtype
    if series.dtype == dtype:
        return array
    if "categories" in how:
        lost = series[series.notna() & ~series.isin(dtype.categories)]
        if len(lost):
            raise ValueError(f"column {label!r} has {lost.iloc[0]!r}, which is none of the table's categories")
    elif not (pd.api.types.is_string_dtype(dtype) and pd.api.types.is_string_dtype(series.dtype)):
        raise ValueError(
            f"column {label!r} is {series.dtype} in the rows and {dtype} in the table; cast it first (astype)"
        )
    return columns.to_arrow(columns.values_of(series.astype(dtype)), label)[0]


def _lowered_index(index: Any, said: dict[str, Any], arrays: list[pa.ChunkedArray]) -> list[Any]:
    import pandas as pd

    if "range" in said:
        if not isinstance(index, pd.RangeIndex):
            raise ValueError(
                "the table counts its rows and the rows have an index of their own; reset_index(drop=True)"
            )
        return []
    if index.nlevels != len(arrays):
        raise ValueError(f"the index has {index.nlevels} levels in the rows and {len(arrays)} in the table")
    if isinstance(index, pd.RangeIndex):
        index = pd.Index(index.to_numpy())  # a range has no values of its own, as the table's index has
    found, lowered = indexes.pack_index(index)
    before, after = (each.get("levels", [each]) for each in (said, found))
    for array, old, new in zip(arrays, before, after, strict=True):
        if (old["how"], old.get("ordered")) != (new["how"], new.get("ordered")):
            dtype = columns.level_from_arrow(array, old).dtype if "levels" not in said else old["how"]
            raise ValueError(f"the index is {index.dtype} in the rows and {dtype} in the table")
    return lowered
