"""Tables: one Arrow IPC stream, uncompressed, so that columns are read where they lie.

The frame repeats the schema and the number of rows, so that a block can be described without its body; and it
says what the table came from (``origin``). What an origin needs besides is in the schema's metadata.

Rule 1. The size is found by a dry run, then the stream is written once, straight to the sink. Column buffers
        are handed over as they are; only slices that do not start at a byte, and offsets, are rebuilt by
        Arrow, a batch at a time.
Rule 2. A batch is never split, so a column in one piece comes back in one piece. Many small batches are
        combined, since each costs every reader a little for every column.
Rule 3. What Arrow writes but cannot read back is refused before anything is published: the schema is read again and
        compared, and so is a row of nulls of every type that has types within it.
Rule 4. What is read has Arrow's cheap validation: lengths against buffers, not the values. Data of doubtful
        origin needs ``check_table``, which reads everything.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UnsupportedValue
from ..system import own
from .envelope import corrupt, seal, unseal
from .stream import SinkFile, plan_batches, write_stream

if TYPE_CHECKING:
    import pyarrow as pa

    from .base import Memory, Sink

__all__ = [
    "SERIES",
    "EncodedTable",
    "check_origin",
    "check_schema",
    "check_table",
    "encode_table",
    "find_columns",
    "nbytes_of",
    "parse_schema",
    "parse_table",
    "read_positions",
    "read_table",
    "table_frame",
]

MAX_DEPTH = 62  #: of types within types; what the IPC format can write

ORIGINS = ("arrow", "column", "pandas", "pandas-series", "polars", "polars-series", "pandas-array")

#: origins that are a single column
SERIES = ("column", "pandas-series", "polars-series", "pandas-array")

_HEAD = struct.Struct("<BQIQ")  #: origin, rows, columns, bytes of the stream

#: Extension types whose class is Arrow's own. Others would run foreign code in every reader.
_KNOWN_EXTENSIONS = frozenset(
    (
        "arrow.bool8",
        "arrow.fixed_shape_tensor",
        "arrow.json",
        "arrow.opaque",
        "arrow.uuid",
        "arrow.variable_shape_tensor",
    )
)


class TableFrame(NamedTuple):
    """What a table's frame says."""

    origin: str
    num_rows: int
    num_columns: int
    nbytes: int  #: of the stream
    schema: bytes  #: as an IPC message


class EncodedTable:
    """A table that is ready to be written."""

    __slots__ = ("_batches", "_schema", "frame", "nbytes")
    kind = "table"
    whole = None

    def __init__(self, table: pa.Table, origin: str = "arrow") -> None:
        import pyarrow as pa

        self._schema = table.schema
        self._batches = plan_batches(table)
        size = pa.MockOutputStream()
        write_stream(size, self._schema, self._batches)
        self.nbytes: int = size.size()
        self.frame: bytes = table_frame(self._schema, origin, num_rows=table.num_rows, nbytes=self.nbytes)

    def write_to(self, sink: Sink) -> None:
        with SinkFile(sink) as file:
            write_stream(file.arrow, self._schema, self._batches)


def table_frame(schema: pa.Schema, origin: str, *, num_rows: int, nbytes: int) -> bytes:
    """The frame of a table whose stream has ``nbytes``."""
    import pyarrow as pa

    message = schema.serialize()
    if not pa.ipc.read_schema(message).equals(schema, check_metadata=True):
        raise UnsupportedValue("this table's schema would come back from Arrow as another one; cast its columns")
    head = _HEAD.pack(ORIGINS.index(origin), num_rows, len(schema), nbytes)
    return seal(b"T", head + message.to_pybytes())


def check_origin(origin: str, num_columns: int) -> str:
    """What somebody else says that a table came from, or ``PlaneCorrupt``."""
    if origin not in ORIGINS or (origin in SERIES and num_columns != 1):
        corrupt(f"a table of {num_columns:,} columns cannot be of origin {origin!r}")
    return origin


def check_schema(schema: pa.Schema) -> None:
    """``UnsupportedValue`` naming the column that cannot be stored."""
    for field in schema:
        _check_type(field.type, field.name)
        if not _comes_back(field.type):
            raise UnsupportedValue(
                f"column {field.name!r} is {field.type}, which Arrow can write and cannot read back; cast it first",
                column=field.name,
            )


