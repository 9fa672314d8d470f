"""``shmplane.integrations.duckdb``: the tables of a plane in SQL."""

from __future__ import annotations

import threading

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

import shmplane
from shmplane.integrations.duckdb import connect


def test_every_table_has_its_name(plane: shmplane.Plane) -> None:
    plane["numbers"] = pa.table({"x": range(10)})
    plane["prices/2026"] = pd.DataFrame({"p": [1.5, 2.5]})
    plane['we"ird'] = pa.table({"s": ["a"]})
    plane["an array"] = b"no table"
    with connect(plane) as con:
        assert con.sql("SELECT sum(x) FROM numbers").fetchall() == [(45,)]
        assert con.execute('SELECT max(p) FROM "prices/2026"').fetchone() == (2.5,)
        assert con.sql('SELECT s FROM "we""ird"').fetchall() == [("a",)]
        assert [name for (name,) in con.sql("SHOW TABLES").fetchall()] == ["numbers", "prices/2026", 'we"ird']


def test_a_statement_sees_the_plane_as_it_is_then(plane: shmplane.Plane) -> None:
    with connect(plane) as con:
        plane["x"] = pa.table({"a": [1]})
        assert con.sql("SELECT a FROM x").fetchall() == [(1,)]
        plane.append("x", pa.table({"a": [2]}))
        assert con.sql("SELECT a FROM x").fetchall() == [(1,), (2,)]
        plane["x"] = pa.table({"b": ["another schema"]})
        assert con.sql("SELECT * FROM x").fetchall() == [("another schema",)]
        plane["x"] = [1, 2]
        with pytest.raises(duckdb.CatalogException):
            con.sql("SELECT * FROM x")
        plane["x"] = pa.table({"a": [3]})
        assert con.sql("SELECT a FROM x").fetchall() == [(3,)]
        del plane["x"]
        with pytest.raises(duckdb.CatalogException):
            con.sql("SELECT * FROM x")


def test_a_relation_shows_the_version_of_its_statement_or_a_newer_one(plane: shmplane.Plane) -> None:
    plane["x"] = pa.table({"a": list(range(1000))})
    with connect(plane) as con:
        relation = con.sql("SELECT sum(a) FROM x")
        plane["x"] = pa.table({"a": [5]})
        con.sql("SELECT 1").fetchall()
        assert relation.fetchall() in ([(499_500,)], [(5,)])


def test_what_a_query_reads_is_not_copied_in(plane: shmplane.Plane) -> None:
    plane["x"] = pa.table({"a": list(range(100_000)), "b": list(range(100_000))})
    with connect(plane) as con:
        with plane.attach("x") as block:
            assert block.leases == 1
        before = pa.total_allocated_bytes()
        assert con.sql("SELECT sum(b) FROM x").fetchall() == [(4_999_950_000,)]
        assert pa.total_allocated_bytes() - before < 100_000


def test_a_transaction_that_is_rolled_back_loses_no_table(plane: shmplane.Plane) -> None:
    with connect(plane) as con:
        con.execute("BEGIN")
        plane["x"] = pa.table({"a": [1]})
        assert con.execute("SELECT a FROM x").fetchall() == [(1,)]
        con.execute("ROLLBACK")
        assert con.execute("SELECT a FROM x").fetchall() == [(1,)]
        con.begin()
        plane["x"] = pa.table({"a": [2]})
        with pytest.raises(duckdb.Error):
            con.execute("SELECT nothing FROM x")
        con.rollback()
        assert con.execute("SELECT a FROM x").fetchall() == [(2,)]


def test_of_names_that_differ_in_capitals_alone_the_first_is_seen(plane: shmplane.Plane) -> None:
    plane["prices"] = pa.table({"a": ["small"]})
    plane["Prices"] = pa.table({"a": ["capital"]})
    with connect(plane) as con:
        assert con.sql("SELECT a FROM prices").fetchall() == [("capital",)]
        del plane["Prices"]
        assert con.sql("SELECT a FROM prices").fetchall() == [("small",)]


def test_names_that_differ_in_capitals_beyond_ascii_are_all_seen(plane: shmplane.Plane) -> None:
    names = ["Ä", "ä", "\N{KELVIN SIGN}", "k", "İ", "i", "Σ", "ς"]
    for number, name in enumerate(names):
        plane[name] = pa.table({"a": [number]})
    with connect(plane) as con:
        found = [con.execute(f'SELECT a FROM "{name}"').fetchall() for name in names]
    assert found == [[(number,)] for number in range(len(names))]


