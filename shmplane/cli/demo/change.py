"""Changing a little of much: one row of a large array, some rows more of the table, each beside copying it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from .workers import timed

if TYPE_CHECKING:
    from ...plane import Plane
    from .data import Data
    from .workers import Worker

__all__ = ["Change", "append_rows", "edit_one_row"]

#: a name that no file gives to a block
_GRID = "demo/large array"
_COLUMNS = 16
_APPENDED = 1_000


class Change(NamedTuple):
    """A new version that shares what did not change."""

    rows: int  #: changed or added, of ``of_rows``
    of_rows: int
    shape: str
    nbytes: int  #: of the whole new version
    copied_nbytes: int  #: of these, written for it
    seconds: float  #: until another process had read the change
    full_copy_s: float  #: copying the whole, which is the least that a store without versions does
    seen: bool  #: the other process found the change, and whoever held the old version found that unchanged


def edit_one_row(plane: Plane, witness: Worker, *, nbytes: int) -> Change:
    """Change a row in the middle of an array of about that size, made for this and removed again."""
    rows = nbytes // (_COLUMNS * 8)
    row = rows // 2
    with plane.create(_GRID, (rows, _COLUMNS), "f8") as builder:
        builder.array[:] = 1.0
    old = plane.get(_GRID)
    witness.ask("total_of_row", _GRID, 0)  # a reader that works with it already

    def edit() -> tuple[float, int]:
        with plane.edit(_GRID) as draft:
            draft.array[row] = 2.0
        return witness.ask("total_of_row", _GRID, row), draft.dirty_nbytes

    (found, written), took = timed(edit)
    copy, full_copy_s = timed(old.copy)
    seen = found == 2.0 * _COLUMNS and float(old[row].sum()) == 1.0 * _COLUMNS == float(copy[row].sum())
    whole = old.nbytes
    del old, plane[_GRID]
    return Change(1, rows, f"{rows:,} x {_COLUMNS} float64", whole, written, took, full_copy_s, seen)


def append_rows(plane: Plane, data: Data, witness: Worker) -> Change:
    """Append the table's last rows once more."""
    old = plane.get(data.block)
    added = data.value.slice(max(0, data.rows - _APPENDED))
    before = plane.stats().used_nbytes

    def append() -> int:
        plane.append(data.block, added).close()
        return int(witness.ask("rows_now", data.block))

    found, took = timed(append)
    # Small parts go where there is room already, so the plane does not grow by each.
    written = max(plane.stats().used_nbytes - before, int(added.nbytes))
    with pa.BufferOutputStream() as copy, pa.ipc.new_file(copy, old.schema) as writer:
        _, full_copy_s = timed(writer.write_table, old)
    seen = found == data.rows + added.num_rows and old.num_rows == data.rows
    shape = f"{found:,} rows x {old.num_columns} columns"
    return Change(added.num_rows, found, shape, int(old.nbytes + added.nbytes), written, took, full_copy_s, seen)
