"""pandas frames as tables: each column as the Arrow array that shares its memory, and a recipe for the rest.

The recipe is JSON in the block's frame. It says how each column becomes a pandas array again, and what index,
labels, names and ``attrs`` were; so a frame comes back equal without pickle and without guessing.

Rule 1. A float's NaN and a time's NaT stay values of the column's buffer, so that reading needs no copy to
        put them back.
Rule 2. What would come back changed is refused, naming the column. ``attrs`` that JSON cannot hold are left
        out, and so is a ``freq`` that pandas cannot read from its name.

Columns are copied where the two libraries lay them out differently: ``bool`` (bits in Arrow), Python objects,
and columns of a row-major block.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shmplane.codecs import pandas_columns as columns
from shmplane.codecs import pandas_index as indexes
from shmplane.errors import UnsupportedValue

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["frame_from_table", "series_from_table", "table_from_frame", "table_from_series"]


def table_from_frame(frame: Any) -> tuple[pa.Table, bytes]:
    """The table and the recipe of a ``DataFrame``, or ``UnsupportedValue`` naming the column."""
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise UnsupportedValue(f"the DataFrame has more than one column {twice!r}; rename them", column=twice)
    series = [frame.iloc[:, position] for position in range(frame.shape[1])]
    labels = indexes.pack_labels(frame.columns)
    return _pack(series, list(frame.columns), frame.index, {"columns": labels, **_pack_attrs(frame)})


def table_from_series(series: Any) -> tuple[pa.Table, bytes]:
    """The table of one column, and the recipe, of a ``Series``."""
    name = indexes.pack_label(series.name)
    return _pack(
        [series],
        ["" if series.name is None else series.name],
        series.index,
        {"name": name, **_pack_attrs(series)},
    )


def _pack(series: list[Any], names: list[Any], index: Any, recipe: dict[str, Any]) -> tuple[pa.Table, bytes]:
    import pyarrow as pa

    lowered = [columns.lower(columns.values_of(each), name) for each, name in zip(series, names, strict=True)]
    recipe["how"] = [how for _, how in lowered]
    recipe["index"], index_arrays = indexes.pack_index(index)
    arrays = [array for array, _ in lowered] + index_arrays
    titles = indexes.titles(names, index.names[: len(index_arrays)])
    table = pa.Table.from_arrays(arrays, names=titles)
    return table, json.dumps(recipe, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _pack_attrs(value: Any) -> dict[str, Any]:
    try:
        if not value.attrs or json.loads(json.dumps(value.attrs)) != value.attrs:
            return {}
    except (TypeError, ValueError, RecursionError):
        return {}
    return {"attrs": value.attrs}


@lru_cache(maxsize=64)
def _parse(recipe: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(recipe.decode("utf-8", "surrogatepass"))
    return parsed


def frame_from_table(table: pa.Table, recipe: bytes) -> Any:
    """The ``DataFrame`` that was put; its columns are read-only where they are zero-copy."""
    import pandas as pd

    said = _parse(recipe)
    arrays = _raise_columns(table, said)
    index = indexes.unpack_index(said["index"], table.columns[len(arrays) :])
    boxed = {position: _boxed(array, index) for position, array in enumerate(arrays)}
    frame = pd.DataFrame(boxed, index=index, copy=False)
    frame.columns = indexes.unpack_labels(said["columns"])
    return _with_attrs(frame, said)


def series_from_table(table: pa.Table, recipe: bytes) -> Any:
    """The ``Series`` that was put."""
    import pandas as pd

    said = _parse(recipe)
    (array,) = _raise_columns(table, said)
    index = indexes.unpack_index(said["index"], table.columns[1:])
    name = indexes.unpack_label(said["name"])
    series = pd.Series(array, index=index, name=name, dtype=array.dtype, copy=False)
    return _with_attrs(series, said)


def _raise_columns(table: pa.Table, said: dict[str, Any]) -> list[Any]:
    return [columns.elevate(table.column(position), how) for position, how in enumerate(said["how"])]


def _boxed(array: Any, index: Any) -> Any:
    """Objects as a Series, which says its dtype; into an array pandas would look and choose another."""
    import pandas as pd

    return pd.Series(array, index=index, dtype=object, copy=False) if array.dtype == object else array


def _with_attrs(value: Any, said: dict[str, Any]) -> Any:
    if "attrs" in said:
        # Parsed again, since the parsed recipe is shared by all readers of this process.
        value.attrs = json.loads(json.dumps(said["attrs"]))
    return value
