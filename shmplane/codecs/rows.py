"""Rows that are added to a table: brought to the table's schema, or refused naming the field that differs.

Rule 1. Names and types decide, not order: columns are put in the table's order. Types that only differ in how the
        library lays them out (``string`` and ``large_string``, the index of a dictionary) are converted; numbers are
        not.
Rule 2. A table keeps what it came from. Rows of another library are converted; pandas rows need the table's dtypes,
        and an index that goes on: a ``RangeIndex`` counts further, any other index is appended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..errors import UnsupportedValue
from ..system import own
from .pandas_recipe import recipe_of
from .table import parse_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from .composed import Composition

__all__ = ["TableForm", "align_rows", "form_of", "rows_from"]


class TableForm(NamedTuple):
    """What rows have to fit; equal for versions of a table that differ in their rows only."""

    origin: str
    schema: bytes


def form_of(said: Composition) -> TableForm:
    """The form of a table. Takes no Arrow."""
    return TableForm(said.origin, said.schema)


def rows_from(rows: Any) -> Any:
    """Plain Python rows, a dict of columns or a list of dicts, as an Arrow table; anything else as it is."""
    import pyarrow as pa

    if isinstance(rows, Mapping):
        return pa.table(dict(rows))
    if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
        return pa.Table.from_pylist(rows)
    return rows


def align_rows(rows: Any, form: TableForm, sample: Callable[[], pa.Table]) -> pa.Table:
    """Rows as an Arrow table of exactly the form's columns.

    Args:
        rows: a table of any library, a dict of columns, or a list of dicts.
        sample: no rows of the table, with its dictionaries; asked for only when pandas needs them.

    Raises:
        ValueError: a field is missing, unknown or of another type; the message names it.
        UnsupportedValue: this is no table.
    """
    schema = parse_schema(form.schema)
    if form.origin.startswith("pandas"):
        return _match(_like_pandas(rows, sample, schema), schema)
    if form.origin.startswith("polars"):
        return _match(_like_polars(_arrow_from(rows, schema)), schema)
    return _match(_arrow_from(rows, schema), schema)


def _arrow_from(rows: Any, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    if isinstance(rows, Mapping):
        return _from_python(lambda: pa.table({name: _column(name, rows[name], schema) for name in rows}))
    if isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) for row in rows):
        names = list(dict.fromkeys(name for row in rows for name in row)) or schema.names
        columns = {name: [row.get(name) for row in rows] for name in names}
        return _from_python(lambda: pa.table({name: _column(name, columns[name], schema) for name in names}))
    if isinstance(rows, (pa.Array, pa.ChunkedArray)):
        return pa.table({schema.names[0] if len(schema) == 1 else "value": rows})
    if hasattr(type(rows), "to_frame") and not hasattr(rows, "columns"):
        rows = rows.to_frame(schema.names[0])  # a Series
    try:
        return rows if isinstance(rows, pa.Table) else pa.table(rows)
    except own(pa.ArrowException, TypeError, ValueError) as error:
        raise UnsupportedValue(
            f"rows to append are a table of any library, a dict of columns or a list of dicts, not "
            f"{type(rows).__name__} ({error})"
        ) from error


def _from_python(make: Callable[[], pa.Table]) -> pa.Table:
    import pyarrow as pa

    try:
        return make()
    except own(pa.ArrowException) as error:
        raise ValueError(f"the rows are no table: {error}") from error


def _column(name: str, values: Any, schema: pa.Schema) -> Any:
    """Python values take the table's type, so that 1 can be a float and None anything."""
    import pyarrow as pa

    if schema.names.count(name) != 1 or hasattr(values, "dtype") or isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    kind = schema.field(name).type
    try:
        return pa.array(values, type=kind)
    except own(pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"field {name!r} of the rows cannot be {kind}, as the table has it: {error}") from error


def _match(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns in the schema's order and of its types."""
    import pyarrow as pa

    if rows.column_names != schema.names:
        _check_names(rows.column_names, schema.names)
        rows = rows.select(schema.names)
    columns = [_cast(column, field) for column, field in zip(rows.columns, schema, strict=True)]
    for column, field in zip(columns, schema, strict=True):
        if not field.nullable and column.null_count:
            raise ValueError(f"field {field.name!r} may not be null, and {column.null_count:,} of the rows are")
    return pa.Table.from_arrays(columns, schema=schema)


def _check_names(found: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if found.count(name) != wanted.count(name) or wanted.count(name) > 1:
            _refuse_names(
                f"the rows have no field {name!r}" if name not in found else f"field {name!r} is not unique", wanted
            )
    for name in found:
        if name not in wanted:
            _refuse_names(f"the table has no field {name!r}", wanted)


def _refuse_names(problem: str, wanted: Sequence[str]) -> NoReturn:
    raise ValueError(f"{problem}; the table has {', '.join(map(repr, wanted))}")


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    import pyarrow as pa

    if column.type == field.type:
        return column
    # Without a value, any type will do.
    if _family(column.type) != _family(field.type) and not pa.types.is_null(column.type):
        raise ValueError(
            f"field {field.name!r} is {column.type} in the rows and {field.type} in the table; cast it first"
        )
    try:
        return column.cast(field.type)
    except own(pa.ArrowException, NotImplementedError) as error:
        raise ValueError(
            f"field {field.name!r} is {column.type} in the rows, which does not become {field.type}: {error}"
        ) from error


def _family(kind: pa.DataType) -> Any:
    """Equal for types that hold the same values in another layout."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return "dictionary", _family(kind.value_type), kind.ordered
    if types.is_string(kind) or types.is_large_string(kind) or kind == getattr(pa, "string_view", pa.string)():
        return "string"
    if types.is_binary(kind) or types.is_large_binary(kind) or kind == getattr(pa, "binary_view", pa.binary)():
        return "binary"
    if types.is_list(kind) or types.is_large_list(kind):
        return "list", _family(kind.value_type)
    return kind


def _like_polars(rows: pa.Table) -> pa.Table:
    import polars as pl

    from .polars_ import table_from_polars

    frame: Any = pl.from_arrow(rows)
    return table_from_polars(frame)


def _like_pandas(rows: Any, sample: Callable[[], pa.Table], schema: pa.Schema) -> pa.Table:
    import pandas as pd

    if isinstance(rows, pd.api.extensions.ExtensionArray):
        rows = pd.Series(rows)
    if isinstance(rows, (pd.DataFrame, pd.Series)):
        from .pandas_rows import rows_as_arrow

        return rows_as_arrow(rows, sample())
    table = _arrow_from(rows, schema)
    for name, how in zip(schema.names, recipe_of(schema)["how"], strict=False):
        if "numpy" in how and name in table.column_names and table[name].null_count:
            raise ValueError(f"field {name!r} is null in some rows, and its dtype {how['numpy']} has no null")
    return table
