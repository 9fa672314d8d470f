"""Connection pools for anything that can be opened and closed, for threads and for asyncio.

Layers, from the bottom: ``roster`` and ``housekeeping`` decide (pure), ``threads`` and ``tasks`` run things, ``base``
carries out what was decided, ``pool`` and ``async_pool`` are what users have. ``host`` is what they need of a plane.
Everything is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .async_pool import AsyncConnectionPool
    from .host import HostPermits, host_statistics
    from .pool import ConnectionPool
    from .statistics import Histogram, Measurement, PoolStatistics

__all__ = [
    "AsyncConnectionPool",
    "ConnectionPool",
    "Histogram",
    "HostPermits",
    "Measurement",
    "PoolStatistics",
    "host_statistics",
]

_HOMES = {
    "AsyncConnectionPool": "async_pool",
    "ConnectionPool": "pool",
    "host_statistics": "host",
    "Histogram": "statistics",
    "HostPermits": "host",
    "Measurement": "statistics",
    "PoolStatistics": "statistics",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
