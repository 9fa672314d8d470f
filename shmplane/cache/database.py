"""The directory of a cache: its database, which has a row for every item, and the limit of its bytes.

The database is diskcache's, with its schema, connections and transactions; rows are read and written in SQL here, since
diskcache has no call that gives a row without a value, and its culling keeps no limit.

Rule 1. Bytes are reserved before they are written: a file's name and size stand in ``Reservation`` first. What a killed writer
left is found by that, without reading the directory.
Rule 2. A file that lost its row stands in ``Doomed`` until it is gone, and counts until then.
Rule 3. So at every instant files + database <= limit; the journal comes on top, at most 4 MiB.
Rule 4. Every statement may be the last one of its process: each transaction leaves a state that the next writer goes on from.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import diskcache

from ..errors import PlaneCorrupt, ShmplaneError
from ..system import check_directory, create_file, exists, ignoring, open_file
from .failures import translated
from .nests import Nests
from .rows import RowDisk, is_file_name

__all__ = ["Database", "Going", "Row"]

_PAGE_NBYTES = 4096
_BLOCK_NBYTES = 4096
_TIMEOUT_S = 10.0
#: pages that a row may add to the indices, the map of pointers and the lists of free pages
_SPARE_PAGES = 8
_MOST_TRIES = 50
#: rows that one transaction takes out
_AT_ONCE = 16
_SETTINGS = {
    "cull_limit": 0,
    "eviction_policy": "least-recently-used",  # for its index
    "size_limit": 1 << 62,
    "statistics": 0,
    "tag_index": 1,
    "disk_min_file_size": 0,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 512,
    "sqlite_journal_mode": "wal",
    "sqlite_journal_size_limit": 1 << 20,
    "sqlite_mmap_size": 0,  # a database that somebody cuts must be an error, not SIGBUS
    "sqlite_synchronous": 1,
    "sqlite_trusted_schema": 0,
    "sqlite_wal_autocheckpoint": 128,
}
_TABLES = (
    "CREATE TABLE IF NOT EXISTS Reservation (name TEXT PRIMARY KEY, nest TEXT NOT NULL, nbytes INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS Doomed (name TEXT PRIMARY KEY, nbytes INTEGER NOT NULL)",
)
_INSTANCE = "shmplane_instance"
# Constants alone are put into statements (S608); what comes from outside is always a parameter.
# diskcache's store_time has here when an item is out of date, and expire_time when it goes, which is later with grace.
_SELECT = "SELECT rowid, key, value, filename, size, store_time, tag FROM Cache"
_IS_FRESH = "(store_time IS NULL OR store_time > :now)"
#: what the database takes with nothing in it, generously
_EMPTY_NBYTES = 24 * _PAGE_NBYTES


class Going(Protocol):
    """Who is asked before an item goes for want of room."""

    def may_go(self, key: bytes) -> bool:
        """Drop it from memory, and keep it from coming back, or say no."""

    def gone(self) -> None:
        """The rows of all that were asked for are gone, or stay."""


class Row(NamedTuple):
    """What the database has of an item; ``value`` is a record, unchecked."""

    rowid: int
    key: bytes
    value: bytes
    filename: str | None
    nbytes: int  #: of its file, in whole blocks of the file system
    fresh_until: float | None  #: time.time() from which on it is out of date
    tag: str | None


class Database:
    """One directory. Safe in threads and forked children, each of which has a connection of its own.

    Args:
        directory: made with mode 0700 when it is not there; ``PlaneSecurityError`` when it is not ours alone.
        limit_nbytes: of files and database.
    """

    def __init__(self, directory: str, limit_nbytes: int) -> None:
        self.directory, self.limit_nbytes = directory, limit_nbytes
        with self._translated("opening"):
            os.makedirs(os.path.dirname(directory), exist_ok=True)
            with ignoring(FileExistsError):
                os.mkdir(directory, 0o700)
            check_directory(directory)
            self._path = os.path.join(directory, "cache.db")
            # Made here, since SQLite asks the umask; what it makes beside it has the same mode.
            with ignoring(FileExistsError):
                os.close(create_file(self._path))
            os.close(open_file(self._path, writable=True))
            self._cache = diskcache.Cache(directory, timeout=_TIMEOUT_S, disk=RowDisk, **_SETTINGS)
            self._disk: RowDisk = self._cache.disk
            with self._transaction() as sql:
                for statement in _TABLES:
                    sql(statement)
                sql("INSERT OR IGNORE INTO Settings VALUES (?, ?)", (_INSTANCE, os.urandom(8).hex()))
                ((instance,),) = sql("SELECT value FROM Settings WHERE key = ?", (_INSTANCE,)).fetchall()
            if not isinstance(instance, str) or not instance.isalnum():
                raise PlaneCorrupt(f"the database of the cache {directory} was written over; remove the directory")
            #: tells this database from another one that is made at the same path later
            self.instance: str = instance
            self._nests = Nests(os.path.join(directory, "writers"))
            self.reclaim()

    # Reading

    def find(self, key: bytes) -> Row | None:
        """The row of a key, out of date or not."""
        with self._translated("reading"):
            rows = self._sql(f"{_SELECT} WHERE key = ? AND raw = 1", (key,)).fetchall()
            return _row(rows[0]) if rows else None

    def count(self, now: float) -> int:
        """How many items are not out of date."""
        with self._translated("reading"):
            found = self._sql(f"SELECT COUNT(*) FROM Cache WHERE {_IS_FRESH}", {"now": now}).fetchall()  # noqa: S608
            return int(found[0][0])

    def keys(self, now: float, *, after: int = 0) -> list[tuple[int, bytes]]:
        """Some rows and their keys in order, those after a row."""
        statement = f"SELECT rowid, key FROM Cache WHERE rowid > :after AND {_IS_FRESH} ORDER BY rowid LIMIT 256"  # noqa: S608
        with self._translated("reading"):
            found = self._sql(statement, {"after": after, "now": now}).fetchall()
            return [(rowid, key) for rowid, key in found if type(key) is bytes]

    def path_of(self, row: Row) -> str | None:
        """Where its file is; None when its name is none of ours."""
        return os.path.join(self.directory, row.filename) if is_file_name(row.filename) else None  # type: ignore[arg-type]

    def used_nbytes(self) -> int:
        """B of files and database, reserved ones included."""
        with self._translated("reading"):
            return self._used(self._sql)

    # Writing

    def could_hold(self, nbytes: int, row_nbytes: int) -> bool:
        """Whether there would be room if nothing else were there."""
        return _EMPTY_NBYTES + _blocks(nbytes) + _row_room(row_nbytes) <= self.limit_nbytes

    def reserve(self, nbytes: int, row_nbytes: int, going: Going) -> str | None:
        """A name for a file of ``nbytes`` (0: there is none to be), whose room is ours; None when there is not enough.

        Others go to make room: first what is out of date, then what was not used for longest.

        Args:
            row_nbytes: what its row takes.
            going: asked for each key whose row is to go, and told when it has gone.
        """
        needed = _blocks(nbytes) + _row_room(row_nbytes)
        name, _ = self._disk.filename()
        skipped = tries = 0
        while True:
            is_stuck = True
            try:
                with self._transaction() as sql:
                    excess = self._used(sql) + needed - self.limit_nbytes
                    if excess <= 0:
                        sql("INSERT INTO Reservation VALUES (?, ?, ?)", (name, self._nests.ours(), needed))
                        return name
                    victims = self._victims(sql, skipped)
                    taken, refused = _choose(victims, excess, going)
                    self._take_out(sql, taken)
                    skipped += refused
                    is_stuck = not victims
            finally:
                going.gone()
            if not self.remove_doomed() and is_stuck:
                tries += 1
                # What others have reserved, or what is busy, may be free in a moment.
                if tries > _MOST_TRIES or (not self.reclaim() and not self._others_write(name)):
                    return None
                skipped = 0
                time.sleep(0.002 * tries)

    def _others_write(self, name: str) -> bool:
        with self._translated("reading"):
            return bool(self._sql("SELECT 1 FROM Reservation WHERE name != ? LIMIT 1", (name,)).fetchall())

    def write(self, name: str, value: Any, write: Callable[[int, Any], None]) -> str:
        """Make the file that a reservation names, by ``write(fd, value)``; its path."""
        path = os.path.join(self.directory, name)
        with self._translated("writing"):
            with ignoring(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            fd = create_file(path)
            try:
                write(fd, value)
            finally:
                os.close(fd)
        return path

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        name: str,
        file_nbytes: int,
        row_nbytes: int,
        fresh_until: float | None,
        gone_at: float | None,
        tag: str | None,
    ) -> bool:
        """Write an item's row in place of any other; its reservation ends.

        Args:
            name: of the reservation; empty: there is none, and nothing is written when there is no room.
            file_nbytes: 0 when it has no file.
            row_nbytes: what the row takes, where nothing is reserved.
        """
        now, filename = time.time(), name if file_nbytes else None
        with self._transaction() as sql:
            if not name and self._used(sql) + _row_room(row_nbytes) > self.limit_nbytes:
                return False
            old = sql(f"{_SELECT} WHERE key = ? AND raw = 1", (key,)).fetchall()
            self._take_out(sql, [_row(row) for row in old])
            sql(
                "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename,"
                " value) VALUES (?, 1, ?, ?, ?, 0, ?, ?, 1, ?, ?)",
                (key, fresh_until, gone_at, now, tag, _blocks(file_nbytes), filename, value),
            )
            if name:
                sql("DELETE FROM Reservation WHERE name = ?", (name,))
            late = sql(f"{_SELECT} WHERE expire_time < ? AND key != ? LIMIT {_AT_ONCE}", (now, key)).fetchall()
            self._take_out(sql, [_row(row) for row in late])
            doomed = any(row[3] for row in (*old, *late))
        if doomed:
            self.remove_doomed()
        return True

    def abandon(self, name: str) -> None:
        """A reservation comes to nothing; its file, if there is one, goes."""
        with ignoring(ShmplaneError), self._transaction() as sql:
            self._disk.remove(name)
            sql("DELETE FROM Reservation WHERE name = ?", (name,))

    def delete(self, key: bytes, *, only: Row | None = None) -> bool:
        """Take an item out; with ``only``, when it is still that very row. Whether there was one."""
        with self._transaction() as sql:
            rows = [_row(row) for row in sql(f"{_SELECT} WHERE key = ? AND raw = 1", (key,)).fetchall()]
            taken = [row for row in rows if only is None or row == only]
            self._take_out(sql, taken)
        if any(row.filename for row in taken):
            self.remove_doomed()
        return bool(taken)

    def delete_all(self, *, tag: str | None = None) -> list[bytes]:
        """Take out all items, or those of a tag; their keys."""
        condition, parameters = ("", ()) if tag is None else (" WHERE tag = ?", (tag,))
        with self._transaction() as sql:
            rows = [_row(row) for row in sql(_SELECT + condition, parameters).fetchall()]
            self._take_out(sql, rows)
        while self.remove_doomed():
            pass
        return [row.key for row in rows]

    def keys_of(self, tag: str | None) -> list[bytes]:
        """All keys, also of what is out of date, or those of a tag."""
        condition, parameters = ("", ()) if tag is None else (" WHERE tag = ?", (tag,))
        with self._translated("reading"):
            return [key for (key,) in self._sql("SELECT key FROM Cache" + condition, parameters).fetchall() if key]  # noqa: S608

    def touch(self, rowid: int) -> None:
        """It was used. A hint for what goes first, so nobody waits for it."""
        with ignoring(ShmplaneError), self._translated("reading"):
            self._sql("UPDATE Cache SET access_time = ? WHERE rowid = ?", (time.time(), rowid))

    def remove_doomed(self) -> int:
        """Remove files whose rows are gone, whoever took them out; how many are gone now."""
        with self._translated("reading"):
            names = [name for (name,) in self._sql("SELECT name FROM Doomed LIMIT 256").fetchall()]
        if not names:
            return 0
        for name in names:
            self._disk.remove(name)
        gone = [(name,) for name in names if not is_file_name(name) or not exists(os.path.join(self.directory, name))]
        with self._transaction() as sql:
            for parameters in gone:
                sql("DELETE FROM Doomed WHERE name = ?", parameters)
        return len(gone)

    def reclaim(self) -> int:
        """Give back what killed writers had reserved and begun; how many there were."""
        with self._translated("reading"):
            nests = {nest for (nest,) in self._sql("SELECT DISTINCT nest FROM Reservation").fetchall()}
        dead = [nest for nest in nests if self._nests.is_dead(nest)]
        if not dead:
            self._nests.clear()
            return 0
        count = 0
        for nest in dead:
            with self._transaction() as sql:
                names = [name for (name,) in sql("SELECT name FROM Reservation WHERE nest = ?", (nest,)).fetchall()]
                for name in names:
                    self._disk.remove(name)
                sql("DELETE FROM Reservation WHERE nest = ?", (nest,))
            count += len(names)
        self._nests.clear()
        self.remove_doomed()
        return count

    def close(self) -> None:
        """End this process's connection."""
        self._nests.leave()
        with ignoring(sqlite3.Error):
            self._cache.close()

    # Inside of a transaction

    def _used(self, sql: Callable[..., Any]) -> int:
        ((files,),) = sql("SELECT value FROM Settings WHERE key = 'size'").fetchall()
        ((reserved,),) = sql("SELECT TOTAL(nbytes) FROM Reservation").fetchall()
        ((doomed,),) = sql("SELECT TOTAL(nbytes) FROM Doomed").fetchall()
        ((pages,),) = sql("PRAGMA page_count").fetchall()
        database = max(pages * _PAGE_NBYTES, os.stat(self._path).st_size)
        return int(files) + int(reserved) + int(doomed) + int(database)

    def _victims(self, sql: Callable[..., Any], skipped: int) -> list[Row]:
        late = sql(f"{_SELECT} WHERE expire_time < ? LIMIT {_AT_ONCE}", (time.time(),)).fetchall()
        found = late or sql(f"{_SELECT} ORDER BY access_time LIMIT {_AT_ONCE} OFFSET {int(skipped)}").fetchall()
        return [_row(row) for row in found]

    def _take_out(self, sql: Callable[..., Any], rows: list[Row]) -> None:
        for row in rows:
            if is_file_name(row.filename):
                sql("INSERT OR REPLACE INTO Doomed VALUES (?, ?)", (row.filename, max(0, row.nbytes)))
            sql("DELETE FROM Cache WHERE rowid = ?", (row.rowid,))

    # Connections and errors

    @property
    def _sql(self) -> Callable[..., Any]:
        return self._cache._sql  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Callable[..., Any]]:
        with self._translated("writing"), self._cache._transact() as (sql, _):
            yield sql

    def _translated(self, what: str) -> contextlib.AbstractContextManager[None]:
        return translated(what, self.directory, _TIMEOUT_S)


def _choose(victims: list[Row], excess: int, going: Going) -> tuple[list[Row], int]:
    """As many as free enough, and how many may not go."""
    taken: list[Row] = []
    refused = 0
    for row in victims:
        if excess <= 0:
            break
        if going.may_go(row.key):
            taken.append(row)
            excess -= row.nbytes + len(row.key) + len(row.value)
        else:
            refused += 1
    return taken, refused


def _row(found: tuple[Any, ...]) -> Row:
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


def _blocks(nbytes: int) -> int:
    return -(-nbytes // _BLOCK_NBYTES) * _BLOCK_NBYTES


def _row_room(nbytes: int) -> int:
    return _blocks(nbytes) + _SPARE_PAGES * _PAGE_NBYTES
