"""The binary format, column by column, as the classes that declare it say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..tables import WORD_NBYTES, Table

if TYPE_CHECKING:
    from ..manifest import Manifest

__all__ = ["ColumnFacts", "TableFacts", "describe_format"]

#: sorts behind every place in a file
_LAST = 1 << 62


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column; ``offset`` is in bytes from the start of its row."""

    name: str
    offset: int
    nbytes: int
    meaning: str


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table.

    Attributes:
        start: bytes from the start of the manifest; None without a plane.
        rows: how many there are in the plane; None without a plane.
    """

    name: str
    row_nbytes: int
    columns: tuple[ColumnFacts, ...]
    start: int | None = None
    rows: int | None = None


def describe_format(manifest: Manifest | None = None) -> list[TableFacts]:
    """Every table of the format; with ``manifest`` in the order of that file, rows per process last."""
    parts = [] if manifest is None else [part for part in vars(manifest).values() if isinstance(part, Table)]
    placed = {type(part): part for part in parts}
    found = [_describe(table, placed.get(table)) for table in Table.__subclasses__() if _is_ours(table)]
    return sorted(found, key=lambda table: table.start if table.start is not None else _LAST)


def _is_ours(table: type[Table]) -> bool:
    return table.__module__.startswith("shmplane.")


def _describe(table: type[Table], placed: Table | None) -> TableFacts:
    columns, offset = [], 0
    for name, words, meaning in table.describe():
        columns.append(ColumnFacts(name, offset, words * WORD_NBYTES, meaning))
        offset += words * WORD_NBYTES
    if placed is None:
        return TableFacts(table.__name__, offset, tuple(columns))
    return TableFacts(table.__name__, offset, tuple(columns), placed.start * WORD_NBYTES, placed.rows)
