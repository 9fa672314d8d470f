"""Composed tables: columns whose pieces lie in several blocks, each a plain table (a *part*).

The frame says which: for each column, in order, the part and the position in it of every piece; a piece is always a
whole column of its part. So a version that adds a column, or rows, repeats nothing of the one before.

Rule 1. The frame is all that a composed table has; packing and unpacking it takes no Arrow, so that it can be done
        under a lock.
Rule 2. What it claims is checked when it is read: positions against the parts' columns, the pieces' lengths against
        the number of rows, their types against the schema.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .envelope import corrupt, seal, unseal
from .table import ORIGINS, EncodedTable, encode_table, find_columns, parse_schema, parse_table, read_positions

if TYPE_CHECKING:
    import pyarrow as pa

    from .base import Memory

__all__ = [
    "Composition",
    "Part",
    "Piece",
    "check_composition",
    "composition_of",
    "flatten",
    "is_composed",
    "join_chunks",
    "pack_composition",
    "read_composed",
    "read_pieces",
]

_TAG = b"C"
_HEAD = struct.Struct("<BQII")  #: origin, rows, columns, bytes of the schema
_MOST_PIECES = 1 << 20


class Piece(NamedTuple):
    """A column of a part."""

    part: int
    position: int


class Composition(NamedTuple):
    """What a table consists of; a plain one is the only part of itself."""

    origin: str
    num_rows: int
    columns: tuple[tuple[Piece, ...], ...]
    schema: bytes  #: as an IPC message

    @property
    def parts(self) -> set[int]:
        """The parts in use."""
        return {piece.part for pieces in self.columns for piece in pieces}


class Part(NamedTuple):
    """A plain table that a composed one shows columns of."""

    frame: bytes
    memory: Memory


def is_composed(frame: bytes) -> bool:
    """Whether a table's frame is that of a composed one."""
    return frame[1:2] == _TAG


def pack_composition(said: Composition) -> bytes:
    """The frame of a composed table."""
    origin, columns = ORIGINS.index(said.origin), said.columns
    head = _HEAD.pack(origin, said.num_rows, len(columns), len(said.schema))
    counts = struct.pack(f"<{len(columns)}H", *map(len, columns))
    flat = [number for pieces in columns for piece in pieces for number in piece]
    return seal(_TAG, head + said.schema + counts + struct.pack("<" + "HI" * (len(flat) // 2), *flat))


@lru_cache(maxsize=128)
def composition_of(frame: bytes) -> Composition:
    """What a table of either form consists of, or ``PlaneCorrupt``."""
    if not is_composed(frame):
        claim = parse_table(frame)
        if claim.num_columns > len(claim.schema):
            corrupt(f"its frame claims {claim.num_columns:,} columns, more than its schema has bytes")
        whole: tuple[tuple[Piece, ...], ...] = tuple((Piece(0, position),) for position in range(claim.num_columns))
        return Composition(claim.origin, claim.num_rows, whole, claim.schema)
    payload = unseal(_TAG, frame)
    if len(payload) < _HEAD.size:
        corrupt("its frame is cut short")
    origin, num_rows, num_columns, schema_nbytes = _HEAD.unpack_from(payload)
    counts_at = _HEAD.size + schema_nbytes
    pieces_at = counts_at + 2 * num_columns
    if origin >= len(ORIGINS) or pieces_at > len(payload):
        corrupt("its frame has no composed table's layout")
    counts = struct.unpack_from(f"<{num_columns}H", payload, counts_at)
    if sum(counts) > _MOST_PIECES or len(payload) - pieces_at != 6 * sum(counts):
        corrupt("its frame has no composed table's layout")
    pieces = struct.iter_unpack("<HI", payload[pieces_at:])
    columns = tuple(tuple(Piece(*next(pieces)) for _ in range(count)) for count in counts)
    return Composition(ORIGINS[origin], num_rows, columns, payload[_HEAD.size : counts_at])


def read_composed(frame: bytes, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pa.Table:
    """The table over the memory of its parts, without a copy; with ``columns``, those alone and in that order.

    Raises:
        ValueError: there is no such column, or more than one of that name.

    Cost: about 40 µs a part and 2 µs for each piece.
    """
    import pyarrow as pa

    said = composition_of(frame)
    schema = parse_schema(said.schema)
    check_composition(said, schema, len(parts))
    wanted = range(len(schema)) if columns is None else find_columns(schema.names, columns)
    found = read_pieces(parts, (piece for index in wanted for piece in said.columns[index]))
    fields = [schema.field(index) for index in wanted]
    arrays = [
        join_chunks(field, (found[piece] for piece in said.columns[index]), said.num_rows)
        for index, field in zip(wanted, fields, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.metadata))


def check_composition(said: Composition, schema: pa.Schema, parts: int) -> None:
    """``PlaneCorrupt`` unless each field has a column, and all columns are those of ``parts`` parts."""
    if len(schema) != len(said.columns):
        corrupt(f"its frame has {len(schema):,} fields for {len(said.columns):,} columns")
    if any(part >= parts for part in said.parts):
        corrupt(f"its frame shows columns of {max(said.parts) + 1:,} parts, and there are {parts:,}")


def join_chunks(field: pa.Field, pieces: Iterable[pa.ChunkedArray], num_rows: int | None = None) -> pa.ChunkedArray:
    """One column of its pieces; ``PlaneCorrupt`` unless they are of its type, and as many rows when that is known."""
    import pyarrow as pa

    chunks = [chunk for piece in pieces for chunk in piece.chunks]
    if any(chunk.type != field.type for chunk in chunks) or num_rows not in (None, sum(map(len, chunks))):
        corrupt(f"column {field.name!r} has other rows, or another type, than its frame claims")
    return pa.chunked_array(chunks, type=field.type)


def flatten(frame: bytes, parts: Sequence[Part]) -> EncodedTable:
    """A composed table as a plain one of the same origin, ready to be written."""
    said = composition_of(frame)
    return encode_table(read_composed(frame, parts), said.origin)


def read_pieces(parts: Sequence[Part], pieces: Iterable[Piece]) -> dict[Piece, pa.ChunkedArray]:
    """Columns of parts, without a copy."""
    positions: dict[int, set[int]] = {}
    for piece in pieces:
        positions.setdefault(piece.part, set()).add(piece.position)
    found = {}
    for number, wanted in positions.items():
        if number >= len(parts) or is_composed(parts[number].frame):
            corrupt(f"its frame shows columns of part {number}, which is none")
        chosen = sorted(wanted)
        arrays = read_positions(parts[number].frame, parts[number].memory, chosen)
        found.update({Piece(number, position): array for position, array in zip(chosen, arrays, strict=True)})
    return found
