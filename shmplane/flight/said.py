"""What a stream says of the block that it brings, in the metadata of its schema.

A table travels as its record batches. Anything else travels as its bytes, as they lie in the block, in a single column of
``uint8``; its frame, which says how to read them, is in the metadata.

Rule 1. Whoever reads a stream may be connected to anybody: what is said is checked, and compared with what comes.
Rule 2. A program that knows nothing of this sees a table, with two more entries in the metadata.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PlaneCorrupt
from ..system import own

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PIECE_NBYTES", "Said", "is_said_column", "pack_said", "read_said", "schema_without"]

#: how much a message has, about
PIECE_NBYTES = 2 << 20

_KEY, _FRAME_KEY = b"shmplane.block", b"shmplane.frame"
_KINDS = {"array", "table", "bytes", "json", "tree", "records", "pickle"}
_MOST_NBYTES = 2**63 - 1
_FORMAT = 1


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
