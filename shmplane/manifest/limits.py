"""What a plane's manifest is made of: its tables in order, how many rows each has, and where each begins."""

from __future__ import annotations

from typing import NamedTuple

from ..system import PAGE_NBYTES, SIZE_CLASSES
from ..tables import WORD_NBYTES, Table, fingerprint
from . import schema
from .space import CELL_NBYTES
from .states import MAX_BLOCKS

__all__ = [
    "COUNTER_ROWS_BEFORE",
    "FORMAT",
    "MAGIC",
    "MAX_METERS",
    "MAX_SEMAPHORES",
    "METER_WORDS",
    "PERMIT_WORDS",
    "READING_WORDS",
    "SEATS",
    "Limits",
    "fingerprint_of_format",
    "place",
]

MAGIC = int.from_bytes(b"shmplane", "little")
FORMAT = 6
TABLES: list[type[Table]] = [
    schema.Header,
    schema.Processes,
    schema.Classes,
    schema.Recycled,
    schema.Buckets,
    schema.Blocks,
    schema.Segments,
    schema.Names,
    schema.Semaphores,
    schema.Wakes,
    schema.Leases,
    schema.Permits,
    schema.Tickets,
    schema.Wishes,
    schema.Meters,
    schema.Readings,
    schema.Groups,
    schema.Ghosts,
    schema.Counters,
]
#: rows of counters before that of slot 0: two bases, and that of whoever has no slot yet
COUNTER_ROWS_BEFORE = 3
#: locks, semaphores and rates that are in use at once
MAX_SEMAPHORES = 512
#: of a process: permits, tickets and wishes
PERMIT_WORDS = 3 * MAX_SEMAPHORES
MAX_PROCESSES = 4096
#: of processes without a slot, which join or look, at once
SEATS = 256
#: meters of different names, and the words of one
MAX_METERS = 32
METER_WORDS = 96
#: groups of blocks of different names, the one without a name included
MAX_GROUPS = 32
READING_WORDS = MAX_METERS * METER_WORDS


def fingerprint_of_format() -> int:
    """What the header of every plane of this release says."""
    return fingerprint(TABLES)


class Limits(NamedTuple):
    """What fixes the size of every table."""

    max_blocks: int
    max_processes: int

    def check(self) -> None:
        if not 1 <= self.max_blocks <= MAX_BLOCKS:
            raise ValueError(f"max_blocks is 1 to {MAX_BLOCKS:,}, not {self.max_blocks!r}")
        if not 1 <= self.max_processes <= MAX_PROCESSES:
            raise ValueError(f"max_processes is 1 to {MAX_PROCESSES:,}, not {self.max_processes!r}")

    def rows(self) -> dict[type[Table], int]:
        return {
            schema.Header: 1,
            schema.Processes: self.max_processes,
            schema.Classes: len(CELL_NBYTES),
            schema.Recycled: SIZE_CLASSES,
            schema.Wakes: self.max_processes,
            schema.Groups: MAX_GROUPS,
            schema.Buckets: 1 << max(6, (self.max_blocks // 8).bit_length()),
            schema.Blocks: self.max_blocks,
            # A segment being removed does not hold up the next one.
            schema.Segments: self.max_blocks + 64,
            # Names outlive their blocks for a while, to go on counting versions.
            schema.Names: self.max_blocks + max(64, self.max_blocks // 8),
            schema.Semaphores: MAX_SEMAPHORES,
            schema.Meters: MAX_METERS,
            schema.Ghosts: 1 << max(6, (self.max_blocks - 1).bit_length()),
            schema.Counters: COUNTER_ROWS_BEFORE + self.max_processes,
        }


def place(limits: Limits) -> tuple[dict[type[Table], int], int, int]:
    """First word of each table, first word of the lease rows, bytes in all. Tables start on pages."""
    page = PAGE_NBYTES // WORD_NBYTES
    starts: dict[type[Table], int] = {}
    position = 0
    for table, rows in limits.rows().items():
        starts[table] = position
        position += -(-rows * table.row_words // page) * page
    lease_words = -(-limits.max_blocks // page) * page
    words_per_process = lease_words + PERMIT_WORDS + READING_WORDS
    words = position + limits.max_processes * words_per_process + 2 * READING_WORDS
    return starts, position, words * WORD_NBYTES
