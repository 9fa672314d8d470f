"""Folding: what a process has counted is kept when it ends, also when whoever sees to that is killed at any store.

There are two base rows, and bit 0 of one word says which of them counts. To fold a row, the other base gets the sum of the
first and the row; then one store makes it count and names the row as one to be cleared. So a death at any store neither
loses the row nor counts it twice: before that store nothing has happened, after it whoever comes next clears the row.
Who only reads leaves out the row that is named: the base has it already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import PlaneCorrupt

if TYPE_CHECKING:
    from ..tables import Column

__all__ = ["Folding", "folded_slot"]


def folded_slot(word: int) -> int:
    """The slot whose row is in the base already; -1: none."""
    return (word >> 1) - 1


class Folding:
    """Everything here runs under the lock.

    Args:
        word: the column whose first row says which base counts, and which row is in it already.
        slots: how many rows of processes there are.
        base_row, row_of: the words of a base row, and of the row of a slot.
    """

    def __init__(
        self, word: Column, slots: int, *, base_row: Callable[[int], Column], row_of: Callable[[int], Column]
    ) -> None:
        self._word, self._slots, self._base_row, self._row_of = word, slots, base_row, row_of

    @property
    def base(self) -> Column:
        """The words of the base row that counts."""
        return self._base_row(self._word[0] & 1)

    def fold(self, slot: int, counts: Sequence[bool]) -> None:
        """The process of ``slot`` has ended: its counts go to the base, and its row is cleared.

        Args:
            counts: of each word that is in use, whether it is a count; what is none goes with its process.
        """
        self.finish()
        old = self._word[0] & 1
        base, sums, ended = self._base_row(old).tolist(), self._base_row(1 - old), self._row_of(slot).tolist()
        for index, is_count in enumerate(counts):
            word = base[index] + (ended[index] if is_count else 0)
            if sums[index] != word:
                sums[index] = word
        # The one store that counts: from here on the row's counts are in the base, and the row is to be cleared.
        self._word[0] = (slot + 1) << 1 | 1 - old
        self.finish()

    def finish(self) -> None:
        """Clear the row that a fold, killed since, has added already."""
        word = self._word[0]
        slot = folded_slot(word)
        if slot >= self._slots:
            raise PlaneCorrupt(f"the header says that slot {slot} is being folded; remove the plane")
        if slot >= 0:
            self.clear(slot)
            self._word[0] = word & 1

    def clear(self, slot: int) -> None:
        """Make a row zero."""
        row = self._row_of(slot)
        for index, word in enumerate(row.tolist()):
            if word:
                row[index] = 0
