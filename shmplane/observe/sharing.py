"""What a composed block is made of: which pages of an edited array, and which columns of an edited table, come from where.

Nothing keeps the block's memory from being used again while it is read; the frame, which is read last, tells by its checksum
whether that happened.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from ..errors import ShmplaneError
from ..manifest import PAGES
from ..system import ignoring, late, open_file

if TYPE_CHECKING:
    from .. import codecs
    from ..manifest import Block, TableCopy
else:
    codecs = late("shmplane.codecs")

__all__ = ["ADDED", "Share", "read_shares"]

#: what a block is called that has no name of its own, since other blocks show it
ADDED = "what edits and appends added"

#: as arrays store them: which of the blocks that are referred to, its first page, how many
_EXTENT = struct.Struct("<III")
_MOST_NBYTES = 1 << 20
_MOST_RUNS = 40


class Share(NamedTuple):
    """What comes from one block.

    Attributes:
        source: whose it was: a version of a name, or what edits changed.
        amount: pages of an array, columns of a table.
        runs: of an array, in order, the pages that come next, of this source or (negative) of others; empty when there are
            too many to show.
        columns: of a table, their names.
    """

    source: str
    amount: int
    unit: str
    runs: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()


def read_shares(
    tables: TableCopy, block: Block, segment_path: Callable[[int], str], label_of: Callable[[int], str]
) -> tuple[Share, ...]:
    """What a block with references is made of; nothing when that cannot be told any more."""
    if not 0 <= block.segment < tables.segments.rows or not 0 <= block.stored_nbytes <= _MOST_NBYTES:
        return ()
    with ignoring(ShmplaneError, OSError, ValueError, struct.error, IndexError):
        stored, frame = _read(segment_path(tables.segments.id[block.segment]), block)
        if crc32(frame) != block.frame_crc:
            return ()
        names = [_name_source(tables, row, label_of) for row in block.references]
        return _of_array(stored, names) if block.kind == "array" else _of_table(frame, names)
    return ()


def _read(path: str, block: Block) -> tuple[bytes, bytes]:
    fd = open_file(path)
    with os.fdopen(fd, "rb") as file:
        file.seek(block.offset)
        stored = file.read(block.stored_nbytes)
        file.seek(block.offset + (block.stored_nbytes + 7 & ~7))
        return stored, file.read(min(block.frame_nbytes, _MOST_NBYTES))


def _name_source(tables: TableCopy, row: int, label_of: Callable[[int], str]) -> str:
    blocks = tables.blocks
    if blocks.kind[row] == PAGES:
        return "edits"
    version = blocks.version[row]
    return f"{label_of(row)} version {version}" if version else ADDED


def _of_array(stored: bytes, names: list[str]) -> tuple[Share, ...]:
    extents = [(names[source], pages) for source, _, pages in _EXTENT.iter_unpack(stored)]
    runs = [(name, sum(pages for _, pages in some)) for name, some in groupby(extents, key=lambda extent: extent[0])]
    return tuple(
        Share(
            name,
            sum(pages for source, pages in runs if source == name),
            "page",
            tuple(pages if source == name else -pages for source, pages in runs) if len(runs) <= _MOST_RUNS else (),
        )
        for name in dict.fromkeys(source for source, _ in runs)
    )


def _of_table(frame: bytes, names: list[str]) -> tuple[Share, ...]:
    if not codecs.is_composed(frame):
        return ()
    said = codecs.composition_of(frame)
    columns = codecs.parse_schema(said.schema).names
    by_source: dict[str, list[str]] = {}
    for column, pieces in zip(columns, said.columns, strict=True):
        for name in dict.fromkeys(names[piece.part] for piece in pieces):
            by_source.setdefault(name, []).append(column)
    return tuple(Share(name, len(some), "column", columns=tuple(some)) for name, some in by_source.items())
