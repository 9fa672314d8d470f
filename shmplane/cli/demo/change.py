"""Changing a little of much: one row of a large array, some rows more of the table, each beside copying it all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ...plane import Plane
    from .crew import Hand
    from .data import Data

__all__ = ["Change", "append_rows", "edit_one_row"]

#: a name that no file gives to a block
GRID = "demo/large array"
_COLUMNS = 16
_ROW_NBYTES = _COLUMNS * 8
_APPENDED = 1_000


class Change(NamedTuple):
    """A new version that shares what did not change.

    Attributes:
        rows: changed or added, of ``of_rows``.
        nbytes: of the whole new version; ``copied_nbytes`` of them were written for it.
        seconds: from the beginning until another process had read the change.
        full_copy_s: copying the whole, which is the least that a store without versions does.
        seen: the other process found the change, and whoever held the old version found that unchanged.
    """

    rows: int
    of_rows: int
    shape: str
    nbytes: int
    copied_nbytes: int
    seconds: float
    full_copy_s: float
    seen: bool


def edit_one_row(plane: Plane, witness: Hand, *, nbytes: int) -> Change:
    """Change a row in the middle of an array of about that size, made for this and removed again."""
    rows = nbytes // _ROW_NBYTES
    with plane.create(GRID, (rows, _COLUMNS), "f8") as builder:
        builder.array[:] = 1.0
    old = plane.get(GRID)
    witness.ask("total_of_row", GRID, 0)  # a reader that works with it already
    row = rows // 2
    began = time.monotonic()
    with plane.edit(GRID) as draft:
        draft.array[row] = 2.0  # type: ignore[union-attr]
    found = witness.ask("total_of_row", GRID, row)
    took = time.monotonic() - began
    began = time.monotonic()
    copy = old.copy()
    full_copy_s = time.monotonic() - began
    seen = found == 2.0 * _COLUMNS and float(old[row].sum()) == 1.0 * _COLUMNS == float(copy[row].sum())
    copied = draft.dirty_nbytes  # type: ignore[union-attr]
    del old, plane[GRID]
    shape = f"{rows:,} x {_COLUMNS} float64"
    return Change(1, rows, shape, rows * _ROW_NBYTES, copied, took, full_copy_s, seen)


def append_rows(plane: Plane, data: Data, witness: Hand) -> Change:
    """Append the table's last rows once more."""
    import pyarrow as pa

    old = plane.get(data.block)
    added = data.value.slice(max(0, data.rows - _APPENDED))
    before = plane.stats().used_nbytes
    began = time.monotonic()
    plane.append(data.block, added).close()
    found = witness.ask("rows_now", data.block)
    took = time.monotonic() - began
    grown = plane.stats().used_nbytes - before
    with pa.BufferOutputStream() as copy:
        began = time.monotonic()
        with pa.ipc.new_file(copy, old.schema) as writer:
            writer.write_table(old)
        full_copy_s = time.monotonic() - began
    seen = found == data.rows + added.num_rows and old.num_rows == data.rows
    # Small parts go where there is room already, so the plane does not grow by each.
    copied = max(grown, int(added.nbytes))
    shape = f"{found:,} rows x {old.num_columns} columns"
    return Change(added.num_rows, found, shape, int(old.nbytes + added.nbytes), copied, took, full_copy_s, seen)
