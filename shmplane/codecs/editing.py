"""Columns of a table by the labels that its user knows, and what replaces them.

An Arrow or Polars table is its columns. A pandas table also has a recipe, which says how each column and the labels
come back; index columns lie behind the others and have no label.

A pandas column goes by the labels of its rows, as in pandas; anything else goes by position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import own
from .pandas_recipe import pack_recipe, recipe_of
from .table import SERIES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["align_column", "check_labels", "labels_of", "column_to_arrow", "metadata_with", "title_of"]


def labels_of(origin: str, schema: pa.Schema) -> list[tuple[Any, Any]]:
    """Label and pandas recipe of each column that is no part of an index."""
    if origin == "pandas":
        from . import pandas_index

        return list(zip(pandas_index.labels_of(schema).tolist(), recipe_of(schema)["how"], strict=True))
    if origin.startswith("pandas"):
        return [(schema.names[0], recipe_of(schema)["how"][0])]
    return [(name, None) for name in schema.names]


def align_column(origin: str, label: Any, values: Any, table: Callable[[], pa.Table]) -> Any:
    """A pandas Series in the order of the table's labels; anything else, and for any other table, as it is.

    Args:
        table: asked for only when its labels are needed.

    Raises:
        ValueError: labels of the table are missing in the Series, or are there twice; the message names some.
    """
    if not origin.startswith("pandas") or not hasattr(values, "reindex") or not hasattr(values, "array"):
        return values
    from .pandas_index import unpack_index

    whole, found = table(), values.index
    said = recipe_of(whole.schema)
    wanted = unpack_index(said["index"], whole.columns[len(said["how"]) :], whole.num_rows)
    if found.equals(wanted):
        return values
    if not found.is_unique:
        twice = found[found.duplicated()][0]
        raise ValueError(f"column {label!r} has the label {twice!r} twice, so its rows cannot be told by label")
    missing = wanted[~wanted.isin(found)]
    if len(missing):
        some = ", ".join(map(repr, missing[:5].tolist())) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"column {label!r} goes by label, as in pandas, and has no row for {len(missing):,} of the table's labels: "
            f"{some}. Reindex it first, or assign its values alone: column.to_numpy()"
        )
    return values.reindex(wanted)


def column_to_arrow(origin: str, label: Any, values: Any, *, num_rows: int) -> tuple[pa.ChunkedArray, Any]:
    """A new column as Arrow stores it, and its pandas recipe.

    Args:
        values: a column or array of any library, or a list; a scalar, which stands in all of ``num_rows``.

    Raises:
        UnsupportedValue: it cannot be stored; the message names the column.
    """
    import pyarrow as pa

    rows = num_rows if _is_scalar(values) else None
    try:
        if origin.startswith("pandas"):
            from . import pandas_columns

            array, how = pandas_columns.to_arrow(pandas_columns.values_of(_as_series(values, rows)), label)
        elif origin.startswith("polars"):
            array, how = _by_polars(label, values, rows), None
        else:
            array, how = _by_arrow(values, rows), None
    except own(pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UnsupportedValue):
            raise
        raise UnsupportedValue(f"column {label!r} cannot be stored: {error}", column=label) from error
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]), how


def _is_scalar(values: Any) -> bool:
    """Whether there is one value for all rows: text, bytes, and what has no elements."""
    if isinstance(values, (str, bytes)) or getattr(values, "ndim", None) == 0:
        return True
    import pyarrow as pa

    protocols = ("__iter__", "__len__", "__array__", "__dlpack__", "__arrow_c_stream__", "__arrow_c_array__")
    return isinstance(values, pa.Scalar) or not any(hasattr(type(values), name) for name in protocols)


def _as_series(values: Any, rows: int | None) -> Any:
    import pandas as pd
    import pyarrow as pa

    if rows is not None:
        value = values.as_py() if isinstance(values, pa.Scalar) else values
        return pd.Series([None] * rows, dtype=object) if value is None else pd.Series(value, index=range(rows))
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.to_pandas()
    if hasattr(values, "to_pandas"):
        return values.to_pandas()
    _check_is_many(values)
    return pd.Series(values)


def _by_polars(label: Any, values: Any, rows: int | None) -> Any:
    import polars as pl

    from .polars_ import table_from_polars

    if not isinstance(values, pl.Series):
        values = pl.Series(str(label), pl.from_arrow(_by_arrow(values, rows)))
    return table_from_polars(values.to_frame()).column(0)


def _by_arrow(values: Any, rows: int | None) -> Any:
    import pyarrow as pa

    if rows is not None:
        if hasattr(values, "dtype"):
            import numpy as np

            return pa.array(np.full(rows, values))
        return pa.repeat(values if isinstance(values, pa.Scalar) else pa.scalar(values), rows)
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if hasattr(type(values), "__arrow_c_stream__"):
        return pa.chunked_array(values)
    _check_is_many(values)
    return pa.array(values, from_pandas=hasattr(values, "iloc"))


def _check_is_many(values: Any) -> None:
    if not hasattr(values, "__len__"):
        raise TypeError(
            f"a column is an array, a list, a column of a library or one value, not {type(values).__name__}"
        )


def title_of(label: Any) -> str:
    """The name of a column in the Arrow schema."""
    return str(label).encode("utf-8", "replace").decode()


def check_labels(origin: str, labels: Sequence[Any]) -> None:
    """``ValueError`` unless a table from ``origin`` can have these columns."""
    twice = [label for at, label in enumerate(labels) if label in labels[:at]]
    if twice:
        raise ValueError(f"there would be two columns {twice[0]!r}")
    if origin in SERIES and len(labels) != 1:
        raise ValueError(
            f"this block came from a single column ({origin}) and would have {len(labels)}; put a table instead"
        )


def metadata_with(origin: str, schema: pa.Schema, columns: Sequence[tuple[Any, Any]]) -> Any:
    """The metadata of a table's schema when it has other columns: label and pandas recipe of each."""
    if not origin.startswith("pandas"):
        return schema.metadata
    import pandas as pd

    from . import pandas_index

    said = dict(recipe_of(schema))
    said["how"] = [how for _, how in columns]
    labels = [label for label, _ in columns]
    if origin in SERIES:
        said["name"] = pandas_index.pack_label(labels[0]) if labels[0] else said["name"]
    elif labels != (before := pandas_index.labels_of(schema)).tolist():
        after = pd.Index(labels, tupleize_cols=isinstance(before, pd.MultiIndex))
        if after.nlevels == before.nlevels:
            after.names = before.names
        said["columns"] = pandas_index.pack_labels(after)
    return pack_recipe(said)
