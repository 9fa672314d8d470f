"""Named Arrow and NumPy blocks in shared memory, for all processes of a host.

``import shmplane`` is light: everything is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    BlockNotFound,
    ClosedError,
    Conflict,
    FileTruncated,
    ItemTooLarge,
    LockTimeout,
    PlaneCorrupt,
    PlaneFull,
    PlaneMismatch,
    PlaneNotFound,
    PlaneSecurityError,
    PoolClosed,
    PoolTimeout,
    PullFailed,
    ShmplaneError,
    StaleHandle,
    TooManyWaiters,
    UnsafeCodec,
    UnsupportedPlatform,
    UnsupportedValue,
)

if TYPE_CHECKING:
    from . import connections as connections
    from . import scopes as scopes
    from .cache import Cache, CacheStatistics, TierStatistics
    from .codecs import Records
    from .connections import (
        AsyncConnectionPool,
        ConnectionPool,
        Histogram,
        Measurement,
        PoolStatistics,
    )
    from .executor import ExecutorStatistics, ProcessPoolExecutor
    from .files import BufferPool, BufferPoolStatistics, MappedFile, PooledBuffer, map_file
    from .observe import Check, Health, Layout, Metrics, Watch
    from .plane import (
        ArrayDraft,
        Block,
        BlockInfo,
        Buffer,
        Builder,
        Draft,
        Grant,
        Item,
        JsonDraft,
        Plane,
        PlaneStatistics,
        Queue,
        RateLimiter,
        Reclaimed,
        Semaphore,
        SemaphoreInfo,
        TableDraft,
        TreeDraft,
    )
    from .scopes import AsyncScope, OpenResource, Scope

__version__ = "0.1.0"

#: where names come from that are loaded when they are first used
_HOMES = {
    "cache": "Cache CacheStatistics TierStatistics",
    "codecs": "Records",
    "connections": "AsyncConnectionPool ConnectionPool Histogram Measurement PoolStatistics",
    "executor": "ExecutorStatistics ProcessPoolExecutor",
    "files": "BufferPool BufferPoolStatistics MappedFile PooledBuffer map_file",
    "observe": "Check Health Layout Metrics Watch",
    "plane": (
        "ArrayDraft Block BlockInfo Buffer Builder Draft Grant Item JsonDraft Plane PlaneStatistics Queue RateLimiter "
        "Reclaimed Semaphore SemaphoreInfo TableDraft TreeDraft"
    ),
    "scopes": "AsyncScope OpenResource Scope",
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names.split()}

#: packages that are reached as attributes
_PACKAGES = {"connections", "scopes"}

__all__ = [
    "ArrayDraft", "AsyncConnectionPool", "AsyncScope", "Block", "BlockInfo", "BlockNotFound", "Buffer",
    "BufferPool", "BufferPoolStatistics", "Builder", "Cache", "CacheStatistics", "Check", "ClosedError", "Conflict",
    "ConnectionPool", "Draft", "ExecutorStatistics", "FileTruncated", "Grant", "Health", "Histogram", "Item",
    "ItemTooLarge", "JsonDraft", "Layout", "LockTimeout", "map_file", "MappedFile", "Measurement", "Metrics",
    "OpenResource", "Plane", "PlaneCorrupt", "PlaneFull", "PlaneMismatch", "PlaneNotFound",
    "PlaneSecurityError", "PlaneStatistics", "PoolClosed", "PooledBuffer", "PoolStatistics", "PoolTimeout",
    "ProcessPoolExecutor", "PullFailed", "Queue", "RateLimiter", "Reclaimed", "Records", "Scope", "Semaphore",
    "SemaphoreInfo", "ShmplaneError", "StaleHandle", "TableDraft", "TierStatistics", "TooManyWaiters",
    "TreeDraft", "UnsafeCodec", "UnsupportedPlatform", "UnsupportedValue", "__version__", "Watch",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    package = _LAZY.get(name)
    if package is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{package}", __name__), name)
    globals()[name] = value
    return value


def load_ipython_extension(ipython: Any) -> None:
    """What ``%load_ext shmplane`` calls: brings ``%%keep NAME...``, whose variables survive the kernel's restart."""
    importlib.import_module(".notebook", __name__).load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """What ``%unload_ext shmplane`` calls."""
    importlib.import_module(".notebook", __name__).unload(ipython)


def __dir__() -> list[str]:
    return sorted(__all__)
