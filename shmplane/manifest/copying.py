"""A private copy of the words of a manifest: what is looked at is copied under the lock and read after it.

Copying the rows of 10,000 blocks takes half a millisecond, reading them some 80 ms. A copier copies twice:
first without the lock, for the pages of both sides to be there, then under it, for the words to fit each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..tables import Column, Table, view_column, viewed_lazily
from .schema import Blocks, Header, Names, Processes, Segments, Semaphores

if TYPE_CHECKING:
    from .store import Manifest

__all__ = ["TableCopier", "TableCopy"]

IsHeld = Callable[[int], bool]
#: whose rows are copied in less time than it takes to do it twice
_FEW_BLOCKS = 1024


class TableCopy:
    """The rows in use at one moment; a row beyond them is an ``IndexError``.

    Attributes:
        alive: by slot in use, whether its token was held.
        leases: by slot in use, a word per block row.
        permits: by slot that uses semaphores, permits held and oldest tickets, a word per semaphore row.
        has_blocks: False: ``blocks`` and ``names`` have no rows.
        own: made inside a transaction of this process, which has recovered what others left: a dirty word is its own.
    """

    header: Header
    processes: Processes
    segments: Segments
    semaphores: Semaphores
    blocks: Blocks
    names: Names
    has_blocks: bool

    def __init__(self, alive: dict[int, bool], own: bool) -> None:
        self.alive, self.own = alive, own
        self.leases: dict[int, Column] = {}
        self.permits: dict[int, tuple[Column, Column]] = {}


class TableCopier:
    """Room for a copy of one manifest.

    Args:
        with_blocks: copy the rows of blocks and names as well, and not only when a process has ended.
        own: the copies will be made inside transactions of this process.
    """

    def __init__(self, manifest: Manifest, *, with_blocks: bool, own: bool = False) -> None:
        self._manifest, self._with_blocks, self._own = manifest, with_blocks, own
        self._room = memoryview(b"").cast("Q")
        if manifest.blocks_high > _FEW_BLOCKS:
            # Once without the lock: so the pages of the copy are there when the lock is held.
            self.copy()

    def copy(self, is_held: IsHeld = lambda _: True) -> TableCopy:
        """Copy what is in use; under the lock. The copy before it is overwritten.

        Args:
            is_held: whether the token of a slot is held; left out by those to whom all processes are the same.
        """
        processes, made = self._manifest.processes, TableCopy({}, self._own)
        slots = [slot for slot, state in enumerate(processes.state.tolist()) if state]
        made.alive = {slot: is_held(slot) for slot in slots}
        made.has_blocks = self._with_blocks or not all(made.alive.values())
        self._copy_into(made, [slot for slot in slots if processes.coordinates[slot]])
        return made

    def _copy_into(self, made: TableCopy, coordinating: list[int]) -> None:
        manifest = self._manifest
        blocks, semaphores = manifest.blocks_high, manifest.semaphores_high
        tables: list[tuple[Table, int]] = [
            (manifest.header, 1),
            (manifest.processes, manifest.processes.rows),
            (manifest.segments, manifest.segments_high),
            (manifest.semaphores, semaphores),
            (manifest.blocks, blocks if made.has_blocks else 0),
            (manifest.names, manifest.names_high if made.has_blocks else 0),
        ]
        spans = [
            *((table.start, rows * table.row_words) for table, rows in tables),
            *((manifest.leases_start(slot), blocks) for slot in made.alive),
            *((start, semaphores) for slot in coordinating for start in manifest.permits_starts(slot)),
        ]
        starts = iter(self._copy_spans(spans))
        for table, rows in tables:
            kind = type(table)
            setattr(made, kind.__name__.lower(), viewed_lazily(kind)(self._room, next(starts), rows))
        made.leases = {slot: self._words(next(starts), blocks) for slot in made.alive}
        made.permits = {
            slot: (self._words(next(starts), semaphores), self._words(next(starts), semaphores))
            for slot in coordinating
        }

    def _copy_spans(self, spans: list[tuple[int, int]]) -> Iterator[int]:
        """Copy one behind the other; where each begins."""
        needed = sum(count for _, count in spans)
        if needed > len(self._room):
            # More than now: what comes before the lock is had must not make it grow once more.
            self._room = memoryview(bytearray((needed + needed // 4 + 4096) * self._room.itemsize)).cast("Q")
        position, starts = 0, []
        for start, count in spans:
            self._room[position : position + count] = self._manifest.words[start : start + count]
            starts.append(position)
            position += count
        return iter(starts)

    def _words(self, start: int, count: int) -> Column:
        return view_column(self._room, start, 1, count)
