"""Traces, and what a policy would have hit of one: replayed over lists in place of a plane's words. No plane, no processes.

The made-up ones are the three shapes that tell policies apart. Nobody's real load; each is the same on every run.
"""

from __future__ import annotations

import bisect
import itertools
import random
import zlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from shmplane.manifest.policies import POLICIES, QUEUES, queues_of

__all__ = ["SYNTHETIC", "HitRatios", "ListGhosts", "ListGroups", "ListRows", "Request", "replay"]


class Request(NamedTuple):
    """One line of a trace."""

    key: Hashable
    nbytes: int = 1
    cost: int = 0  #: us to make it; 0: not known


@dataclass(frozen=True, slots=True)
class HitRatios:
    """What part of a trace was hit, as numbers from 0 to 1."""

    objects: float  #: of the requests
    nbytes: float  #: of the bytes that they asked for
    requests: int
    admitted: int  #: items written


class ListRows:
    """Columns of a number of rows, as lists."""

    def __init__(self, rows: int) -> None:
        self.queue, self.before, self.after, self.seen = [0] * rows, [0] * rows, [0] * rows, [0] * rows
        self.rank, self.nbytes, self.cost, self.used = [0] * rows, [0] * rows, [0] * rows, [0] * rows


class ListGroups:
    """Columns of a number of groups, as lists."""

    def __init__(self, policy: str, limit_nbytes: int, *, groups: int = 1) -> None:
        number = list(POLICIES).index(policy)
        self.policy, self.limit_nbytes = [number] * groups, [limit_nbytes] * groups
        self.used_nbytes, self.small_nbytes = [0] * groups, [0] * groups
        self.clock, self.evicted_nbytes = [0] * groups, [0] * groups
        self.heads = tuple([0] * groups for _ in range(QUEUES))
        self.tails = tuple([0] * groups for _ in range(QUEUES))


class ListGhosts:
    """The words of a number of ghosts, as a list."""

    def __init__(self, ghosts: int) -> None:
        self.word = [0] * ghosts


def replay(trace: Iterable[Request], policy: str, limit_nbytes: int, *, ghosts: int = 65_536) -> HitRatios:
    """Ask a cache of ``limit_nbytes`` for each key in turn, and put into it what it has not.

    Args:
        trace: requests; the same key has the same size throughout, or its later size counts from its next miss on.
        policy: one of ``POLICIES``.
        limit_nbytes: items that are larger are not kept.
        ghosts: how many evicted keys s3fifo remembers at most.
    """
    requests = list(trace)
    distinct = len({request.key for request in requests})
    rows, groups = ListRows(distinct), ListGroups(policy, limit_nbytes)
    queues = queues_of(rows, groups, ListGhosts(ghosts), 0, now=itertools.count(1).__next__)
    row_of = {key: row for row, key in enumerate(dict.fromkeys(request.key for request in requests))}
    hash_of = [zlib.crc32(repr(key).encode()) for key in row_of]
    hits = hit_nbytes = asked_nbytes = admitted = 0
    for key, nbytes, cost in requests:
        row = row_of[key]
        asked_nbytes += nbytes
        if rows.queue[row]:
            hits += 1
            hit_nbytes += nbytes
            queues.hit(row)
        elif nbytes <= limit_nbytes:
            while groups.used_nbytes[0] + nbytes > limit_nbytes:
                victim = queues.victim(lambda _: True)
                if victim is None:
                    raise RuntimeError("nothing to evict, though everything may go")
                queues.evicted(victim, hash_of[victim])
            rows.nbytes[row], rows.cost[row] = nbytes, cost
            queues.admit(row, hash_of[row])
            admitted += 1
    total = len(requests)
    return HitRatios(hits / max(total, 1), hit_nbytes / max(asked_nbytes, 1), total, admitted)


def zipf(requests: int = 100_000, *, keys: int = 10_000, skew: float = 1.0, sized: bool = False) -> list[Request]:
    """Few keys are asked for often, most seldom: key k with a chance of 1 / k^skew.

    ``sized``: log-normal sizes from some hundred bytes to some megabytes that do not depend on how often a key is asked for.
    """
    choose = random.Random(1)
    reach = list(itertools.accumulate(1 / rank**skew for rank in range(1, keys + 1)))
    sizes = [int(choose.lognormvariate(9, 2)) + 1 if sized else 1 for _ in range(keys)]
    picked = (bisect.bisect_left(reach, choose.random() * reach[-1]) for _ in range(requests))
    return [Request(key, sizes[key]) for key in picked]


def scan(requests: int = 100_000, *, keys: int = 5_000, every: int = 1_000, length: int = 1_000) -> list[Request]:
    """Zipf, and now and then somebody reads a long row of things once."""
    asked, made, fresh = zipf(requests, keys=keys), [], itertools.count(keys)
    for number, request in enumerate(asked):
        made.append(request)
        if number % (every + length) == every:
            made += [Request(next(fresh)) for _ in range(length)]
    return made[:requests]


def loop(requests: int = 100_000, *, keys: int = 1_500, around: int = 6) -> list[Request]:
    """Somebody reads a set again and again from its beginning, larger than the cache, beside others who ask as in ``zipf``."""
    others = iter(zipf(requests, keys=5_000))
    looped = itertools.cycle(range(100_000, 100_000 + keys))
    return [Request(next(looped)) if number % around < around // 2 else next(others) for number in range(requests)]


#: by name; made when called
SYNTHETIC: dict[str, Callable[[], list[Request]]] = {
    "zipf 0.8": lambda: zipf(skew=0.8),
    "zipf 1.0": zipf,
    "zipf 1.2": lambda: zipf(skew=1.2),
    "zipf with scans": scan,
    "zipf with a loop": loop,
    "zipf 1.0, sized": lambda: zipf(sized=True),
}
