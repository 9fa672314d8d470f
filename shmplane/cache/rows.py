"""The rows of a cache's database: bytes in, bytes out; and the statements that take them out.

diskcache's own ``Disk`` unpickles what a row or file says is a pickle, so whoever can write a row runs code
(CVE-2025-69872). ``RowDisk`` can neither make nor read a pickle: keys and values are ``bytes``, anything else counts as
damaged, and paths stay inside.

Constants alone are put into statements (S608); what comes from outside is always a parameter. diskcache's ``store_time`` has
here when an item is out of date, and ``expire_time`` when it goes, which is later with grace. What somebody else wrote into a
row is taken as nothing where its type is not the right one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import diskcache

from ..errors import PlaneCorrupt
from ..system import ignoring

__all__ = [
    "Row",
    "RowDisk",
    "SELECT",
    "Sql",
    "delete_rows",
    "is_file_name",
    "remove_file_later",
    "remove_row",
    "row_of",
    "take_out",
]

_FILE_NAME = re.compile(r"v[0-9a-f]{2}/[0-9a-f]{30}\.val", re.ASCII)
_RAW = 1  #: diskcache's mode of a value that is in its row


def is_file_name(name: object) -> bool:
    """Whether a row's file is one of those that this cache makes: not a path to anywhere else."""
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None


class RowDisk(diskcache.Disk):  # type: ignore[misc]
    """Stores what it is given when that is ``bytes``."""

    def __init__(self, directory: str, **_: Any) -> None:  # settings of the stock one may stand in the database
        super().__init__(directory)

    def put(self, key: Any) -> tuple[bytes, bool]:
        if type(key) is not bytes:
            raise TypeError(f"keys of the database are bytes, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: Any) -> bytes:
        if type(key) is not bytes or not raw:
            raise PlaneCorrupt("a key of the cache's database was not written by this library")
        return key

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, str | None, bytes]:  # noqa: ARG002
        if type(value) is not bytes or read:
            raise TypeError(f"values of the database are bytes, not {type(value).__name__}")
        return 0, _RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes:  # noqa: ARG002
        if mode != _RAW or type(value) is not bytes:
            raise PlaneCorrupt("a value of the cache's database was not written by this library")
        return value

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:  # noqa: ARG002
        token = os.urandom(16).hex()
        name = f"v{token[:2]}/{token[2:]}.val"
        return name, os.path.join(self._directory, name)

    def remove(self, file_path: Any) -> None:
        if is_file_name(file_path):
            with ignoring(OSError):
                os.unlink(os.path.join(self._directory, file_path))


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
