"""Connection pools for anything that can be opened and closed, for threads and for asyncio.

Layers, from the bottom: ``roster`` decides (pure), ``shell``/``staff`` (threads) and ``aio`` (asyncio) act,
``permits`` is what they need of a plane. Everything is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmplane.connections.aio import AsyncConnectionPool
    from shmplane.connections.health import Check, Health
    from shmplane.connections.metering import host_statistics
    from shmplane.connections.permits import HostPermits
    from shmplane.connections.pool import ConnectionPool
    from shmplane.connections.statistics import Histogram, Measurement, PoolStatistics

__all__ = [
    "AsyncConnectionPool",
    "Check",
    "ConnectionPool",
    "Health",
    "Histogram",
    "HostPermits",
    "Measurement",
    "PoolStatistics",
    "host_statistics",
]

_HOMES = {
    "AsyncConnectionPool": "aio",
    "Check": "health",
    "ConnectionPool": "pool",
    "Health": "health",
    "host_statistics": "metering",
    "Histogram": "statistics",
    "HostPermits": "permits",
    "Measurement": "statistics",
    "PoolStatistics": "statistics",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
