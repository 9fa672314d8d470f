"""What goes over the wire: tickets, and what a stream says of the block that it brings, in the metadata of its schema.

A table travels as its record batches. Anything else travels as its bytes, as they lie in the block, in a single column of
``uint8``; its frame, which says how to read them, is in the metadata.

A ticket is the name of a block in UTF-8. One that begins with a zero byte, which no name has, is a JSON object behind it:
``{"name": …, "columns": [names], "rows": [from, to]}``, of which only the name has to be there.

Rule 1. Whoever reads a stream may be connected to anybody: what is said is checked, and compared with what comes.
Rule 2. A program that knows nothing of this sees a table, with two more entries in the metadata.
Rule 3. A ticket comes from anybody: whatever is no ticket is a ``ValueError``, and a long one is not read.
Rule 4. A name is nothing but a name in the one plane that is served: it is looked up there, and never a path.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PlaneCorrupt
from ..names import MAX_BLOCK_NAME_NBYTES, check_block_name
from ..system import own

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "PIECE_NBYTES",
    "Request",
    "Said",
    "check_columns",
    "is_said_column",
    "pack_said",
    "pack_ticket",
    "parse_ticket",
    "read_said",
    "schema_without",
]

#: how much a message has, about
PIECE_NBYTES = 2 << 20

_KEY, _FRAME_KEY = b"shmplane.block", b"shmplane.frame"
_KINDS = {"array", "table", "bytes", "json", "tree", "records", "pickle"}
_MOST_NBYTES = 2**63 - 1
_FORMAT = 1
_MOST_TICKET_NBYTES = 256 << 10
_MOST_ROWS = 2**63 - 1
_KEYS = {"name", "columns", "rows"}


class Said(NamedTuple):
    """What a stream brings.

    Attributes:
        origin: of a table, what it came from, as its frame has it.
        rows: of a table; -1: not said.
        nbytes: of the body; of a table about what its batches have together.
        frame: of anything but a table.
    """

    kind: str
    origin: str = "arrow"
    rows: int = -1
    nbytes: int = 0
    frame: bytes = b""


def pack_said(said: Said, schema: pa.Schema | None = None) -> pa.Schema:
    """The schema of a stream: that of the table, or of bytes, with what is said of it."""
    import pyarrow as pa

    told = {"format": _FORMAT, "kind": said.kind, "origin": said.origin, "rows": said.rows, "nbytes": said.nbytes}
    metadata = {_KEY: json.dumps(told).encode()}
    if schema is None:
        return pa.schema([_column()], metadata={**metadata, _FRAME_KEY: said.frame})
    return schema.with_metadata({**(schema.metadata or {}), **metadata})


def read_said(schema: pa.Schema) -> Said:
    """What a stream says, or ``PlaneCorrupt``; one that says nothing is a table from elsewhere."""
    metadata = schema.metadata or {}
    if _KEY not in metadata:
        return Said("table")
    try:
        told = json.loads(metadata[_KEY])
        if told["format"] != _FORMAT:
            raise PlaneCorrupt(f"the stream is of format {told['format']!r}, and this library reads format {_FORMAT}")
        said = Said(told["kind"], told["origin"], told["rows"], told["nbytes"], metadata.get(_FRAME_KEY, b""))
    except own(ValueError, TypeError, KeyError, RecursionError) as error:
        raise PlaneCorrupt(f"what the stream says of its block cannot be read: {error!r}") from None
    if said.kind not in _KINDS or type(said.origin) is not str:
        raise PlaneCorrupt(
            f"the stream says that it brings a {said.kind!r} from {said.origin!r}, which is nothing known"
        )
    if type(said.rows) is not int or type(said.nbytes) is not int or not 0 <= said.nbytes <= _MOST_NBYTES:
        raise PlaneCorrupt(f"the stream says that it has {said.rows!r} rows in {said.nbytes!r} B, which cannot be")
    return said


def schema_without(schema: pa.Schema) -> pa.Schema:
    """The schema of the table itself."""
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key not in (_KEY, _FRAME_KEY)}
    return schema.with_metadata(metadata or None)


def is_said_column(schema: pa.Schema) -> bool:
    """Whether a stream that says so brings bytes."""
    return len(schema) == 1 and bool(schema.field(0).equals(_column()))


def _column() -> pa.Field:
    import pyarrow as pa

    return pa.field("bytes", pa.uint8(), nullable=False)


class Request(NamedTuple):
    """What of a block is asked for; ``rows``: from the first, to before the second."""

    name: str
    columns: tuple[str, ...] | None = None
    rows: tuple[int, int] | None = None


def pack_ticket(request: Request) -> bytes:
    """The shortest ticket for it."""
    if request.columns is None and request.rows is None:
        return request.name.encode()
    said = {key: value for key, value in request._asdict().items() if value is not None}
    return b"\0" + json.dumps(said).encode()


def parse_ticket(ticket: bytes) -> Request:
    """What a ticket asks for, or ``ValueError`` or ``TypeError`` that says what it is to be."""
    if not ticket.startswith(b"\0"):
        return Request(_name_of(ticket))
    if len(ticket) > _MOST_TICKET_NBYTES:
        raise ValueError(f"a ticket has at most {_MOST_TICKET_NBYTES:,} B, this one {len(ticket):,}")
    try:
        said = json.loads(ticket[1:])
    except own(ValueError, RecursionError) as error:
        raise ValueError(f"what follows the zero byte of a ticket is JSON, and this is not: {error}") from None
    if not isinstance(said, dict) or "name" not in said or said.keys() - _KEYS:
        raise ValueError("the JSON of a ticket is an object with a name and, if need be, columns and rows")
    check_block_name(said["name"])
    columns, rows = said.get("columns"), said.get("rows")
    return Request(
        said["name"], None if columns is None else _columns_of(columns), None if rows is None else _rows_of(rows)
    )


def _name_of(ticket: bytes) -> str:
    if len(ticket) > MAX_BLOCK_NAME_NBYTES:
        raise ValueError(f"a block's name has at most {MAX_BLOCK_NAME_NBYTES} B, this ticket {len(ticket):,}")
    try:
        name = ticket.decode()
    except own(UnicodeDecodeError):
        raise ValueError("a ticket is the name of a block in UTF-8, and this is not UTF-8") from None
    check_block_name(name)
    return name


def _columns_of(columns: Any) -> tuple[str, ...]:
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise ValueError("columns are a list of names")
    return tuple(columns)


def _rows_of(rows: Any) -> tuple[int, int]:
    is_pair = isinstance(rows, list) and len(rows) == 2 and all(type(row) is int for row in rows)
    if not is_pair or not 0 <= rows[0] <= rows[1] <= _MOST_ROWS:
        raise ValueError("rows are two numbers, from the first row to before the second one")
    return rows[0], rows[1]


def check_columns(columns: Sequence[str] | None) -> tuple[str, ...] | None:
    """Columns that a caller asks for; ``TypeError`` for a str, whose letters would be taken for names."""
    if columns is None:
        return None
    if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
        raise TypeError(f"columns are a list of names, not {columns!r}")
    return tuple(columns)
