"""One version of a table as edits and appends see it: what it consists of, and which blocks have its columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ... import codecs
from ...manifest import KIND_CODES, BlockFacts, Contents
from ..blocks.publish import StoredBytes, describe_contents, store

if TYPE_CHECKING:
    import pyarrow as pa

    from ...codecs import Composition, Encoded, Piece
    from ..blocks.claims import Lease
    from ..blocks.target import Target
    from ..process.attachment import Attachment

__all__ = ["TableVersion", "contents_of_composition", "store_composition"]


class TableVersion:
    """A leased version of a table. A plain one is its own only source."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.said: Composition = codecs.composition_of(lease.frame())
        self.sources: tuple[BlockFacts, ...] = lease.facts.references or (lease.facts,)
        codecs.check_composition(self.said, self.schema, len(self.sources))

    @property
    def schema(self) -> pa.Schema:
        return codecs.parse_schema(self.said.schema)

    def read(self, pieces: Iterable[Piece]) -> dict[Piece, pa.ChunkedArray]:
        """Columns of its sources, without a copy."""
        parts = self.lease.parts()
        if not parts:
            self.lease.open()
            parts = [codecs.Part(self.lease.frame(), self.lease)]
        return codecs.read_pieces(parts, pieces)

    def table(self, *, last: int | None = None) -> pa.Table:
        """All of it, or the rows of the last pieces of every column."""
        import pyarrow as pa

        columns = [pieces if last is None else pieces[-last:] for pieces in self.said.columns]
        found = self.read(piece for pieces in columns for piece in pieces)
        arrays = [
            codecs.join_chunks(field, (found[piece] for piece in pieces), self.said.num_rows if last is None else None)
            for pieces, field in zip(columns, self.schema, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def sample(self) -> pa.Table:
        """No rows, with the dictionaries of the first ones."""
        import pyarrow as pa

        found = self.read(piece for pieces in self.said.columns for piece in pieces[:1])
        arrays: list[Any] = []
        for pieces, field in zip(self.said.columns, self.schema, strict=True):
            column = codecs.join_chunks(field, [found[piece] for piece in pieces[:1]])
            arrays.append(pa.chunked_array([chunk.slice(0, 0) for chunk in column.chunks[:1]], type=field.type))
        return pa.Table.from_arrays(arrays, schema=self.schema)


def contents_of_composition(said: Composition, nbytes: int) -> Contents:
    """What a composed table's row says; all it stores is its frame."""
    return describe_contents(KIND_CODES["table"], nbytes, codecs.pack_composition(said), stored_nbytes=0)


def store_composition(
    attachment: Attachment,
    target: Target,
    said: Composition,
    *,
    nbytes: int,
    parts: Sequence[Encoded],
    references: Sequence[int],
) -> Lease:
    """Publish a composed table if the name has not moved."""
    contents = contents_of_composition(said, nbytes)
    body = StoredBytes("table", contents.frame, b"")
    return store(attachment, target, contents, body, parts=parts, references=references)