def test_a_variable_of_the_caller_is_found_as_with_a_connection_of_duckdb(plane: shmplane.Plane) -> None:
    plane["x"] = pa.table({"a": [1, 2, 3]})
    wanted = pa.table({"a": [2]})
    with connect(plane) as con:
        assert con.sql("SELECT x.a FROM x JOIN wanted USING (a)").fetchall() == [(2,)]
    assert wanted.num_rows == 1


def test_a_cursor_is_for_another_thread(plane: shmplane.Plane) -> None:
    plane["x"] = pa.table({"a": list(range(1000))})
    found: list[object] = []
    with connect(plane) as con:

        def read() -> None:
            with con.cursor() as cursor:
                found.append(cursor.sql("SELECT sum(a) FROM x").fetchall())

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [[(499_500,)]] * 4


UNREADABLE = {
    "float16": pa.table({"c": pa.array([1.0], pa.float16())}),
    "decimal256": pa.table({"c": pa.array([1], pa.decimal256(60, 2))}),
    "nested": pa.table({"c": pa.array([[1.0]], pa.list_(pa.float16()))}),
    "no columns": pa.table({}),
}


@pytest.mark.parametrize("table", UNREADABLE.values(), ids=UNREADABLE)
def test_a_table_that_duckdb_cannot_read_stops_the_statements_alone_that_name_it(
    plane: shmplane.Plane, table: pa.Table
) -> None:
    plane["good"] = pa.table({"x": [1]})
    plane["good later"] = plane["bad one"] = pa.table({"x": [2]})
    with connect(plane) as con:
        plane["bad one"] = table
        with connect(plane) as later, con.cursor() as cursor:
            for each in (con, later, cursor):
                assert each.sql("SELECT x FROM good").fetchall() == [(1,)]
                assert each.execute('SELECT x FROM "good later"').fetchall() == [(2,)]
                assert len(each.sql("SHOW TABLES").fetchall()) == 3
                for statement in ("SELECT x FROM {}", "SELECT count(*) FROM {}", "SELECT * FROM good, {}"):
                    with pytest.raises(
                        duckdb.Error, match=r"'bad one' of plane .* is no table that DuckDB can read: .*\w"
                    ):
                        each.execute(statement.format('"bad one"'))
                with pytest.raises(duckdb.Error, match="is no table that DuckDB can read"):
                    each.table("bad one")
        plane["bad one"] = pa.table({"x": [3]})
        assert con.sql('SELECT x FROM "bad one"').fetchall() == [(3,)]
        plane["bad one"] = table
        del plane["bad one"]
        with pytest.raises(duckdb.CatalogException):
            con.sql('SELECT * FROM "bad one"')


@pytest.mark.parametrize("table", UNREADABLE.values(), ids=UNREADABLE)
def test_a_table_that_duckdb_cannot_read_ends_no_transaction(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["good"] = pa.table({"x": [1]})
    with connect(plane) as con:
        con.execute("CREATE TABLE own (x BIGINT)")
        con.execute("BEGIN")
        plane["bad"] = table
        con.execute("INSERT INTO own SELECT x FROM good")
        con.execute("COMMIT")
        assert con.sql("SELECT x FROM own").fetchall() == [(1,)]


def test_what_the_caller_makes_for_a_moment_hides_what_the_plane_has(plane: shmplane.Plane) -> None:
    plane["before"] = pa.table({"x": [1]})
    with connect(plane) as con:
        con.execute("CREATE TEMP TABLE Own AS SELECT 2 AS x")
        con.execute("CREATE TEMP VIEW seen AS SELECT 3 AS x")
        plane["own"] = plane["seen"] = plane["after"] = pa.table({"x": [4]})
        seen = {name: con.sql(f"SELECT x FROM {name}").fetchall() for name in ("before", "own", "seen", "after")}
        assert seen == {"before": [(1,)], "own": [(2,)], "seen": [(3,)], "after": [(4,)]}
        con.execute("DROP TABLE own")
        assert con.sql("SELECT x FROM own").fetchall() == [(4,)]


def test_a_table_that_comes_back_by_rolling_back_is_the_planes(plane: shmplane.Plane) -> None:
    plane["x"] = pa.table({"a": [1]})
    with connect(plane) as con:
        con.execute("BEGIN")
        del plane["x"]
        with pytest.raises(duckdb.CatalogException):
            con.sql("SELECT a FROM x")
        con.execute("ROLLBACK")
        plane["x"] = pa.table({"a": [2]})
        assert con.sql("SELECT a FROM x").fetchall() == [(2,)]


def test_a_plane_that_is_gone_is_said(plane: shmplane.Plane) -> None:
    plane["x"] = pa.table({"a": [1]})
    with connect(plane) as con:
        plane.close()
        with pytest.raises(shmplane.ClosedError):
            con.sql("SELECT 1")
    con.close()
