"""s3fifo: size- and cost-aware, and the default.

S3-FIFO (SOSP '23) with one main queue for each power of two of sizes, as AdaptSize and GDSF weigh items. New items go to
a small queue of a tenth of the bytes; what is not used in there goes soon, and is remembered as a *ghost*: when it comes
again, it goes to a main queue at once, as does what was used. An item in a main queue has H = L + cost / nbytes^p, where L
is the H of the last victim; the oldest items of the queues are compared, and the one of the smallest H goes, or, if it was
used, becomes the youngest with a new H. So what is expensive for its size stays longer, but nothing stays for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from .columns import QUEUES
from .queues import STEPS, Queues

__all__ = ["S3FifoQueues"]

_SMALL = 0
_SMALL_SHARE = 10  #: the small queue has one part in so many of the bytes
_ONE = 1 << 16  #: of the fixed-point numbers H
_HIGHEST = (1 << 63) - 1
_UNKNOWN_COST = 1_000  #: us: what is not known to be dear costs a millisecond
_POWER = 0.5  #: p: 1 favours small items as GDSF does, 0 ignores sizes

_MASK = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15  #: 2^64 / golden ratio: multiplying by it spreads a hash over all bits
_AGE_BITS = 48
_AGE_MASK = (1 << _AGE_BITS) - 1


class S3FifoQueues(Queues):
    """Queue 0 is the small one; queue n has the items of 2^(n-1) to 2^n - 1 B, the last also those above."""

    __slots__ = ()

    def victim(self, may_go: Callable[[int], bool]) -> int | None:
        rows = self._rows
        passed: int | None = None
        is_in_use = False
        for _ in range(STEPS):
            row = self._oldest(small_first=is_in_use)
            if row is None:
                return None
            at_least, is_in_use = 0, not may_go(row)
            if is_in_use:
                # Behind the oldest of all queues: or an item of little worth that is in use would always be the next.
                at_least = 1 + max((rows.rank[row] for row in self._tails()), default=0)
            elif not rows.seen[row]:
                return row
            elif passed is None:
                passed = row
            rows.seen[row] = 0
            self._leave_small(row)
            self._unlink(row)
            self._enter_main(row, at_least=at_least)
        return passed

    def evicted(self, row: int, key_hash: int) -> None:
        queue = self._rows.queue[row]
        if queue == _SMALL + 1:
            self._remember(key_hash, self._rows.nbytes[row])
        elif queue:
            clock, group = self._groups.clock, self._group
            clock[group] = max(clock[group], self._rows.rank[row])
        self.forget(row)

    def forget(self, row: int) -> None:
        self._leave_small(row)
        super().forget(row)

    def _enter(self, row: int, key_hash: int) -> None:
        if self._came_back(key_hash):
            self._enter_main(row)
        else:
            self._enter_small(row)

    def _enter_again(self, row: int) -> None:
        if self._rows.queue[row] == _SMALL + 1:
            self._enter_small(row)
        else:
            self._enter_main(row)

    def _enter_small(self, row: int) -> None:
        self._groups.small_nbytes[self._group] += self._rows.nbytes[row]
        self._push(_SMALL, row)

    def _leave_small(self, row: int) -> None:
        if self._rows.queue[row] == _SMALL + 1:
            small = self._groups.small_nbytes
            small[self._group] -= min(self._rows.nbytes[row], small[self._group])

    def _enter_main(self, row: int, *, at_least: int = 0) -> None:
        rows = self._rows
        nbytes = rows.nbytes[row] or 1
        worth = int((rows.cost[row] or _UNKNOWN_COST) * _ONE / nbytes**_POWER)
        rows.rank[row] = min(max(self._groups.clock[self._group] + max(worth, 1), at_least), _HIGHEST)
        self._push(min(nbytes.bit_length(), QUEUES - 1), row)

    def _oldest(self, *, small_first: bool) -> int | None:
        """The oldest small item while these have more than their share, else the one of the smallest H.

        ``small_first``: also else, since the last one of the main queues is in use, and all in there may be.
        """
        groups, group = self._groups, self._group
        whole = groups.limit_nbytes[group] or groups.used_nbytes[group]
        if small_first or groups.small_nbytes[group] * _SMALL_SHARE >= whole:
            small = self._tail(_SMALL)
            if small is not None:
                return small
        rank, tails = self._rows.rank, self._tails()
        return min(tails, key=lambda row: rank[row]) if tails else self._tail(_SMALL)

    def _tails(self) -> list[int]:
        tails, group = self._groups.tails, self._group
        queues = [queue for queue in range(_SMALL + 1, QUEUES) if tails[queue][group]]
        return [row for row in map(self._tail, queues) if row is not None]

    # Ghosts.

    def _place(self, key_hash: int) -> tuple[int, int]:
        """Row among the ghosts and fingerprint; the same key of another group has others."""
        mixed = (key_hash + 1 + self._group * 0x632BE59BD9B4E019) * _SPREAD & _MASK
        mixed = (mixed ^ mixed >> 32) * _SPREAD & _MASK
        return (mixed >> 16) % len(self._ghosts.word), mixed >> _AGE_BITS or 1

    def _remember(self, key_hash: int, nbytes: int) -> None:
        evicted, group = self._groups.evicted_nbytes, self._group
        evicted[group] = age = evicted[group] + nbytes & _AGE_MASK
        place, fingerprint = self._place(key_hash)
        self._ghosts.word[place] = fingerprint << _AGE_BITS | age

    def _came_back(self, key_hash: int) -> bool:
        """Whether it was evicted from the small queue lately: since then less than the whole went."""
        place, fingerprint = self._place(key_hash)
        ghost = self._ghosts.word[place]
        if ghost >> _AGE_BITS != fingerprint:
            return False
        self._ghosts.word[place] = 0
        groups, group = self._groups, self._group
        age = groups.evicted_nbytes[group] - ghost & _AGE_MASK
        return age <= (groups.limit_nbytes[group] or groups.used_nbytes[group])
