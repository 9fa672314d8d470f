"""lfu: what was used least often goes; of several, the one that has had this count for longest."""

from __future__ import annotations

from collections.abc import Callable

from .columns import QUEUES
from .queues import STEPS, Queues

__all__ = ["LfuQueues"]

_EXACT = 32  #: counts up to this have a queue each; above, each power of two has one


class LfuQueues(Queues):
    """A queue per count. A hit counts up and moves nothing; an item at a tail goes to the queue of its count."""

    __slots__ = ()

    def hit(self, row: int) -> None:
        """Count it. Of two processes that do so at once one may be lost."""
        self._rows.seen[row] += 1

    def victim(self, may_go: Callable[[int], bool]) -> int | None:
        passed: int | None = None
        for _ in range(STEPS):
            row, queue = self._rarest()
            if row is None:
                return None
            rightful = _queue_of(self._rows.seen[row])
            if not may_go(row):
                rightful = queue + 1  # it is in use, so it counts for more than those that wait in this queue
            elif rightful <= queue:
                return row
            elif passed is None:
                passed = row
            self._move(row, min(max(rightful, queue), QUEUES - 1))
        return passed

    def _rarest(self) -> tuple[int | None, int]:
        for queue in range(QUEUES):
            row = self._tail(queue)
            if row is not None:
                return row, queue
        return None, 0

    def _enter_again(self, row: int) -> None:
        self._push(_queue_of(self._rows.seen[row]), row)


def _queue_of(count: int) -> int:
    if count <= _EXACT:
        return count
    return min(QUEUES - 1, _EXACT + count.bit_length() - _EXACT.bit_length() + 1)
