"""What the caches of a plane tell, summed over all processes, from any one of them; caches of one name are added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..manifest import LEVEL_WORDS, GroupUse, copy_meters, read_groups
from ..observe import Measurement

if TYPE_CHECKING:
    from ..manifest import MeterWords, Transaction
    from ..plane import Plane

__all__ = ["EVENTS", "METER_PREFIX", "OTHER_CACHES", "example_measurements", "host_measurements", "measurements_of"]

#: what a cache counts, one word each, in this order
EVENTS = (
    "memory_hits", "disk_hits", "misses", "computes", "computes_alone", "stale_hits", "sets", "promotions",
    "disk_evictions", "damaged", "past_memory", "past_disk",
)  # fmt: skip
#: of the names that caches count under; pools have no such names
METER_PREFIX = "\0cache "
#: what those are counted under for which the plane has no room; named as a cache is
OTHER_CACHES = METER_PREFIX + "cache:other:/"

#: event, name, further attributes, meaning
_COUNTS: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("memory_hits", "hits", {"tier": "memory"}, "Values found, by tier."),
    ("disk_hits", "hits", {"tier": "disk"}, "Values found, by tier."),
    ("misses", "misses", {}, "Keys asked for and not there."),
    ("computes", "computes", {}, "Values computed since they were missing or over."),
    ("stale_hits", "stale_hits", {}, "Values handed out within their grace."),
    ("sets", "sets", {}, "Values stored."),
    ("promotions", "promotions", {}, "Values that went from disk to memory."),
    ("damaged", "damaged", {}, "Rows and files that were refused."),
)


class _Sum(NamedTuple):
    """The caches of one name."""

    events: dict[str, int]
    nbytes: int = 0
    limit_nbytes: int = 0
    evictions: int = 0

    def plus(self, words: Sequence[int], group: GroupUse | None) -> _Sum:
        counts = dict(zip(EVENTS, words[LEVEL_WORDS:], strict=False))
        events = {event: count + self.events.get(event, 0) for event, count in counts.items()}
        if group is None:
            return self._replace(events=events)
        used, limit = self.nbytes + group.used_nbytes, self.limit_nbytes + group.limit_nbytes
        return _Sum(events, used, limit, self.evictions + group.evictions)


def host_measurements(plane: Plane) -> list[Measurement]:
    """The figures of the caches whose hot tier is in this plane."""
    words, groups = plane._open().look(_copy)
    return list(measurements_of(words.totals(), groups))


def _copy(tx: Transaction) -> tuple[MeterWords, dict[str, GroupUse]]:
    return copy_meters(tx.manifest), read_groups(tx.manifest)


def measurements_of(meters: Mapping[str, Sequence[int]], groups: Mapping[str, GroupUse]) -> Iterator[Measurement]:
    """The same of the words of a plane's meters, and its groups of blocks."""
    sums: dict[str, _Sum] = {}
    for meter, words in meters.items():
        if meter.startswith(METER_PREFIX):
            prefix = meter.removeprefix(METER_PREFIX)
            name = _name_of(prefix)
            sums[name] = sums.get(name, _Sum({})).plus(words, groups.get(prefix))
    for name, found in sorted(sums.items()):
        yield from _measurements(name, found)


def example_measurements() -> list[Measurement]:
    """What there is to tell of any cache; for who has to know the names before there is one."""
    return list(_measurements("example", _Sum({})))


def _name_of(prefix: str) -> str:
    """The name of a cache from the prefix of its blocks, ``cache:NAME:DIRECTORY/``."""
    return prefix.removeprefix("cache:").rpartition(":")[0] or prefix


def _measurements(name: str, found: _Sum) -> Iterator[Measurement]:
    cache = {"cache": name}
    for event, what, more, meaning in _COUNTS:
        yield Measurement(
            f"shmplane.cache.{what}", "counter", "{value}", found.events.get(event, 0), cache | more, meaning
        )
    evictions = {"memory": found.evictions, "disk": found.events.get("disk_evictions", 0)}
    for tier, count in evictions.items():
        meaning = "Values that made room for others, by tier."
        yield Measurement("shmplane.cache.evictions", "counter", "{value}", count, cache | {"tier": tier}, meaning)
    meaning = "Bytes of the tier in memory."
    yield Measurement("shmplane.cache.memory", "updowncounter", "By", found.nbytes, cache, meaning)
    meaning = "The most bytes of the tier in memory."
    yield Measurement("shmplane.cache.memory_limit", "updowncounter", "By", found.limit_nbytes, cache, meaning)
