"""``shmplane map``: the memory of a plane as bars, and who leases what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..observe import Layout, layout_of, reading
from .exits import OK

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["map_plane"]


def map_plane(options: Namespace, out: Output) -> int:
    with reading(options.plane, options.root) as plane:
        layout = layout_of(plane)
    if options.json:
        out.json(root=options.root, plane=layout.name, **_fields(layout))
    else:
        for line in layout.text().splitlines():
            out.cut(line)
    return OK


def _fields(layout: Layout) -> dict[str, Any]:
    return {
        "capacity": layout.capacity,
        "used_nbytes": layout.used_nbytes,
        "recycled_nbytes": layout.recycled_nbytes,
        "free_nbytes": layout.free_nbytes,
        "spilled_nbytes": layout.spilled_nbytes,
        "segments": [segment._asdict() for segment in layout.segments],
        "more_segments": layout.more_segments,
        "more_segments_nbytes": layout.more_segments_nbytes,
        "blocks": [
            block._asdict() | {"shares": [share._asdict() for share in block.shares]} for block in layout.blocks
        ],
        "more_blocks": layout.more_blocks,
        "processes": [
            {"slot": process.slot, "pid": process.pid, "alive": process.alive, "leases": len(process.leases)}
            for process in layout.processes
        ],
        "more_processes": layout.more_processes,
        "advice": [advice._asdict() for advice in layout.advice],
    }
