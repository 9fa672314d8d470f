"""The directory of a cache: its database, which has a row for every item, and the limit of its bytes.

Rule 1. Bytes are reserved before they are written: a file's name and size stand in ``Reservation`` first. What a killed writer
left is found by that, without reading the directory.
Rule 2. A file that lost its row stands in ``Doomed`` until it is gone, and counts until then.
Rule 3. So at every instant files + database <= limit; the journal comes on top, at most 4 MiB.
Rule 4. Every statement may be the last one of its process: each transaction leaves a state that the next writer goes on from.
Rule 5. So it is when a call is interrupted: what is reserved for a ``Reserved`` that nobody has any more is given back by
whoever reserves next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

from ..errors import PlaneFull, ShmplaneError
from ..system import create_file, disk_of, exists, ignoring
from .connections import Connections
from .failures import translated
from .nests import Nests
from .rows import SELECT, Row, RowDisk, Sql, delete_rows, is_file_name, remove_file_later, remove_row, row_of, take_out

__all__ = ["Database", "Reserved", "Row"]

_PAGE_NBYTES = 4096
_BLOCK_NBYTES = 4096
#: pages that a row may add to the indices, the map of pointers and the lists of free pages
_SPARE_PAGES = 8
_MOST_TRIES = 50
#: rows that one transaction takes out
_AT_ONCE = 16
_IS_FRESH = "(store_time IS NULL OR store_time > :now)"
_USED = (
    "SELECT (SELECT value FROM Settings WHERE key = 'size'), (SELECT TOTAL(nbytes) FROM Reservation),"
    " (SELECT TOTAL(nbytes) FROM Doomed), (SELECT page_count FROM pragma_page_count())"
)
#: what stays free of the file system, so that rows can be taken out when it is full: that makes the journal longer first
_KEPT_FREE_NBYTES = 1 << 20
#: what the database takes with nothing in it, generously
_EMPTY_NBYTES = 24 * _PAGE_NBYTES


class Reserved:
    """Room for an item that is being written, for as long as somebody has this object."""

    __slots__ = ("__weakref__", "name")

    def __init__(self, name: str) -> None:
        self.name = name  #: of its file, if it is to have one


class Database:
    """One directory. Safe in threads and forked children, each of which has a connection of its own.

    Args:
        directory: made with mode 0700 when it is not there; ``PlaneSecurityError`` when it is not ours alone.
        limit_nbytes: of files and database.
    """

    def __init__(self, directory: str, limit_nbytes: int) -> None:
        self.directory, self.limit_nbytes = directory, limit_nbytes
        with translated("opening", directory):
            self._connections = Connections(directory)
            self._disk: RowDisk = self._connections.disk
            #: tells this database from another one that is made at the same path later
            self.instance: str = self._connections.instance
            self._nests = Nests(os.path.join(directory, "writers"))
            #: what this process has reserved
            self._reserved: dict[str, ref[Reserved]] = {}
            self.reclaim()

    # Reading

    def find(self, key: bytes) -> Row | None:
        """The row of a key, out of date or not."""
        rows = self._read(f"{SELECT} WHERE key = ? AND raw = 1", (key,))
        return row_of(rows[0]) if rows else None

    def count(self, now: float) -> int:
        """How many items are not out of date."""
        return int(self._read(f"SELECT COUNT(*) FROM Cache WHERE {_IS_FRESH}", {"now": now})[0][0])  # noqa: S608

    def keys(self, now: float, *, after: int = 0) -> list[tuple[int, bytes]]:
        """Some rows and their keys in order, those after a row."""
        statement = f"SELECT rowid, key FROM Cache WHERE rowid > :after AND {_IS_FRESH} ORDER BY rowid LIMIT 256"  # noqa: S608
        found = self._read(statement, {"after": after, "now": now})
        return [(rowid, key) for rowid, key in found if type(key) is bytes]

    def path_of(self, row: Row) -> str | None:
        """Where its file is; None when its name is none of ours."""
        return os.path.join(self.directory, row.filename) if is_file_name(row.filename) else None  # type: ignore[arg-type]

    def used_nbytes(self) -> int:
        """B of files and database, reserved ones included."""
        with translated("reading", self.directory):
            return self._used(self._sql)

    # Writing

    def could_hold(self, nbytes: int, row_nbytes: int) -> bool:
        """Whether there would be room if nothing else were there."""
        return _EMPTY_NBYTES + _blocks(nbytes) + _row_room(row_nbytes) <= self.limit_nbytes

    def reserve(self, nbytes: int, row_nbytes: int, make_room: Callable[[Row], int | None]) -> Reserved | None:
        """Room for a file of ``nbytes`` (0: there is none to be) and its row; None when there is not enough within the limit.

        Others go to make room: first what is out of date, then what was not used for longest. ``PlaneFull`` when the file
        system has none although nothing is left that could go.

        Args:
            row_nbytes: what its row takes.
            make_room: takes an item out, which is B that come free; 0 when it was spared and is no longer among the first;
                None when it is busy.
        """
        needed = _blocks(nbytes) + _row_room(row_nbytes)
        reserved = Reserved(self._disk.filename()[0])
        self._reserved[reserved.name] = ref(reserved)
        skipped = tries = 0
        while True:
            excess = self._connections.change(self._try_reserve, reserved.name, needed)
            if excess <= 0:
                return reserved
            victims = self._victims(skipped)
            for row in victims:
                if excess <= 0:
                    break
                came_free = make_room(row)
                if came_free is None:
                    skipped += 1
                else:
                    excess -= came_free
            if not self.remove_doomed() and not victims:
                tries += 1
                # What others have reserved, or what is busy, may be free in a moment.
                if tries > _MOST_TRIES or not (self.reclaim() or skipped or self._others_write(reserved.name)):
                    self._reserved.pop(reserved.name, None)
                    if excess > self._used(self._sql) + needed - self.limit_nbytes:
                        raise PlaneFull(
                            f"writing the cache {self.directory}: its file system lacks {excess:,} B. Free some room there, or "
                            f"use another directory.",
                            directory=self.directory,
                        )
                    return None
                skipped = 0
                time.sleep(0.002 * tries)

    def _try_reserve(self, sql: Sql, name: str, nbytes: int) -> int:
        """How many B are missing; 0 or less: it is reserved."""
        nest = self._nests.ours()
        self._release_lost(sql, nest)
        excess = self._excess(sql, nbytes)
        if excess <= 0:
            sql("INSERT INTO Reservation VALUES (?, ?, ?)", (name, nest, nbytes))
        return excess

    def _release_lost(self, sql: Sql, nest: str) -> None:
        """What calls had reserved that were interrupted."""
        for lost in [name for name, its in list(self._reserved.items()) if its() is None]:
            self._release(sql, lost, nest)

    def _release(self, sql: Sql, name: str, nest: str) -> None:
        """A reservation of ours, if it is: a forked child knows those of its parent."""
        if sql("SELECT 1 FROM Reservation WHERE name = ? AND nest = ?", (name, nest)).fetchall():
            self._disk.remove(name)
            sql("DELETE FROM Reservation WHERE name = ?", (name,))
        self._reserved.pop(name, None)

    def _others_write(self, name: str) -> bool:
        return bool(self._read("SELECT 1 FROM Reservation WHERE name != ? LIMIT 1", (name,)))

    def write(self, name: str, value: Any, write: Callable[[int, Any], None]) -> str:
        """Make the file that a reservation names, by ``write(fd, value)``; its path."""
        path = os.path.join(self.directory, name)
        with translated("writing", self.directory):
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
        filename = name if file_nbytes else None
        values = (key, fresh_until, gone_at, time.time(), tag, _blocks(file_nbytes), filename, value)
        doomed = self._connections.change(self._try_put, values, name, row_nbytes)
        self._reserved.pop(name, None)
        if doomed:
            self.remove_doomed()
        return doomed is not None

    def _try_put(self, sql: Sql, values: tuple[Any, ...], name: str, row_nbytes: int) -> bool | None:
        """None when there is no room; else whether files lost their rows."""
        key, now = values[0], time.time()
        if not name and self._excess(sql, _row_room(row_nbytes)) > 0:
            return None
        old = sql("SELECT filename, size FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchall()
        for filename, nbytes in old:
            remove_file_later(sql, filename, nbytes)
        # In place: what stays the same of a row need not be written, nor in the indices.
        sql(
            "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename,"
            " value) VALUES (?, 1, ?, ?, ?, 0, ?, ?, 1, ?, ?) ON CONFLICT (key, raw) DO UPDATE SET"
            " store_time = excluded.store_time, expire_time = excluded.expire_time, access_time = excluded.access_time,"
            " tag = excluded.tag, size = excluded.size, mode = 1, filename = excluded.filename, value = excluded.value",
            values,
        )
        if name:
            sql("DELETE FROM Reservation WHERE name = ?", (name,))
        late = sql(f"{SELECT} WHERE expire_time < ? AND key != ? LIMIT {_AT_ONCE}", (now, key)).fetchall()
        take_out(sql, [row_of(row) for row in late])
        return any(filename for filename, _ in old) or any(row[3] for row in late)

    def abandon(self, reserved: Reserved) -> None:
        """A reservation comes to nothing; its file, if there is one, goes."""
        with ignoring(ShmplaneError):
            self._connections.change(self._release, reserved.name, self._nests.ours())

    def delete(self, keys: Iterable[bytes], *, tag: str | None = None) -> list[Row]:
        """Take items out, those of a tag if it is given; their rows. Some at once: each is one more page of the journal."""
        rows = self._connections.change(delete_rows, list(keys), tag)
        if any(row.filename for row in rows):
            self.remove_doomed()
        return rows

    def remove(self, row: Row) -> bool:
        """Take an item out when it is still that very row."""
        is_gone = self._connections.change(remove_row, row)
        if row.filename:
            self.remove_doomed()
        return is_gone

    def delete_foreign(self) -> int:
        """Take out what somebody else wrote, whose keys are none of ours; how many there were."""
        return self._connections.change(
            lambda sql: int(sql("DELETE FROM Cache WHERE raw != 1 OR typeof(key) != 'blob'").rowcount)
        )

    def keys_of(self, tag: str | None) -> list[bytes]:
        """All keys, also of what is out of date, or those of a tag."""
        condition, parameters = ("", ()) if tag is None else (" WHERE tag = ?", (tag,))
        found = self._read("SELECT key FROM Cache" + condition, parameters)  # noqa: S608
        return [key for (key,) in found if type(key) is bytes]

    def touch(self, rowid: int) -> None:
        """It was used. A hint for what goes first, so nobody waits for it."""
        with ignoring(ShmplaneError), translated("reading", self.directory):
            self._sql("UPDATE Cache SET access_time = ? WHERE rowid = ?", (time.time(), rowid))

    def remove_doomed(self) -> int:
        """Remove files whose rows are gone, whoever took them out; how many are gone now."""
        names = [name for (name,) in self._read("SELECT name FROM Doomed LIMIT 256")]
        if not names:
            return 0
        for name in names:
            self._disk.remove(name)
        gone = [name for name in names if not is_file_name(name) or not exists(os.path.join(self.directory, name))]
        if gone:
            self._connections.change(_forget_doomed, gone)
        return len(gone)

    def reclaim(self) -> int:
        """Give back what killed writers, and interrupted calls, had reserved and begun; how many killed ones there were."""
        if self._reserved:
            self._connections.change(self._release_lost, self._nests.ours())
        nests = {nest for (nest,) in self._read("SELECT DISTINCT nest FROM Reservation")}
        dead = [nest for nest in nests if self._nests.is_dead(nest)]
        if not dead:
            self._nests.clear()
            return 0
        count = sum(self._connections.change(self._release_all, nest) for nest in dead)
        self._nests.clear()
        self.remove_doomed()
        return count

    def _release_all(self, sql: Sql, nest: str) -> int:
        names = [name for (name,) in sql("SELECT name FROM Reservation WHERE nest = ?", (nest,)).fetchall()]
        for name in names:
            self._disk.remove(name)
        sql("DELETE FROM Reservation WHERE nest = ?", (nest,))
        return len(names)

    def close(self) -> None:
        """End this process's connection."""
        self._nests.leave()
        self._connections.close()

    def _read(self, statement: str, parameters: Any = ()) -> list[Any]:
        with translated("reading", self.directory):
            return self._sql(statement, parameters).fetchall()  # type: ignore[no-any-return]

    @property
    def _sql(self) -> Sql:
        return self._connections.sql

    # Inside of a transaction

    def _used(self, sql: Sql) -> int:
        ((files, reserved, doomed, pages),) = sql(_USED).fetchall()
        database = max(pages * _PAGE_NBYTES, os.stat(self._connections.path).st_size)
        return int(files) + int(reserved) + int(doomed) + int(database)

    def _excess(self, sql: Sql, nbytes: int) -> int:
        """How many B are too many when so many come, for the limit or for the file system."""
        over_limit = self._used(sql) + nbytes - self.limit_nbytes
        return max(over_limit, nbytes + _KEPT_FREE_NBYTES - disk_of(self.directory).free_nbytes)

    def _victims(self, skipped: int) -> list[Row]:
        """Who is to go first, after those that were asked and are busy."""
        few = f"LIMIT {_AT_ONCE} OFFSET {int(skipped)}"
        late = self._read(f"{SELECT} WHERE expire_time < ? {few}", (time.time(),))
        found = late or self._read(f"{SELECT} ORDER BY access_time {few}")
        return [row_of(row) for row in found]


def _forget_doomed(sql: Sql, names: list[str]) -> None:
    for name in names:
        sql("DELETE FROM Doomed WHERE name = ?", (name,))


def _blocks(nbytes: int) -> int:
    return -(-nbytes // _BLOCK_NBYTES) * _BLOCK_NBYTES


def _row_room(nbytes: int) -> int:
    return _blocks(nbytes) + _SPARE_PAGES * _PAGE_NBYTES
