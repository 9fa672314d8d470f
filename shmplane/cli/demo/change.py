"""Changing a little of much: one row of a large array, some rows more of the table, each beside copying it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .questions import buffers_of, row_count, row_of, shape_of
from .workers import Worker, look, timed

if TYPE_CHECKING:
    from ...plane import Plane

__all__ = ["append_rows", "edit_one_row"]

#: a name that no file gives to a block
_GRID = "demo/large array"
_COLUMNS = 16
_APPENDED = 1_000


def edit_one_row(plane: Plane, witness: Worker, *, nbytes: int) -> dict[str, Any]:
    """Change a row in the middle of an array of about that size, made for this and removed again."""
    rows = nbytes // (_COLUMNS * 8)
    with plane.create(_GRID, (rows, _COLUMNS), "f8") as builder:
        builder.array[:] = 1.0

    def edit() -> int:
        with plane.edit(_GRID) as draft:
            draft.array[rows // 2] = 2.0
        return draft.dirty_nbytes

    found = _measure(edit, plane, _GRID, rows=1, row=rows // 2, witness=witness)
    del plane[_GRID]
    return found


def append_rows(plane: Plane, block: str, witness: Worker) -> dict[str, Any]:
    """Append the table's last rows once more."""
    table = plane.get(block)
    added = table.slice(max(0, table.num_rows - _APPENDED))

    def append() -> int:
        before = plane.stats().used_nbytes
        plane.append(block, added).close()
        # Small parts go where there is room already, so the plane does not grow by each.
        return max(plane.stats().used_nbytes - before, int(added.nbytes))

    last = table.num_rows + added.num_rows - 1
    return _measure(append, plane, block, rows=added.num_rows, row=last, witness=witness)


def _measure(
    change: Callable[[], int], plane: Plane, block: str, *, rows: int, row: int, witness: Worker
) -> dict[str, Any]:
    """``change`` makes so many new rows, ``row`` among them, and returns how many bytes it wrote.

    Measured are the seconds until another process had read the row, and those of copying the whole: the least that a store
    without versions does. ``seen``: it was the new row, and whoever held the old version does not see it.
    """
    old = plane.get(block)
    before = witness.ask(look, block, row)
    (written, found), took = timed(lambda: (change(), witness.ask(look, block, row)))
    new = plane.get(block)
    return {
        "rows": rows,
        "of_rows": row_count(new),
        "shape": shape_of(new),
        "nbytes": int(new.nbytes),
        "copied_nbytes": written,
        "seconds": took,
        "full_copy_s": timed(lambda: [bytes(buffer) for buffer in buffers_of(new)])[1],
        "seen": found == row_of(new, row) != before == row_of(old, row),
    }
