"""A cache of two tiers, blocks of a plane in front of a directory, with limits that hold and no pickle."""

from .cache import Cache
from .measuring import host_measurements, measurements_of
from .tally import CacheStatistics, TierStatistics

__all__ = ["Cache", "CacheStatistics", "TierStatistics", "host_measurements", "measurements_of"]
