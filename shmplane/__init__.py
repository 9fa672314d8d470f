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
    ShmplaneError,
    StaleHandle,
    TooManyWaiters,
    UnsafeCodec,
    UnsupportedPlatform,
    UnsupportedValue,
)

if TYPE_CHECKING:
    from .plane import Block, BlockInfo, Buffer, Builder, Plane, PlaneStatistics, Reclaimed, Semaphore

__version__ = "0.1.0"

_LAZY = {
    "Block": "plane",
    "BlockInfo": "plane",
    "Buffer": "plane",
    "Builder": "plane",
    "Plane": "plane",
    "PlaneStatistics": "plane",
    "Reclaimed": "plane",
    "Semaphore": "plane",
}

__all__ = [
    "Block",
    "BlockInfo",
    "BlockNotFound",
    "Buffer",
    "Builder",
    "ClosedError",
    "Conflict",
    "FileTruncated",
    "ItemTooLarge",
    "LockTimeout",
    "Plane",
    "PlaneCorrupt",
    "PlaneFull",
    "PlaneMismatch",
    "PlaneNotFound",
    "PlaneSecurityError",
    "PlaneStatistics",
    "PoolClosed",
    "PoolTimeout",
    "Reclaimed",
    "Semaphore",
    "ShmplaneError",
    "StaleHandle",
    "TooManyWaiters",
    "UnsafeCodec",
    "UnsupportedPlatform",
    "UnsupportedValue",
    "__version__",
]


def __getattr__(name: str) -> Any:
    package = _LAZY.get(name)
    if package is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{package}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
