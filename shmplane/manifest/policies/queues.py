"""Doubly linked queues of items, and what all policies share.

The youngest item is a queue's head, the oldest its tail. A link is a row + 1, so a fresh table is a set of empty queues.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from ...errors import PlaneCorrupt
from .columns import QUEUES, Ghosts, Groups, Rows

__all__ = ["STEPS", "Queues"]

#: items that one call of ``victim`` looks at
STEPS = 64


class Queues(ABC):
    """The items of one group, in the order in which they go. Subclasses are the policies.

    Args:
        rows, groups, ghosts: the columns, see ``columns``.
        group: row of the group.
        now: the clock of ``rows.used``.
    """

    __slots__ = ("_ghosts", "_group", "_groups", "_now", "_rows")

    def __init__(
        self, rows: Rows, groups: Groups, ghosts: Ghosts, group: int, *, now: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._rows, self._groups, self._ghosts, self._group, self._now = rows, groups, ghosts, group, now

    # What a policy is asked, under the lock but for ``hit``.

    def admit(self, row: int, key_hash: int) -> None:
        """A new item; its ``nbytes`` and ``cost`` are set. ``key_hash``: of up to 64 bits, the same for the same key."""
        self._rows.seen[row] = 0
        self._groups.used_nbytes[self._group] += self._rows.nbytes[row]
        self._enter(row, key_hash)

    def hit(self, row: int) -> None:
        """It was used. A hint: at most one store, without the lock."""
        seen = self._rows.seen
        if not seen[row]:
            seen[row] = 1

    def released(self, row: int) -> None:  # noqa: B027 - most policies do nothing then
        """A use of it that took a while is over, at the time in ``used``. Under the lock, and right where it matters."""

    @abstractmethod
    def victim(self, may_go: Callable[[int], bool]) -> int | None:
        """The item to evict next, or None when none of those looked at may go: ask again, or give up.

        It is looked at ``STEPS`` items at most, and those that stay are moved. So when nothing may go, as many calls
        as there are items / ``STEPS``, and one more, have seen all of them.

        Args:
            may_go: whether the row can be freed now. It is asked of rows of this group's queues only; in a manifest
                that was written over these may be any, so it says no to what is not of the group.
        """

    def evicted(self, row: int, key_hash: int) -> None:  # noqa: ARG002 - only s3fifo remembers keys
        """It was chosen and goes: taken out and, where the policy does so, remembered as gone."""
        self.forget(row)

    def forget(self, row: int) -> None:
        """It goes for another reason: deleted, replaced, out of date. Nothing when it is in no queue."""
        if self._rows.queue[row]:
            self._groups.used_nbytes[self._group] -= min(self._rows.nbytes[row], self._groups.used_nbytes[self._group])
            self._unlink(row)

    def rebuild(self, rows: Iterable[int]) -> None:
        """Make everything anew from the rows that belong to the group, whatever the columns say now.

        The order is that of ``used``; what each row's own words say of its queue is believed where it can be.
        """
        group, groups = self._group, self._groups
        for queue in range(QUEUES):
            groups.heads[queue][group] = groups.tails[queue][group] = 0
        groups.used_nbytes[group] = groups.small_nbytes[group] = groups.clock[group] = 0
        used = self._rows.used
        for row in sorted(rows, key=lambda row: used[row]):
            groups.used_nbytes[group] += self._rows.nbytes[row]
            self._enter_again(row)

    # What subclasses say.

    def _enter(self, row: int, key_hash: int) -> None:  # noqa: ARG002 - only s3fifo remembers keys
        self._push(0, row)

    def _enter_again(self, row: int) -> None:
        self._push(0, row)

    # The chains.

    def _tail(self, queue: int) -> int | None:
        found = self._groups.tails[queue][self._group]
        if not found:
            return None
        if found > len(self._rows.queue) or self._rows.queue[found - 1] != queue + 1:
            raise PlaneCorrupt(f"a queue of what may be evicted leads to row {found - 1}, which is not in it; run gc()")
        return found - 1

    def _push(self, queue: int, row: int) -> None:
        """Make it the youngest of the queue."""
        rows, heads, group = self._rows, self._groups.heads[queue], self._group
        youngest = heads[group]
        rows.queue[row] = queue + 1
        rows.before[row] = 0
        rows.after[row] = youngest
        if youngest:
            rows.before[youngest - 1] = row + 1
        else:
            self._groups.tails[queue][group] = row + 1
        heads[group] = row + 1

    def _unlink(self, row: int) -> None:
        rows, groups, group = self._rows, self._groups, self._group
        queue, before, after = rows.queue[row] - 1, rows.before[row], rows.after[row]
        if before:
            rows.after[before - 1] = after
        else:
            groups.heads[queue][group] = after
        if after:
            rows.before[after - 1] = before
        else:
            groups.tails[queue][group] = before
        rows.queue[row] = rows.before[row] = rows.after[row] = 0

    def _move(self, row: int, queue: int) -> None:
        """Make it the youngest of another queue, or of its own again."""
        self._unlink(row)
        self._push(queue, row)
