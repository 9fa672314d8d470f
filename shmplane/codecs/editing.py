"""Columns of a table by the labels that its user knows, and what replaces them.

An Arrow or Polars table is its columns. A pandas table also has a recipe, which says how each column and the labels
come back; index columns lie behind the others and have no label.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shmplane.errors import UnsupportedValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

SERIES = ("column", "pandas-series", "polars-series")

__all__ = ["check_labels", "labels_of", "lower_column", "recipe_with", "title_of"]


def labels_of(origin: str, recipe: bytes, names: Sequence[str]) -> list[tuple[Any, Any]]:
    """Label and pandas recipe of each column that is no part of an index."""
    if origin == "pandas":
        from shmplane.codecs.pandas_index import unpack_labels

        said = _parse(recipe)
        return list(zip(unpack_labels(said["columns"]).tolist(), said["how"], strict=True))
    if origin == "pandas-series":
        return [(names[0], _parse(recipe)["how"][0])]
    return [(name, None) for name in names]


def lower_column(origin: str, label: Any, values: Any) -> tuple[pa.ChunkedArray, Any]:
    """A new column as Arrow stores it, and its pandas recipe.

    Args:
        values: a column or array of any library, or a list.

    Raises:
        UnsupportedValue: it cannot be stored; the message names the column.
    """
    import pyarrow as pa

    try:
        if origin.startswith("pandas"):
            from shmplane.codecs import pandas_columns

            array, how = pandas_columns.lower(pandas_columns.values_of(_as_series(values)), label)
        elif origin.startswith("polars"):
            array, how = _by_polars(label, values), None
        else:
            array, how = _by_arrow(values), None
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UnsupportedValue):
            raise
        raise UnsupportedValue(f"column {label!r} cannot be stored: {error}", column=label) from error
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]), how


def _as_series(values: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.to_pandas()
    if hasattr(values, "to_pandas"):
        return values.to_pandas()
    _check_is_many(values)
    # By position: an index of the column itself would be aligned with the table's, which no column has here.
    return pd.Series(values).reset_index(drop=True)


def _by_polars(label: Any, values: Any) -> Any:
    import polars as pl

    from shmplane.codecs.polars_ import table_from_polars

    if not isinstance(values, pl.Series):
        values = pl.Series(str(label), pl.from_arrow(_by_arrow(values)))
    return table_from_polars(values.to_frame()).column(0)


def _by_arrow(values: Any) -> Any:
    import pyarrow as pa

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if hasattr(type(values), "__arrow_c_stream__"):
        return pa.chunked_array(values)
    _check_is_many(values)
    return pa.array(values, from_pandas=hasattr(values, "iloc"))


def _check_is_many(values: Any) -> None:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise TypeError(f"a column is an array, a list or a column of a library, not {type(values).__name__}")


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


def recipe_with(origin: str, recipe: bytes, columns: Sequence[tuple[Any, Any]]) -> bytes:
    """The recipe of a table with other columns: label and pandas recipe of each."""
    if not origin.startswith("pandas"):
        return recipe
    import pandas as pd

    from shmplane.codecs.pandas_index import pack_label, pack_labels, unpack_labels

    said = _parse(recipe)
    said["how"] = [how for _, how in columns]
    labels = [label for label, _ in columns]
    if origin == "pandas-series":
        said["name"] = pack_label(labels[0]) if labels[0] else said["name"]
    elif labels != (before := unpack_labels(said["columns"])).tolist():
        after = pd.Index(labels, tupleize_cols=isinstance(before, pd.MultiIndex))
        if after.nlevels == before.nlevels:
            after.names = before.names
        said["columns"] = pack_labels(after)
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _parse(recipe: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(recipe.decode("utf-8", "surrogatepass"))
    return parsed
