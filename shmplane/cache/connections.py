"""The connections to a cache's database, which diskcache opens, one for each thread, and the transactions of each.

The database is diskcache's, with its schema; rows are read and written in SQL, since it has no call that gives a row without a
value, and its culling keeps no limit.

Rule 1. What begins and ends a transaction is C code of ``sqlite3``: whatever interrupts it, none stays open.
Rule 2. The journal begins anew when it is long, also while others read all the time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import diskcache

from ..errors import PlaneCorrupt
from ..system import check_directory, create_file, ignoring, open_file, own
from .failures import TIMEOUT_S, translated
from .rows import RowDisk, Sql

__all__ = ["Connections"]

P = ParamSpec("P")
R = TypeVar("R")

#: from which on writers wait until nobody reads it, to begin it anew
_LONG_JOURNAL_NBYTES = 2 << 20
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
    "sqlite_wal_autocheckpoint": 384,
}
_TABLES = (
    "CREATE TABLE IF NOT EXISTS Reservation (name TEXT PRIMARY KEY, nest TEXT NOT NULL, nbytes INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS Doomed (name TEXT PRIMARY KEY, nbytes INTEGER NOT NULL)",
)
_INSTANCE = "shmplane_instance"


class Connections:
    """Those of one directory. Safe in threads and forked children, each of which has one of its own.

    Args:
        directory: made with mode 0700 when it is not there; ``PlaneSecurityError`` when it is not ours alone.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        with ignoring(FileExistsError):
            os.mkdir(directory, 0o700)
        check_directory(directory)
        self.path: str = os.path.join(directory, "cache.db")
        # Made here, since SQLite asks the umask; what it makes beside it has the same mode.
        with ignoring(FileExistsError):
            os.close(create_file(self.path))
        os.close(open_file(self.path, writable=True))
        self._cache = diskcache.Cache(directory, timeout=TIMEOUT_S, disk=RowDisk, **_SETTINGS)
        self.disk: RowDisk = self._cache.disk
        instance = self.change(_prepare)
        if not isinstance(instance, str) or not instance.isalnum():
            raise PlaneCorrupt(f"the database of the cache {directory} was written over; remove the directory")
        #: of this database
        self.instance: str = instance

    @property
    def sql(self) -> Sql:
        """Executes one statement, in the connection of this thread."""
        return self._cache._sql  # type: ignore[no-any-return]

    def change(self, operation: Callable[Concatenate[Sql, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What ``operation(sql, ...)`` returns, as one transaction."""
        with translated("writing", self.directory):
            try:
                return self._transact(operation, *args, **kwargs)
            except own(sqlite3.OperationalError) as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                    raise
            # Somebody else filled the file system up.
            self._remove_some_files()
            return self._transact(operation, *args, **kwargs)

    def _transact(self, operation: Callable[Concatenate[Sql, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        connection = self._cache._con
        # It ends in C code: whatever is raised here and wherever, no transaction stays open that would lock others out.
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            result = operation(connection.execute, *args, **kwargs)
        self._shorten_journal(connection.execute)
        return result

    def _shorten_journal(self, sql: Sql) -> None:
        """It begins anew only when nobody reads, which never comes by itself while many do: then it is waited for."""
        with ignoring(OSError, sqlite3.Error):
            if os.stat(self.path + "-wal").st_size > _LONG_JOURNAL_NBYTES:
                sql("PRAGMA busy_timeout = 200").fetchall()
                try:
                    sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    sql(f"PRAGMA busy_timeout = {TIMEOUT_S * 1000:.0f}").fetchall()

    def _remove_some_files(self) -> None:
        """Before their rows, which takes room: they count as missing."""
        found = self.sql(
            "SELECT filename FROM Cache WHERE filename IS NOT NULL ORDER BY access_time LIMIT 16"
        ).fetchall()
        for (name,) in found:
            self.disk.remove(name)
        with ignoring(sqlite3.Error):
            self.sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """End that of this thread."""
        with ignoring(sqlite3.Error):
            self._cache.close()


def _prepare(sql: Sql) -> object:
    for statement in _TABLES:
        sql(statement)
    sql("INSERT OR IGNORE INTO Settings VALUES (?, ?)", (_INSTANCE, os.urandom(8).hex()))
    ((instance,),) = sql("SELECT value FROM Settings WHERE key = ?", (_INSTANCE,)).fetchall()
    return instance
