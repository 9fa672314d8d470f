"""Meters: named words that every process writes for itself and anybody may sum over all processes, the dead included.

Each process has a row with all words of all meters; only it writes there. The first words of a meter are levels (how it is
now) and go with their process. The others are counts: those of a process that ended are folded into a base row.

How they are folded, so that a death at any store neither loses nor doubles them: ``folding``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from .folding import Folding
from .limits import METER_WORDS, READING_WORDS

if TYPE_CHECKING:
    from .store import Manifest

__all__ = ["LEVEL_WORDS", "OTHER_ROWS", "Metering"]

#: words of a meter that are levels; the first is not 0 as long as its process uses the meter
LEVEL_WORDS = 16
#: rows for names that have none of their own: those of pools, and those of caches
OTHER_ROWS = 2
#: of each word of all meters
_IS_COUNT = [index % METER_WORDS >= LEVEL_WORDS for index in range(READING_WORDS)]


class Metering:
    """Everything here runs under the lock."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._header, self._processes, self._meters = manifest.header, manifest.processes, manifest.meters
        first_base = manifest.limits.max_processes
        self._folding = Folding(
            manifest.header.folding,
            first_base,
            base_row=lambda bit: manifest.reading_row(first_base + bit),
            row_of=manifest.reading_row,
        )

    def back_rows(self, slot: int) -> None:
        """This process's row is about to be used."""
        self._folding.finish()
        if not self._processes.metered[slot]:
            self._manifest.reserve_reading_rows(slot)
            self._folding.clear(slot)
            self._processes.metered[slot] = 1

    def open(self, name: bytes, other: bytes = b"other") -> int:
        """The row of a meter's name, made when it is missing; when there are no more, that of ``other``.

        The last rows are for such names alone, one for each kind of what counts, so that this never fails.
        """
        names = self.names()
        if name in names:
            return names[name]
        row = self._free_row(set(names.values()))
        if row < 0:
            return names[other] if other in names else self._use(self._free_other_row(set(names.values())), other)
        return self._use(row, name)

    def names(self) -> dict[bytes, int]:
        """The rows of all meters by name."""
        return {name: row for row, name in self._manifest.meter_names().items()}

    def _free_row(self, taken: set[int]) -> int:
        """A row without a name, else one that nobody uses, whose counts go; -1: there is none."""
        self._folding.finish()
        rows = range(self._meters.rows - OTHER_ROWS)
        unnamed = next((row for row in rows if row not in taken), -1)
        if unnamed >= 0:
            return unnamed
        return next((row for row in rows if not any(any(self._read(slot, row)) for slot in self._slots())), -1)

    def _free_other_row(self, taken: set[int]) -> int:
        rows = range(self._meters.rows - OTHER_ROWS, self._meters.rows)
        return next((row for row in rows if row not in taken), rows[-1])

    def _use(self, row: int, name: bytes) -> int:
        meters = self._meters
        if row >= self._manifest.meters_high:
            self._header.meters_high[0] = row + 1
        meters.state[row] = 0
        base = self._folding.base
        for index in range(row * METER_WORDS, (row + 1) * METER_WORDS):
            if base[index]:
                base[index] = 0
        meters.hash[row] = crc32(name)
        meters.length[row] = len(name)
        meters.text.write(row, name)
        meters.state[row] = 1
        return row

    def is_named(self, row: int, name: bytes) -> bool:
        """Whether the row is still that of the name."""
        meters = self._meters
        return bool(meters.state[row]) and meters.text.read(row, meters.length[row]) == name

    def write(self, slot: int, row: int, words: Sequence[int]) -> None:
        """Say what the process of ``slot``, which is ours, has counted so far."""
        start, readings = row * METER_WORDS, self._manifest.reading_row(slot)
        for index, word in enumerate(words, start):
            if readings[index] != word:
                readings[index] = word

    def total(self, row: int) -> list[int]:
        """Levels of those who take part, and counts of all who ever did."""
        self._folding.finish()
        # The base has memory behind it since before the row was made.
        total = [0] * LEVEL_WORDS + self._folding.base[
            row * METER_WORDS + LEVEL_WORDS : (row + 1) * METER_WORDS
        ].tolist()
        for slot in self._slots():
            total = [sum(pair) for pair in zip(total, self._read(slot, row), strict=True)]
        return total

    def fold(self, slot: int) -> None:
        """The process of ``slot`` has ended: its counts go to the base. Its work is for those who had any only."""
        self._folding.finish()
        if not self._processes.metered[slot]:
            return
        self._folding.fold(slot, _IS_COUNT[: self._manifest.meters_high * METER_WORDS])
        self._processes.metered[slot] = 0

    def _slots(self) -> Iterator[int]:
        processes = self._processes
        states = zip(processes.state.tolist(), processes.metered.tolist(), strict=True)
        return (slot for slot, (state, metered) in enumerate(states) if state and metered)

    def _read(self, slot: int, row: int) -> list[int]:
        return self._manifest.reading_row(slot)[row * METER_WORDS : (row + 1) * METER_WORDS].tolist()
