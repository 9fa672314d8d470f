"""Tables by what they came from: Arrow, pandas or Polars in, the same kind out.

The root of an Arrow table is the table itself, which lives as long as a user has it; the other kinds are made
anew for every reader from a ``TableRoot``, over the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..system import own
from .batches import TableStream, stream_of
from .composed import Part, composition_of, is_composed, read_composed
from .envelope import corrupt
from .libraries import with_cure
from .table import EncodedTable, encode_table, parse_table, read_table

if TYPE_CHECKING:
    import pyarrow as pa

    from .base import Memory

__all__ = [
    "TableRoot",
    "encode_arrow",
    "encode_arrow_like",
    "encode_pandas",
    "encode_pandas_array",
    "encode_polars",
    "open_table_root",
    "present_table",
]


class TableRoot:
    """A table over shared memory, and what it came from."""

    __slots__ = ("__weakref__", "origin", "table")

    def __init__(self, table: pa.Table, origin: str) -> None:
        self.table: Any = table
        self.origin: str = origin


def encode_arrow(value: Any) -> EncodedTable | None:
    """Describe an Arrow table, batch, array or chunked array; None for anything else of Arrow."""
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return encode_table(value)
    if isinstance(value, pa.RecordBatch):
        return encode_table(pa.Table.from_batches([value]))
    if isinstance(value, (pa.Array, pa.ChunkedArray)):
        return encode_table(_one_column(value), "column")
    return None


def encode_arrow_like(value: Any) -> EncodedTable | TableStream:
    """Describe what exports the Arrow C interface: structures as columns, anything else as one."""
    import pyarrow as pa

    if hasattr(type(value), "__arrow_c_stream__"):
        stream = stream_of(value)
        if stream is not None:
            return stream
    try:
        table = pa.table(value)
    except own(Exception) as error:  # foreign code may raise anything
        try:
            table = _one_column(pa.chunked_array(value) if hasattr(value, "__arrow_c_stream__") else pa.array(value))
        except own(Exception):  # the first error says more
            raise UnsupportedValue(
                f"this {type(value).__name__} exports no Arrow table: {error}", type=type(value).__name__
            ) from error
    return encode_table(table)


def _one_column(values: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_arrays([values], names=["value"])


def encode_pandas(value: Any) -> EncodedTable:
    """Describe a pandas ``DataFrame`` or ``Series``."""
    from . import pandas_

    if hasattr(value, "columns"):
        return encode_table(_in_one_piece(pandas_.table_from_frame(value)), "pandas")
    return encode_table(_in_one_piece(pandas_.table_from_series(value)), "pandas-series")


def encode_pandas_array(value: Any) -> EncodedTable:
    """Describe a bare extension array of pandas, or the values of an index: a table of one column that keeps its dtype."""
    import pandas as pd

    from .pandas_ import table_from_series

    return encode_table(_in_one_piece(table_from_series(pd.Series(value, copy=False))), "pandas-array")


def _in_one_piece(table: Any) -> Any:
    """Columns in one piece are read without a copy; only strings of pandas can be in many."""
    return table.combine_chunks() if any(column.num_chunks > 1 for column in table.columns) else table


def encode_polars(value: Any) -> EncodedTable:
    """Describe a Polars ``DataFrame`` or ``Series``."""
    from .polars_ import table_from_polars

    if hasattr(value, "columns"):
        return encode_table(table_from_polars(value), "polars")
    return encode_table(table_from_polars(value.to_frame()), "polars-series")


def open_table_root(frame: bytes, memory: Memory, parts: Sequence[Part] = ()) -> Any:
    """The root of a table's views. Cost: about 10 µs, and 1 µs for each further column and batch."""
    origin = composition_of(frame).origin if is_composed(frame) else parse_table(frame).origin
    table = read_composed(frame, parts) if is_composed(frame) else read_table(frame, memory)
    return table if origin == "arrow" else TableRoot(table, origin)


def present_table(root: Any) -> Any:
    """What was put: the table itself, which cannot be changed, or a new column, frame or series."""
    if not isinstance(root, TableRoot):
        return root
    try:
        return _present(root)
    except own(ModuleNotFoundError) as error:
        raise with_cure(error) from None
    except ImportError:
        raise
    except own(Exception) as error:  # whatever a hostile recipe makes pandas raise
        corrupt(f"its {root.origin} recipe does not fit its columns", error)


def _present(root: TableRoot) -> Any:
    if root.origin == "column":
        return root.table.column(0)
    if root.origin == "pandas":
        from .pandas_ import frame_from_table

        return frame_from_table(root.table)
    if root.origin in ("pandas-series", "pandas-array"):
        from .pandas_ import series_from_table

        series = series_from_table(root.table)
        return series.array if root.origin == "pandas-array" else series
    from .polars_ import polars_from_table

    frame = polars_from_table(root.table)
    return frame if root.origin == "polars" else frame.to_series(0)