def encode_table(table: pa.Table, origin: str = "arrow") -> EncodedTable:
    """Describe a ``pyarrow.Table``, or raise ``UnsupportedValue`` naming the column that cannot be stored."""
    import pyarrow as pa

    check_schema(table.schema)
    try:
        table.validate()  # as every reader does
        return EncodedTable(table, origin)
    except own(pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise UnsupportedValue(f"Arrow cannot write this table as an IPC stream: {error}") from error


@lru_cache(maxsize=1024)
def _comes_back(kind: pa.DataType) -> bool:
    """Whether a reader sees a column of this type as it was; only types made of others can fail."""
    import pyarrow as pa

    if not kind.num_fields and not pa.types.is_dictionary(kind):
        return True
    try:
        column = _nulls(kind)
        written = pa.BufferOutputStream()
        with pa.ipc.new_stream(written, pa.schema([pa.field("", kind)])) as writer:
            writer.write_batch(pa.record_batch([column], names=[""]))
        back = pa.ipc.open_stream(written.getvalue()).read_all()
        back.validate(full=True)
    except own(pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError):
        return False
    return bool(back.schema.field(0).type.equals(kind))


def _nulls(kind: pa.DataType) -> pa.Array:
    """Two nulls; none where Arrow cannot make them."""
    import pyarrow as pa

    try:
        column = pa.nulls(2, kind)
        column.validate(full=True)
    except own(pa.ArrowException):
        return pa.nulls(0, kind)
    return column


def _check_type(kind: pa.DataType, column: str, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise UnsupportedValue(f"column {column!r} is nested more than {MAX_DEPTH} deep", column=column)
    name = getattr(kind, "extension_name", None)
    if name is not None and name not in _KNOWN_EXTENSIONS:
        raise UnsupportedValue(
            f"column {column!r} has the extension type {name!r}, which not every reader knows; "
            f"put its storage (column.cast(column.type.storage_type))",
            column=column,
        )
    if name is not None:
        _check_type(kind.storage_type, column, depth + 1)
    for index in range(kind.num_fields):
        _check_type(kind.field(index).type, column, depth + 1)
    value_type = getattr(kind, "value_type", None)
    if value_type is not None and not kind.num_fields:
        _check_type(value_type, column, depth + 1)


@lru_cache(maxsize=128)
def parse_table(frame: bytes) -> TableFrame:
    """What a table's frame says, or ``PlaneCorrupt``; the schema is not decoded."""
    payload = unseal(b"T", frame)
    if len(payload) < _HEAD.size:
        corrupt("its frame is cut short")
    origin, num_rows, num_columns, nbytes = _HEAD.unpack_from(payload)
    if origin >= len(ORIGINS):
        corrupt("its frame has no table's layout")
    return TableFrame(ORIGINS[origin], num_rows, num_columns, nbytes, payload[_HEAD.size :])


@lru_cache(maxsize=128)
def parse_schema(message: bytes) -> pa.Schema:
    """The schema in a frame, or ``PlaneCorrupt``."""
    import pyarrow as pa

    try:
        return pa.ipc.read_schema(pa.py_buffer(message))
    except own(Exception) as error:  # whatever hostile bytes make Arrow raise
        corrupt("its frame has no schema", error)


def read_table(frame: bytes, memory: Memory, columns: Sequence[str] | None = None) -> pa.Table:
    """The table over ``memory``, without a copy; with ``columns``, those alone and in that order.

    Raises:
        ValueError: there is no such column, or more than one of that name.

    Cost: about 2 µs for each column and batch, whatever the number of rows.
    """
    claim = parse_table(frame)
    if claim.nbytes > memory.nbytes:
        corrupt(f"its frame claims {claim.nbytes:,} bytes of {memory.nbytes:,}")
    indices = None if columns is None else find_columns(parse_schema(claim.schema).names, columns)
    table = _read_stream(memory, claim.nbytes, indices)
    if table.num_rows != claim.num_rows:
        corrupt(f"its frame claims {claim.num_rows:,} rows, its stream has {table.num_rows:,}")
    if columns is None:
        if table.num_columns != claim.num_columns:
            corrupt(f"its frame claims {claim.num_columns:,} columns, its stream has {table.num_columns:,}")
        return table
    if sorted(set(columns)) != sorted(table.column_names if columns else ()):
        corrupt("its frame has other columns than its stream")
    return table.select(list(columns))


def read_positions(frame: bytes, memory: Memory, positions: Sequence[int]) -> list[pa.ChunkedArray]:
    """The columns at ascending ``positions``, without a copy; the others are not touched."""
    claim = parse_table(frame)
    if claim.nbytes > memory.nbytes:
        corrupt(f"its frame claims {claim.nbytes:,} bytes of {memory.nbytes:,}")
    if not positions or positions[-1] >= claim.num_columns:
        corrupt(f"column {max(positions, default=0)} of {claim.num_columns} is asked for")
    everything = len(positions) == claim.num_columns
    table = _read_stream(memory, claim.nbytes, None if everything else positions)
    if table.num_columns != len(positions) or table.num_rows != claim.num_rows:
        corrupt("its stream has other columns or rows than its frame claims")
    return table.columns  # type: ignore[no-any-return]


def _read_stream(memory: Memory, nbytes: int, columns: Sequence[int] | None) -> pa.Table:
    import pyarrow as pa

    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=sorted(set(columns))) if columns else None
    try:
        # Safety: the caller compared nbytes with the memory; the buffer is immutable and keeps the lease.
        body = pa.foreign_buffer(memory.address, nbytes, base=memory.lease)
        table = pa.ipc.open_stream(body, options=options).read_all()
        table.validate()
    except own(Exception) as error:  # whatever hostile bytes make Arrow raise
        corrupt("its body is no Arrow stream", error)
    return table if columns != [] else table.select([])


def find_columns(names: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Positions of columns by name; ``ValueError`` naming what is not there, or there twice."""
    if isinstance(columns, (str, bytes)):
        raise TypeError(f"columns is a list of names, not {type(columns).__name__}; write [{columns!r}]")
    for name in columns:
        if names.count(name) != 1:
            found = "more than one column" if name in names else "no column"
            raise ValueError(f"the table has {found} {name!r}; it has {', '.join(map(repr, names))}")
    return [names.index(name) for name in columns]


def nbytes_of(table: pa.Table | pa.RecordBatch) -> int:
    """Bytes of a table's or batch's values; of views, which older versions of Arrow cannot count, of their whole buffers."""
    try:
        return int(table.nbytes)
    except own(TypeError):
        return int(table.get_total_buffer_size())


def check_table(table: pa.Table) -> None:
    """Read every value of a table of doubtful origin; ``PlaneCorrupt`` when one is out of bounds."""
    import pyarrow as pa

    try:
        table.validate(full=True)
    except own(pa.ArrowException, ValueError) as error:
        corrupt("its values are not valid", error)
