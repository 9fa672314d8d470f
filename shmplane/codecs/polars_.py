"""Polars frames as tables: Polars' own Arrow arrays, which share its memory in both directions.

Rule 1. Before a frame is stored, its empty form makes the round trip; a column whose type would come back as
        another one (objects, 128-bit integers) is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmplane.errors import UnsupportedValue

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

    return frame.to_arrow(compat_level=pl.CompatLevel.newest())


def _comes_back(empty: Any, dtype: Any) -> bool:
    import polars as pl

    try:
        back: Any = pl.from_arrow(_to_arrow(empty.to_frame()))
    except Exception:  # noqa: BLE001 - Polars panics outside of its own errors
        return False
    return bool(back.to_series(0).dtype == dtype)


def polars_from_table(table: pa.Table) -> Any:
    """The ``polars.DataFrame`` of a table, without a copy where Polars allows it."""
    import polars as pl

    frame: Any = pl.from_arrow(table, rechunk=False)
    if frame.columns != table.column_names:
        # Polars makes up names for columns without one.
        frame.columns = table.column_names
    return frame
