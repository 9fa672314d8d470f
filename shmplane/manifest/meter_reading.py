"""Reading what meters and groups say, over all processes: their words are copied under the lock and added up after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .folding import folded_slot
from .limits import METER_WORDS
from .metering import LEVEL_WORDS

if TYPE_CHECKING:
    from .store import Manifest

__all__ = ["GroupUse", "MeterWords", "copy_meters", "read_groups"]


class MeterWords(NamedTuple):
    """A copy of all meters' words.

    Attributes:
        names: by row.
        base: of those that have ended; their levels say nothing.
        rows: of those that take part.
    """

    names: dict[int, bytes]
    base: list[int]
    rows: list[bytes]

    def totals(self) -> dict[str, list[int]]:
        """The words of every meter by its name: levels of those who take part, and counts of all who ever did."""
        return {name.decode(errors="replace"): self.total(row) for row, name in self.names.items()}

    def total(self, row: int) -> list[int]:
        """Those of one meter."""
        words = slice(row * METER_WORDS, (row + 1) * METER_WORDS)
        base = [0] * LEVEL_WORDS + self.base[words][LEVEL_WORDS:]
        return [
            sum(column) for column in zip(base, *(memoryview(row).cast("Q")[words] for row in self.rows), strict=True)
        ]


def copy_meters(manifest: Manifest) -> MeterWords:
    """Copy them; under the lock. Cost: some 5 µs a process that has a meter."""
    processes, word, slots = manifest.processes, manifest.header.folding[0], manifest.limits.max_processes
    metered = [slot for slot in manifest.slots_in_use() if processes.metered[slot] and slot != folded_slot(word)]
    high = manifest.meters_high * METER_WORDS
    if not high:
        return MeterWords({}, [], [])  # nothing may stand behind the base rows either
    return MeterWords(
        manifest.meter_names(),
        manifest.reading_row(slots + (word & 1))[:high].tolist(),
        [manifest.reading_row(slot)[:high].tobytes() for slot in metered],
    )


class GroupUse(NamedTuple):
    """What the blocks of a group take."""

    limit_nbytes: int
    used_nbytes: int
    blocks: int
    evictions: int


def read_groups(manifest: Manifest) -> dict[str, GroupUse]:
    """The groups that have a name, by it; under the lock."""
    groups = manifest.groups
    return {
        groups.text.read(row, groups.length[row]).decode(errors="replace"): GroupUse(
            groups.limit_nbytes[row], groups.used_nbytes[row], groups.blocks[row], groups.evictions[row]
        )
        for row, state in enumerate(groups.state.tolist())
        if state and groups.length[row]
    }
