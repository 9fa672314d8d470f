"""Connection pools for anything that can be opened and closed, for threads and for asyncio.

Layers, from the bottom: ``roster`` and ``housekeeping`` decide (pure), ``threads`` and ``tasks`` run things, ``base``
carries out what was decided, ``pool`` and ``async_pool`` are what users have. ``host`` is what they need of a plane.
Everything is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import late_names

if TYPE_CHECKING:
    from .async_pool import AsyncConnectionPool
    from .host import HostPermits, host_statistics, pools_of_words
    from .pool import ConnectionPool
    from .statistics import Histogram, Measurement, PoolStatistics
else:
    __getattr__ = late_names(
        __name__,
        {
            ".async_pool": "AsyncConnectionPool",
            ".host": "host_statistics HostPermits pools_of_words",
            ".pool": "ConnectionPool",
            ".statistics": "Histogram Measurement PoolStatistics",
        },
    )

__all__ = [
    "AsyncConnectionPool",
    "ConnectionPool",
    "Histogram",
    "HostPermits",
    "Measurement",
    "PoolStatistics",
    "host_statistics",
    "pools_of_words",
]
