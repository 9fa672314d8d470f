"""All blocks of a plane as an Arrow table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..manifest import FREE, read_blocks

if TYPE_CHECKING:
    import pyarrow as pa

    from ..manifest import Process, TableCopy

__all__ = ["table_of_blocks"]


def table_of_blocks(tables: TableCopy, processes: Iterable[Process]) -> pa.Table:
    """A row for each block that is not free."""
    import pyarrow as pa

    processes = tuple(processes)
    pids = {process.slot: process.pid for process in processes}
    rows = [row for row, state in enumerate(tables.blocks.state.tolist()) if state != FREE]
    blocks = list(read_blocks(tables, rows, processes).values())
    segments = tables.segments.id.tolist()
    columns: dict[str, tuple[Any, list[Any]]] = {
        "row": (pa.int32(), [block.row for block in blocks]),
        "name": (pa.string(), [block.name for block in blocks]),
        "version": (pa.int64(), [block.version for block in blocks]),
        "kind": (pa.string(), [block.kind for block in blocks]),
        "state": (pa.string(), [block.state for block in blocks]),
        "nbytes": (pa.int64(), [block.nbytes for block in blocks]),
        "segment": (
            pa.int64(),
            [segments[block.segment] if 0 <= block.segment < len(segments) else None for block in blocks],
        ),
        "place": (pa.string(), [block.place for block in blocks]),
        "offset": (pa.int64(), [block.offset for block in blocks]),
        "leases": (pa.int32(), [len(block.holders) for block in blocks]),
        "holders": (pa.list_(pa.int32()), [block.holders for block in blocks]),
        "pids": (pa.list_(pa.int64()), [[pids[slot] for slot in block.holders] for block in blocks]),
        "made_of": (pa.list_(pa.int32()), [block.references for block in blocks]),
        "created": (pa.timestamp("ns", "UTC"), [block.created or None for block in blocks]),
    }
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
