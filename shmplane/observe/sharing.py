"""What a composed block is made of: which pages of an edited array or tree, or columns of an edited table, come from where.

Nothing keeps the block's memory from being used again while it is read; the frame, which is read last, tells by its checksum
whether that happened.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from ..errors import ShmplaneError
from ..manifest import PAGES, PLACES
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
        amount: pages of an array or a tree, columns of a table.
        runs: of pages, in order, how many come next from this source or (negative) from others.
        columns: of a table, their names.
        is_whole: false where there were too many runs to show: then each stretch goes to the rarest source in it.
    """

    source: str
    amount: int
    unit: str
    runs: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    is_whole: bool = True


def read_shares(
    tables: TableCopy, block: Block, segment_path: Callable[[int, bool], str], label_of: Callable[[int], str]
) -> tuple[Share, ...]:
    """What a block with references is made of; nothing when that cannot be told any more."""
    if not 0 <= block.segment < tables.segments.rows or not 0 <= block.stored_nbytes <= _MOST_NBYTES:
        return ()
    with ignoring(ShmplaneError, OSError, ValueError, struct.error, IndexError):
        segments = tables.segments
        is_spilled = PLACES.get(segments.place[block.segment]) == "spill"
        stored, frame = _read(segment_path(segments.id[block.segment], is_spilled), block)
        if crc32(frame) != block.frame_crc:
            return ()
        names = [_name_source(tables, row, label_of) for row in block.references]
        return _of_table(frame, names) if block.kind == "table" else _of_pages(stored, names)
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


def _of_pages(stored: bytes, names: list[str]) -> tuple[Share, ...]:
    extents = [(names[source], pages) for source, _, pages in _EXTENT.iter_unpack(stored)]
    pages_of: dict[str, int] = {}
    for source, pages in extents:
        pages_of[source] = pages_of.get(source, 0) + pages
    runs = _joined(extents)
    is_whole = len(runs) <= _MOST_RUNS
    if not is_whole:
        runs = _joined(_stretches(runs, pages_of))
    return tuple(
        Share(
            name,
            amount,
            "page",
            tuple(pages if source == name else -pages for source, pages in runs),
            is_whole=is_whole,
        )
        for name, amount in sorted(pages_of.items(), key=lambda item: -item[1])
    )


def _joined(runs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """What follows each other from one source, as one run."""
    return [(name, sum(pages for _, pages in some)) for name, some in groupby(runs, key=itemgetter(0))]


def _stretches(runs: list[tuple[str, int]], pages_of: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Equal stretches, each with the rarest source that has a page in it: what few edits touched would not be seen else."""
    length = -(-sum(pages_of.values()) // _MOST_RUNS)
    rarest, missing = "", length
    for name, pages in runs:
        while pages:
            taken = min(pages, missing)
            pages, missing = pages - taken, missing - taken
            rarest = name if not rarest or pages_of[name] < pages_of[rarest] else rarest
            if not missing:
                yield rarest, length
                rarest, missing = "", length
    if rarest:
        yield rarest, length - missing


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
