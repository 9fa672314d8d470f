"""Policies of a single queue: fifo, lru and sieve."""

from __future__ import annotations

from collections.abc import Callable

from .queues import STEPS, Queues

__all__ = ["FifoQueues", "LruQueues", "SieveQueues"]

#: items that one is compared with when it gets its place by time; further ones would cost more than the order is worth
_COMPARED = 64


class FifoQueues(Queues):
    """The oldest goes, whatever is used."""

    __slots__ = ()

    def hit(self, row: int) -> None:
        """Nothing: the order is that of arrival."""

    def victim(self, may_go: Callable[[int], bool]) -> int | None:
        for _ in range(STEPS):
            row = self._tail(0)
            if row is None or may_go(row):
                return row
            self._move(row, 0)
        return None


class LruQueues(Queues):
    """What was not used for longest goes.

    A hit stores the time and moves nothing. The queue is in the order of ``rank``, which is what ``used`` was when the
    item got its place; so an oldest item whose two times agree is the one unused for longest, and one whose times
    differ gets its place anew.
    """

    __slots__ = ()

    def hit(self, row: int) -> None:
        self._rows.used[row] = self._now()

    def released(self, row: int) -> None:
        self._unlink(row)
        self._insert(row, self._rows.used[row])

    def victim(self, may_go: Callable[[int], bool]) -> int | None:
        rows = self._rows
        passed: int | None = None
        for _ in range(STEPS):
            row = self._tail(0)
            if row is None:
                return None
            used, is_next = rows.used[row], rows.used[row] <= rows.rank[row]
            if may_go(row):
                if is_next:
                    return row
                passed = row
            elif is_next:
                used = rows.used[row] = self._now()
            self._unlink(row)
            self._insert(row, used)
        return passed

    def _enter(self, row: int, key_hash: int) -> None:  # noqa: ARG002 - only s3fifo remembers keys
        rows = self._rows
        rows.rank[row] = rows.used[row] = self._now()
        self._push(0, row)

    def _enter_again(self, row: int) -> None:
        self._rows.rank[row] = self._rows.used[row]
        self._push(0, row)

    def _insert(self, row: int, used: int) -> None:
        """Behind all that were given a place for a later use, of the youngest ``_COMPARED``."""
        rows = self._rows
        younger, older = 0, self._groups.heads[0][self._group]
        for _ in range(_COMPARED):
            if not older or rows.rank[older - 1] <= used:
                break
            younger, older = older, rows.after[older - 1]
        rows.rank[row] = used
        if not younger:
            self._push(0, row)
            return
        rows.queue[row], rows.before[row], rows.after[row] = 1, younger, older
        rows.after[younger - 1] = row + 1
        if older:
            rows.before[older - 1] = row + 1
        else:
            self._groups.tails[0][self._group] = row + 1


class SieveQueues(Queues):
    """A hand goes from the oldest to the youngest and evicts what was not used since it last came by (NSDI '24).

    What stays keeps its place, so new items are sifted quickly. ``clock`` is row + 1 of the hand, 0: at the oldest.
    """

    __slots__ = ()

    def victim(self, may_go: Callable[[int], bool]) -> int | None:
        rows, clock, group = self._rows, self._groups.clock, self._group
        passed: int | None = None
        for _ in range(STEPS):
            row = self._hand()
            if row is None:
                return None
            if may_go(row):
                if not rows.seen[row]:
                    return row
                if passed is None:
                    passed = row
            rows.seen[row] = 0
            clock[group] = rows.before[row]
        return passed

    def forget(self, row: int) -> None:
        clock, group = self._groups.clock, self._group
        if clock[group] == row + 1:
            clock[group] = self._rows.before[row]
        super().forget(row)

    def _hand(self) -> int | None:
        found = self._groups.clock[self._group]
        if found and found <= len(self._rows.queue) and self._rows.queue[found - 1]:
            return found - 1
        return self._tail(0)
