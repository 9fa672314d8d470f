"""Which item goes when there is no room: eviction policies, written once over columns.

A column is anything with ``column[row]`` and ``column[row] = word``: lists in tests and in replays of traces, words of the
manifest in a plane. So the decisions are tested at full speed without processes, and what is tested is what runs.

Rule 1. ``victim`` only decides, and moves what stays; ``evicted`` and ``forget`` take out. Whoever frees a row calls one of
them first.
Rule 2. A call of ``victim`` looks at ``STEPS`` items at most; all others cost the same whatever the number of items.
Rule 3. Everything here is derived from which rows belong to a group: ``rebuild`` makes it anew after a crash.
Rule 4. All calls but ``hit`` are made under the lock. ``hit`` is a hint, stored without it: the only consequence of a race
is that an item stays one round longer, or goes one earlier.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .columns import QUEUES, Ghosts, Groups, Rows, Words
from .fifo import FifoQueues, LruQueues, SieveQueues
from .lfu import LfuQueues
from .queues import STEPS, Queues
from .s3fifo import S3FifoQueues

__all__ = ["POLICIES", "QUEUES", "STEPS", "Ghosts", "Groups", "Queues", "Rows", "Words", "queues_of"]

#: By name; the word ``policy`` of a group is the position here.
POLICIES: dict[str, type[Queues]] = {
    "s3fifo": S3FifoQueues,
    "lru": LruQueues,
    "lfu": LfuQueues,
    "fifo": FifoQueues,
    "sieve": SieveQueues,
}
_BY_NUMBER = tuple(POLICIES.values())


def queues_of(
    rows: Rows, groups: Groups, ghosts: Ghosts, group: int, *, now: Callable[[], int] = time.monotonic_ns
) -> Queues:
    """The queues of one group, by the policy that its row names."""
    return _BY_NUMBER[groups.policy[group] % len(_BY_NUMBER)](rows, groups, ghosts, group, now=now)
