"""Replays of traces: what a policy would have hit, over lists in place of a plane's words. No plane, no processes."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from . import POLICIES, queues_of
from .columns import QUEUES

__all__ = ["HitRatios", "ListGhosts", "ListGroups", "ListRows", "Request", "replay"]


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
