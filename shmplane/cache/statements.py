"""Rows of a cache's database: what they have, and the statements that take them out.

Constants alone are put into statements (S608); what comes from outside is always a parameter. diskcache's ``store_time`` has
here when an item is out of date, and ``expire_time`` when it goes, which is later with grace. What somebody else wrote into a
row is taken as nothing where its type is not the right one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from .rows import is_file_name

__all__ = ["SELECT", "Row", "Sql", "delete_rows", "remove_file_later", "remove_row", "row_of", "take_out"]

Sql: TypeAlias = Callable[..., Any]  #: executes one statement

SELECT = "SELECT rowid, key, value, filename, size, store_time, tag FROM Cache"


class Row(NamedTuple):
    """What the database has of an item; ``value`` is a record, unchecked."""

    rowid: int
    key: bytes
    value: bytes
    filename: str | None
    nbytes: int  #: of its file, in whole blocks of the file system
    fresh_until: float | None  #: time.time() from which on it is out of date
    tag: str | None


def row_of(found: tuple[Any, ...]) -> Row:
    rowid, key, value, filename, nbytes, fresh_until, tag = found
    return Row(
        rowid,
        key if type(key) is bytes else b"",
        value if type(value) is bytes else b"",
        filename if isinstance(filename, str) else None,
        nbytes if type(nbytes) is int else 0,
        float(fresh_until) if isinstance(fresh_until, (int, float)) else None,
        tag if isinstance(tag, str) else None,
    )


def remove_file_later(sql: Sql, filename: object, nbytes: object) -> None:
    """A file has lost its row, if it is one of ours: it goes, and counts until then."""
    if is_file_name(filename):
        known = nbytes if isinstance(nbytes, int) else 0
        sql("INSERT OR REPLACE INTO Doomed VALUES (?, ?)", (filename, max(0, known)))


def take_out(sql: Sql, rows: list[Row]) -> None:
    for row in rows:
        remove_file_later(sql, row.filename, row.nbytes)
        sql("DELETE FROM Cache WHERE rowid = ?", (row.rowid,))


def delete_rows(sql: Sql, keys: list[bytes], tag: str | None) -> list[Row]:
    found = [sql(f"{SELECT} WHERE key = ? AND raw = 1", (key,)).fetchall() for key in keys]
    rows = [row for rows in found for row in map(row_of, rows) if tag is None or row.tag == tag]
    take_out(sql, rows)
    return rows


def remove_row(sql: Sql, row: Row) -> bool:
    is_there = row in map(row_of, sql(f"{SELECT} WHERE rowid = ?", (row.rowid,)).fetchall())
    if is_there:
        take_out(sql, [row])
    return is_there
