"""DuckDB over a plane: every table by its name in SQL, read where it lies.

A table that DuckDB scans is an Arrow table over the block's memory: columns and rows are not copied on their way, and those
that a query does not need are not touched.

Rule 1. Before each statement the names are compared with the plane: tables that are new, changed or gone since the last one
        are so in SQL. Within a statement each table is one version.
Rule 2. The statement itself is called on DuckDB's own connection by the caller: so DuckDB finds the caller's variables, as it
        does elsewhere.
Rule 3. A connection leases the versions that its last statement could see, until the next one or ``close``.
Rule 4. A table that DuckDB cannot read is an error of the statements that name it, and of no others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NamedTuple, Self

import duckdb
import pyarrow as pa

from .. import Block, BlockNotFound, Plane, PlaneCorrupt, UnsupportedValue

__all__ = ["Connection", "connect"]

#: what of a connection looks at tables
_STATEMENTS = frozenset(
    ("begin", "execute", "executemany", "from_query", "query", "show_tables", "sql", "table", "view", "get_table_names")
)

#: letters that DuckDB does not tell apart: those of ASCII alone
_FOLDED = str.maketrans(ascii_uppercase, ascii_lowercase)
#: what is wrong with a table, as opposed to a connection or a transaction
_UNREADABLE = (
    *(duckdb.NotSupportedError, duckdb.ProgrammingError, duckdb.DataError),
    *(pa.ArrowException, PlaneCorrupt, UnsupportedValue),
)


def connect(plane: Plane, database: str = ":memory:", **options: Any) -> Connection:
    """A connection of DuckDB in which every table of a plane has its name.

    ``connect(plane).sql("SELECT carrier, avg(dep_delay) FROM flights GROUP BY carrier")``

    A name with other signs than letters and digits stands in double quotes, as in SQL: ``"prices/2026"``. DuckDB does not tell
    capitals of ASCII from small letters: of names that differ in nothing else, the first in the alphabet is seen. The plane
    has to stay open.

    A table that DuckDB cannot read, such as one without columns or of float16 or decimal256, is listed as any other, and a
    statement that names it says why it cannot be read.

    Args:
        database: a file of DuckDB's own for everything else; its tables are hidden by those of the plane, and these by
            temporary ones that the caller makes.
        options: of ``duckdb.connect``.

    Raises:
        ClosedError: from any statement, once the plane was closed or destroyed.

    Cost: of a statement, a look at all blocks of the plane (some 13 µs each) and about 0.5 ms; for a changed table some 2 ms.
    """
    return Connection(plane, duckdb.connect(database, **options))


class _Shown(NamedTuple):
    """A table that is registered: its version, and how DuckDB reads it."""

    version: int
    view: str | None


class Connection:
    """DuckDB's connection, with all that it has. Made by ``connect``; one thread at a time, as with DuckDB's own."""

    def __init__(self, plane: Plane, connection: duckdb.DuckDBPyConnection) -> None:
        self._plane, self._connection = plane, connection
        self._mutex = threading.Lock()
        self._shown: dict[str, _Shown] = {}
        self._ours: set[str] = set()  #: all names that were shown once: rolling back may bring one back
        self.refresh()

    def refresh(self) -> None:
        """See the plane as it is now. Statements do this themselves, unless a bound method of a connection was kept."""
        # Of a transaction that has failed, nothing can be done before it is rolled back.
        with self._mutex, suppress(duckdb.TransactionException):
            self._show(dict(_tables(self._plane)))

    def _show(self, there: dict[str, int]) -> None:
        views = self._views() if self._shown else {}
        for name in self._shown.keys() - there.keys():
            self._connection.unregister(name)
            del self._shown[name]
        hidden = None
        changed: dict[str, int] = {}
        for name, version in there.items():
            shown = self._shown.get(name)
            # A transaction that is rolled back brings back what was shown before it.
            if shown is None or shown.version != version or shown.view != views.get(name):
                if shown is None:
                    hidden = self._names_of_the_callers() if hidden is None else hidden
                    if name.translate(_FOLDED) in hidden:
                        continue
                with suppress(BlockNotFound), self._plane.attach(name) as block:  # deleted meanwhile
                    if block.kind == "table":
                        self._register(name, block)
                        self._ours.add(name.translate(_FOLDED))
                        changed[name] = block.version
        views = self._views() if changed else {}
        self._shown.update({name: _Shown(version, views.get(name)) for name, version in changed.items()})

    def _register(self, name: str, block: Block) -> None:
        try:
            table = block.table()
            # Elsewhere first: what is refused in a transaction of the caller's would end that.
            with self._connection.cursor() as elsewhere:
                elsewhere.register(name, table.schema.empty_table())
        except _UNREADABLE as error:
            found = _Unreadable(f"{name!r} of plane {self._plane.name!r} is no table that DuckDB can read: {error}")
            self._connection.register(name, found)
            found.is_registered = True
        else:
            self._connection.register(name, table)

    def _views(self) -> dict[str, str]:
        """How DuckDB reads what is registered, by name."""
        rows = self._connection.execute("SELECT view_name, sql FROM duckdb_views() WHERE temporary").fetchall()
        return dict(rows)

    def _names_of_the_callers(self) -> set[str]:
        """Of temporary tables and views that are not ours, and so hide those of the plane."""
        names: set[str] = set()
        for kind in ("table", "view"):
            rows = self._connection.execute(f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE temporary").fetchall()  # noqa: S608
            names.update(name.translate(_FOLDED) for (name,) in rows)
        return names - self._ours

    def cursor(self) -> Connection:
        """Another connection to the same database, for another thread, which sees the plane as well."""
        return Connection(self._plane, self._connection.cursor())

    duplicate = cursor

    def close(self) -> None:
        """End the connection, and what it leases. Idempotent."""
        with self._mutex:
            self._shown.clear()
            self._connection.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"a connection has no attribute {name!r}")
        if name in _STATEMENTS:
            self.refresh()
        return getattr(self._connection, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DuckDB over plane {self._plane.name!r}>"


class _Unreadable:
    """What stands for a table that DuckDB cannot read: it has a name, and whoever reads it is told why."""

    def __init__(self, why: str) -> None:
        self._why = why
        self.is_registered = False  # DuckDB asks for columns before it knows a name

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        if self.is_registered:
            raise UnsupportedValue(f"{self._why}. Put it with other types; plane.table(name) has it as it is.")
        return pa.table({"cannot be read": pa.nulls(0)}).__arrow_c_stream__()


def _tables(plane: Plane) -> Iterator[tuple[str, int]]:
    """Names and versions of the tables that SQL can tell apart."""
    seen: set[str] = set()
    for block in sorted(plane.blocks(), key=lambda block: block.name or ""):
        folded = (block.name or "").translate(_FOLDED)
        if block.name is None or block.kind != "table" or folded in seen:
            continue
        seen.add(folded)
        yield block.name, block.version
