"""Statistics over all processes of the host: how they become words, and the words statistics again.

A plane sums words over processes and keeps those of the dead; pools only know the protocol ``HostMeter``. Nothing of this
is on the way of who takes or gives a connection: the pool's housekeeping says twice a second what was
counted, and so do ``host_stats``, ``close`` and the interpreter's end. A killed process's counts are those it said last.
"""

from __future__ import annotations

import atexit
import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from shmplane.connections.statistics import Histogram, PoolStatistics
from shmplane.connections.tally import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmplane.connections.front import Front

__all__ = ["HostMeter", "host_statistics", "meter_of", "publish_at_exit"]

FIRST_COUNT = 16  #: words before it are levels, which end with their process
_LEVELS = ("pools", "min_size", "max_size", "size", "idle", "used", "connecting", "waiting", "paused", "is_closed")
_COUNTS = (
    "acquires", "timeouts", "refused", "connects", "connect_errors", "closed", "discarded", "dropped", "leaked",
)  # fmt: skip
_TIMES = ("wait_time", "use_time", "connect_time")
_BUCKETS = len(BOUNDS) + 1


@runtime_checkable
class HostMeter(Protocol):
    """Words that every process writes for itself and anybody may sum: 16 levels, then counts."""

    def publish(self, words: Sequence[int]) -> None:
        """Say what this pool has counted so far."""

    def total(self) -> Sequence[int]:
        """The words summed over all processes: levels of the living, counts of all that ever were."""

    def close(self) -> None:
        """This pool has no levels any more; its counts stay."""


def meter_of(plane: Any, name: str) -> HostMeter | None:
    """Where a pool of this name counts; None when the plane, such as a stand-in in tests, has no meters."""
    make = getattr(plane, "_host_meter", None)
    return None if make is None else make(name)


def words_of(stats: PoolStatistics) -> list[int]:
    """Levels, then counts; times in nanoseconds."""
    levels = [int(getattr(stats, field)) for field in _LEVELS]
    words = levels + [0] * (FIRST_COUNT - len(levels)) + [getattr(stats, field) for field in _COUNTS]
    for field in _TIMES:
        histogram: Histogram = getattr(stats, field)
        words += [*histogram.counts, int(histogram.seconds * 1e9)]
    return words


def statistics_of_words(name: str, words: Sequence[int]) -> PoolStatistics:
    """The other way round."""
    found: dict[str, Any] = dict(zip(_LEVELS, words, strict=False))
    found["paused"], found["is_closed"] = found["paused"] > 0, found["is_closed"] == found["pools"] > 0
    found |= zip(_COUNTS, words[FIRST_COUNT:], strict=False)
    start = FIRST_COUNT + len(_COUNTS)
    for field in _TIMES:
        *counts, nanoseconds = words[start : start + _BUCKETS + 1]
        found[field] = Histogram(tuple(counts), nanoseconds / 1e9)
        start += _BUCKETS + 1
    return PoolStatistics(name=name, **found)


def host_statistics(plane: Any) -> dict[str, PoolStatistics]:
    """The statistics of all pools that have a ``name`` and this plane, summed over all processes of the host, by name."""
    return {name: statistics_of_words(name, words) for name, words in plane._host_meters().items()}


_metered: weakref.WeakSet[Front[Any]] = weakref.WeakSet()


def publish_at_exit(pool: Front[Any]) -> None:
    """Say the last word of a pool that nobody closes before the interpreter ends."""
    _metered.add(pool)


@atexit.register
def _publish_all() -> None:
    for pool in list(_metered):
        # A forked child that did not use its pool has nothing to say.
        if pool._meter is not None:
            with contextlib.suppress(Exception):
                pool._publish()
