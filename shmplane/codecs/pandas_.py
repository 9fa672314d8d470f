"""pandas frames as tables: each column as the Arrow array that shares its memory, and a recipe for the rest.

The recipe is JSON in the metadata of the Arrow schema. It says how each column becomes a pandas array again, and what
index, labels, names and ``attrs`` were; so a frame comes back equal without pickle and without guessing. It does not
depend on the number of rows: so a table that is appended to keeps its schema.

Rule 1. A float's NaN and a time's NaT stay values of the column's buffer, so that reading needs no copy to
        put them back.
Rule 2. What would come back changed is refused, naming the column; so are ``attrs`` that JSON cannot hold. A subclass
        comes back as a plain frame or series, with a warning at put. A ``freq`` that pandas cannot read from its name
        is left out.

Rule 3. A frame is changed like any other, though its memory is read-only: pandas copies a column that it takes to be
        shown by another frame too. pandas 2 without its copy-on-write mode gets copies.

Columns are copied where the two libraries lay them out differently: ``bool`` (bits in Arrow), Python objects,
and columns of a row-major block.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import own
from . import pandas_columns as columns
from . import pandas_index as indexes
from .base import warn_user
from .pandas_recipe import pack_recipe, recipe_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["changeable", "frame_from_table", "series_from_table", "table_from_frame", "table_from_series"]


def table_from_frame(frame: Any) -> pa.Table:
    """The table, with its recipe, of a ``DataFrame``, or ``UnsupportedValue`` naming the column."""
    import pandas as pd

    _say_what_is_lost(frame, pd.DataFrame)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise UnsupportedValue(f"the DataFrame has more than one column {twice!r}; rename them", column=twice)
    series = [column for _, column in frame.items()]
    labels = indexes.pack_labels(frame.columns)
    return _pack(series, list(frame.columns), frame.index, {"columns": labels, **_pack_extras(frame)})


def table_from_series(series: Any) -> pa.Table:
    """The table of one column, with its recipe, of a ``Series``."""
    import pandas as pd

    _say_what_is_lost(series, pd.Series)
    name = indexes.pack_label(series.name)
    return _pack(
        [series],
        ["" if series.name is None else series.name],
        series.index,
        {"name": name, **_pack_extras(series)},
    )


def _pack(series: list[Any], names: list[Any], index: Any, recipe: dict[str, Any]) -> pa.Table:
    import pyarrow as pa

    lowered = [columns.to_arrow(columns.values_of(each), name) for each, name in zip(series, names, strict=True)]
    recipe["how"] = [how for _, how in lowered]
    recipe["index"], index_arrays = indexes.pack_index(index)
    arrays = [array for array, _ in lowered] + index_arrays
    if not arrays:
        recipe["index"]["count"] = len(index)
    titles = indexes.titles(names, index.names[: len(index_arrays)])
    table = pa.Table.from_arrays(arrays, names=titles)
    return table.replace_schema_metadata(pack_recipe(recipe))


def _pack_extras(value: Any) -> dict[str, Any]:
    """``attrs`` and the flag against duplicate labels."""
    extras = {} if value.flags.allows_duplicate_labels else {"unique": True}
    if not value.attrs:
        return extras
    try:
        if json.loads(json.dumps(value.attrs, allow_nan=False)) == value.attrs:
            return {"attrs": value.attrs, **extras}
        found = "they would come back changed"
    except own(TypeError, ValueError, RecursionError) as error:
        found = str(error)
    raise UnsupportedValue(
        f"attrs {list(value.attrs)!r} are not all JSON values ({found}), so they would be lost; put "
        f"{type(value).__name__}s with JSON attrs, or without: frame.attrs = {{}}"
    )


def _say_what_is_lost(value: Any, kind: type) -> None:
    if type(value) is not kind:
        warn_user(
            f"a {type(value).__name__} comes back from a plane as a plain {kind.__name__}; put {kind.__name__}(value) "
            f"to say that this is meant"
        )


def frame_from_table(table: pa.Table) -> Any:
    """The ``DataFrame`` that was put; zero-copy until it is changed."""
    import pandas as pd

    said = recipe_of(table.schema)
    arrays = _raise_columns(table, said)
    index = indexes.unpack_index(said["index"], table.columns[len(arrays) :], table.num_rows)
    boxed = {position: _boxed(array, index) for position, array in enumerate(arrays)}
    frame = pd.DataFrame(boxed, index=index, copy=False)
    frame.columns = indexes.labels_of(table.schema)
    return _with_extras(changeable(frame), said)


def series_from_table(table: pa.Table) -> Any:
    """The ``Series`` that was put."""
    import pandas as pd

    said = recipe_of(table.schema)
    (array,) = _raise_columns(table, said)
    index = indexes.unpack_index(said["index"], table.columns[1:], table.num_rows)
    name = indexes.unpack_label(said["name"])
    series = pd.Series(array, index=index, name=name, dtype=array.dtype, copy=False)
    return _with_extras(changeable(series), said)


def _raise_columns(table: pa.Table, said: dict[str, Any]) -> list[Any]:
    return [columns.from_arrow(table.column(position), how) for position, how in enumerate(said["how"])]


def _boxed(array: Any, index: Any) -> Any:
    """Objects as a Series, which says its dtype; into an array pandas would look and choose another."""
    import pandas as pd

    return pd.Series(array, index=index, dtype=object, copy=False) if array.dtype == object else array


def _with_extras(value: Any, said: dict[str, Any]) -> Any:
    if "attrs" in said:
        # Parsed again, since the parsed recipe is shared by all readers of this process.
        value.attrs = json.loads(json.dumps(said["attrs"]))
    # Rows that were appended may have labels twice, which the flag would refuse here.
    if said.get("unique") and value.index.is_unique:
        value.flags.allows_duplicate_labels = False
    return value


def changeable(value: Any) -> Any:
    """A new frame or series over read-only memory, so that it can be written: each column is copied by its first write."""
    if not _copies_on_write():
        return value.copy()
    _mark_shared(value)
    return value


def _mark_shared(value: Any) -> None:
    """Let pandas take every column for one that an index shows too."""
    for block in value._mgr.blocks:
        block.refs.add_index_reference(_the_index())


@lru_cache(maxsize=1)
def _the_index() -> Any:
    import pandas as pd

    return pd.Index(["for ever"])


def _copies_on_write() -> bool:
    import pandas as pd

    if int(pd.__version__.partition(".")[0]) < 3 and pd.options.mode.copy_on_write is not True:
        return False
    return _marks_are_heeded()


@lru_cache(maxsize=1)
def _marks_are_heeded() -> bool:
    """Whether this pandas knows the marks, which are none of its public interface: by trying."""
    import numpy as np
    import pandas as pd

    values = np.zeros(1)
    values.flags.writeable = False
    try:
        frame = pd.DataFrame({"a": values}, copy=False)
        _mark_shared(frame)
        frame.iloc[0, 0] = 1.0
    except own(AttributeError, TypeError, ValueError):
        return False
    return bool(frame.iloc[0, 0] == 1.0 and values[0] == 0.0)
