"""The columns that policies work on, by what they mean. All words are unsigned and fit into 64 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["QUEUES", "Ghosts", "Groups", "Rows", "Words"]

#: queues of a group: number 0 and one for each size class or count
QUEUES = 48


class Words(Protocol):
    """A word per row."""

    def __getitem__(self, row: int, /) -> int: ...
    def __setitem__(self, row: int, word: int, /) -> None: ...
    def __len__(self) -> int: ...


class Rows(Protocol):
    """What is known of each item. Of the columns only ``nbytes``, ``cost`` and ``used`` are anybody else's to write."""

    @property
    def queue(self) -> Words: ...  #: 0: in none; else its queue + 1
    @property
    def before(self) -> Words: ...  #: row + 1 of the next younger of its queue, 0: it is the youngest
    @property
    def after(self) -> Words: ...  #: row + 1 of the next older, 0: it is the oldest
    @property
    def seen(self) -> Words: ...  #: hits since it was last looked at: as many (lfu), else 0 or 1
    @property
    def rank(self) -> Words: ...  #: s3fifo: H, a fixed-point number; lru: ``used`` when it got its place
    @property
    def nbytes(self) -> Words: ...  #: B that it counts for; the same from ``admit`` until it is taken out
    @property
    def cost(self) -> Words: ...  #: us to make it again; 0: not known
    @property
    def used(self) -> Words: ...  #: when it was last used, by the same clock as ``now``; only lru reads it


class Groups(Protocol):
    """What is known of each group of items with one limit."""

    @property
    def policy(self) -> Words: ...  #: position in ``POLICIES``
    @property
    def limit_nbytes(self) -> Words: ...  #: B; 0: somebody else's, then shares are of what is used
    @property
    def used_nbytes(self) -> Words: ...  #: derived: B of its items
    @property
    def small_nbytes(self) -> Words: ...  #: derived, s3fifo: B of the items in queue 0
    @property
    def clock(self) -> Words: ...  #: derived, s3fifo: H of the last victim; sieve: row + 1 of the hand
    @property
    def evicted_nbytes(self) -> Words: ...  #: s3fifo: B ever evicted from queue 0: how old a ghost is
    @property
    def heads(self) -> Sequence[Words]: ...  #: derived: of each queue, row + 1 of its youngest item
    @property
    def tails(self) -> Sequence[Words]: ...  #: derived: row + 1 of its oldest item


class Ghosts(Protocol):
    """What was evicted lately, of all groups: direct-mapped, so a newer one may take an older one's place."""

    @property
    def word(self) -> Words: ...  #: 16 bits of the key's hash and 48 of ``evicted_nbytes`` at the time
