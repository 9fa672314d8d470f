"""A cache of two tiers, blocks of a plane in front of a directory, with limits that hold and no pickle.

Everything is loaded when it is first asked for: what caches have counted is told without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import late_names

if TYPE_CHECKING:
    from .cache import Cache
    from .measuring import example_measurements, host_measurements, measurements_of
    from .tally import CacheStatistics, TierStatistics

__getattr__ = late_names(
    __name__,
    {
        ".cache": "Cache",
        ".measuring": "example_measurements host_measurements measurements_of",
        ".tally": "CacheStatistics TierStatistics",
    },
)

__all__ = [
    "Cache",
    "CacheStatistics",
    "TierStatistics",
    "example_measurements",
    "host_measurements",
    "measurements_of",
]
