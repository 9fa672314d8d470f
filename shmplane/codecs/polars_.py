"""Polars frames as tables: Polars' own Arrow arrays, which share its memory in both directions.

Rule 1. Before a frame is stored, its empty form makes the round trip; a column whose type would come back as
        another one (objects, 128-bit integers) is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import own

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["polars_from_table", "table_from_polars"]


def table_from_polars(frame: Any) -> pa.Table:
    """The table of a ``polars.DataFrame``, or ``UnsupportedValue`` naming the column."""
    for name, dtype in frame.schema.items():
        if not _comes_back(frame.get_column(name).clear(), dtype):
            raise UnsupportedValue(
                f"column {name!r} of type {dtype} does not survive Arrow; cast it first", column=name
            )
    return _to_arrow(frame)


def _to_arrow(frame: Any) -> Any:
    import polars as pl
    import pyarrow as pa

    newest = pl.CompatLevel.newest()
    try:
        table = frame.to_arrow(compat_level=newest)
        if not any(_is_misread(chunk) for column in table.columns for chunk in column.chunks):
            return table
    except own(pa.ArrowInvalid):
        pass
    # Some versions export a slice of arrays or structs as if it were the whole. Its rows are copied, which ends the slice.
    return frame.select(pl.all().gather(pl.int_range(pl.len()))).to_arrow(compat_level=newest)


def _is_misread(chunk: pa.Array) -> bool:
    import pyarrow as pa

    return bool(chunk.offset and (pa.types.is_fixed_size_list(chunk.type) or pa.types.is_struct(chunk.type)))


def _comes_back(empty: Any, dtype: Any) -> bool:
    try:
        back = polars_from_table(_to_arrow(empty.to_frame()))
    except own(Exception):  # Polars has errors of many kinds for what it cannot convert
        return False
    return bool(back.to_series(0).dtype == dtype)


def polars_from_table(table: pa.Table) -> Any:
    """The ``polars.DataFrame`` of a table, without a copy where Polars allows it; ``TypeError`` when it has no such types."""
    import polars as pl

    for field in table.schema:
        if _has_empty_arrays(field.type):
            raise TypeError(f"Polars cannot read arrays of no elements, as column {field.name!r} has")
    try:
        frame: Any = pl.from_arrow(table, rechunk=False)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # which is no Exception
            raise
        raise TypeError(f"Polars gave up on one of the columns: {error}") from error
    if frame.columns != table.column_names:
        # Polars makes up names for columns without one.
        frame.columns = table.column_names
    return frame


def _has_empty_arrays(kind: pa.DataType) -> bool:
    if getattr(kind, "list_size", 1) == 0:
        return True
    return any(_has_empty_arrays(kind.field(index).type) for index in range(kind.num_fields))
