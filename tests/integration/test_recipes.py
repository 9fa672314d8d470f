"""The recipes of the connection pools' page, each against the real thing."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import psycopg
import pytest

from shmplane.connections import AsyncConnectionPool, ConnectionPool


def test_psycopg(postgres) -> None:
    dsn = postgres.dsn()

    def check(conn: psycopg.Connection) -> None:
        conn.execute("")

    def reset(conn: psycopg.Connection) -> None:
        conn.rollback()

    with ConnectionPool(lambda: psycopg.connect(dsn), check=check, reset=reset, max_size=4) as pool:
        with pool.connection() as conn:
            assert conn.execute("select 6 * 7").fetchone() == (42,)
        with pytest.raises(psycopg.errors.DivisionByZero), pool.connection() as conn:
            conn.execute("select 1 / 0")
        with pool.connection() as again:
            # The transaction that failed was rolled back, so the connection is as good as new.
            assert again is conn
            assert again.execute("select 1").fetchone() == (1,)


def test_psycopg_async(postgres) -> None:
    async def main() -> None:
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            lambda: psycopg.AsyncConnection.connect(postgres.dsn()),
            check=lambda conn: conn.execute(""),
            reset=lambda conn: conn.rollback(),
            max_size=4,
        )

        async def square(number: int) -> Any:
            async with pool.connection() as conn:
                cursor = await conn.execute("select %s * %s", (number, number))
                row = await cursor.fetchone()
                return row and row[0]

        async with pool:
            assert await asyncio.gather(*map(square, range(50))) == [n * n for n in range(50)]
            assert postgres.sessions() <= 4

    asyncio.run(main())


def test_sqlalchemy_on_our_pool(postgres) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.pool import NullPool

    class Lent(psycopg.Connection):
        """SQLAlchemy closes what it was given; here that means to give it back."""

        def close(self) -> None:
            pool.release(self)

    pool = ConnectionPool(
        lambda: Lent.connect(postgres.dsn()),
        close=psycopg.Connection.close,
        reset=lambda conn: conn.rollback(),
        max_size=4,
    )
    with pool:
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=pool.acquire, poolclass=NullPool)
        for number in range(5):
            with engine.connect() as conn:
                assert conn.execute(sqlalchemy.text("select :n + 1"), {"n": number}).scalar() == number + 1
        assert pool.stats().connects == 1
        engine.dispose()


def test_asyncpg_with_vector_search(postgres) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    nearest = """
        select id from items
        order by (select sqrt(sum((a - b) ^ 2)) from unnest(embedding, $1::float8[]) as pair(a, b))
        limit 1
    """

    async def main() -> None:
        pool = AsyncConnectionPool(
            lambda: asyncpg.connect(host=str(postgres.directory), port=postgres.port, user="app", database="postgres"),
            check=lambda conn: conn.execute(""),
            reset=lambda conn: conn.reset(),
            configure=lambda conn: conn.execute("set search_path to pg_temp"),
            max_size=2,
        )
        async with pool, pool.connection() as conn:
            await conn.execute("create temp table items (id int, embedding float8[])")
            rows = [(1, [0.0, 1.0]), (2, [1.0, 0.0]), (3, [0.7, 0.7])]
            await conn.executemany("insert into items values ($1, $2)", rows)
            assert await conn.fetchval(nearest, [0.9, 0.1]) == 2

    asyncio.run(main())


def test_sqlite3(tmp_path) -> None:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "data.db", check_same_thread=False)

    def configure(conn: sqlite3.Connection) -> None:
        conn.execute("pragma journal_mode = wal")

    with ConnectionPool(connect, configure=configure, reset=lambda conn: conn.rollback(), max_size=4) as pool:
        with pool.connection() as conn:
            conn.execute("create table t (x)")
            conn.execute("insert into t values (1)")
            conn.commit()
        with pool.connection() as conn:
            conn.execute("insert into t values (2)")  # never committed: reset rolls it back
        with pool.connection() as conn:
            assert conn.execute("select x from t").fetchall() == [(1,)]


def test_httpx_clients(http_url) -> None:
    httpx = pytest.importorskip("httpx")

    async def main() -> None:
        async with AsyncConnectionPool(lambda: httpx.AsyncClient(base_url=http_url), max_size=3) as pool:

            async def ask(path: str) -> Any:
                async with pool.connection() as client:
                    return (await client.get(path)).text

            paths = [f"/{number}" for number in range(30)]
            assert await asyncio.gather(*map(ask, paths)) == paths
            assert pool.stats().connects <= 3

    asyncio.run(main())
