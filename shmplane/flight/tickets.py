"""Tickets: which block, and what of it.

A ticket is the name of a block in UTF-8. One that begins with a zero byte, which no name has, is a JSON object behind it:
``{"name": …, "columns": [names], "rows": [from, to]}``, of which only the name has to be there.

Rule 1. A ticket comes from anybody: whatever is no ticket is a ``ValueError``, and a long one is not read.
Rule 2. A name is nothing but a name in the one plane that is served: it is looked up there, and never a path.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ..names import MAX_BLOCK_NAME_NBYTES, check_block_name
from ..system import own

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Request", "check_columns", "pack_ticket", "parse_ticket"]

_MOST_NBYTES = 256 << 10
_MOST_ROWS = 2**63 - 1
_KEYS = {"name", "columns", "rows"}


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
    if len(ticket) > _MOST_NBYTES:
        raise ValueError(f"a ticket has at most {_MOST_NBYTES:,} B, this one {len(ticket):,}")
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
