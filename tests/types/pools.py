"""What a type checker says about pools: the connection type comes from ``connect``. Read by type checkers, run by nobody."""

from __future__ import annotations

import functools
from typing import Any, assert_type

import psycopg

from shmplane import AsyncConnectionPool, ConnectionPool


class Conn:
    def close(self) -> None: ...
    def ping(self) -> bool:
        return True

    async def aping(self) -> bool:
        return True

    async def aclose(self) -> None: ...


def connect(dsn: str = "", *, autocommit: bool = False) -> Conn:
    return Conn()


async def connect_async(dsn: str = "", *, autocommit: bool = False) -> Conn:
    return Conn()


def sync() -> None:
    assert_type(ConnectionPool(connect), ConnectionPool[Conn])
    assert_type(ConnectionPool(Conn), ConnectionPool[Conn])
    assert_type(ConnectionPool(lambda: connect("x")), ConnectionPool[Conn])
    assert_type(ConnectionPool(functools.partial(connect, "x")), ConnectionPool[Conn])
    assert_type(ConnectionPool(psycopg.connect), ConnectionPool[psycopg.Connection[Any]])
    pool = ConnectionPool(connect, check=Conn.ping, reset=lambda conn: conn.ping(), close=Conn.close)
    assert_type(pool, ConnectionPool[Conn])
    with pool.connection() as conn:
        assert_type(conn, Conn)
    assert_type(pool.acquire(), Conn)


async def asynchronous() -> None:
    assert_type(AsyncConnectionPool(connect), AsyncConnectionPool[Conn])
    assert_type(AsyncConnectionPool(connect_async), AsyncConnectionPool[Conn])
    assert_type(AsyncConnectionPool(Conn), AsyncConnectionPool[Conn])
    assert_type(AsyncConnectionPool(lambda: connect_async("x")), AsyncConnectionPool[Conn])
    assert_type(AsyncConnectionPool(lambda: connect("x")), AsyncConnectionPool[Conn])
    assert_type(AsyncConnectionPool(functools.partial(connect_async, "x")), AsyncConnectionPool[Conn])
    pool = AsyncConnectionPool(connect_async, check=Conn.aping, reset=lambda conn: conn.ping(), close=Conn.aclose)
    assert_type(pool, AsyncConnectionPool[Conn])
    async with pool.connection() as conn:
        assert_type(conn, Conn)
    assert_type(await pool.acquire(), Conn)
