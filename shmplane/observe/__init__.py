"""Read only: what planes and their host look like, told without taking part in them.

It stands below ``plane`` and ``connections``, which tell their own state by it. Everything is loaded when it is first asked
for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..manifest import Block, Process, Segment, Snapshot, Summary, default_root, directory_of, plane_names
    from .checks import Check, Health
    from .contents import describe_block
    from .host import check_host
    from .layout import ColumnFacts, TableFacts, describe_format
    from .live import Watch, watch
    from .open import Reading, reading, snapshot_of, summary_of
    from .picture import Layout, read_layout
    from .picture_parts import Advice, ShownBlock, ShownSegment
    from .places import Leftover, leftovers
    from .planes import check_planes, plane_checks
    from .reclaiming import Reclaimable, parts_of, reclaimable
    from .sharing import Share
    from .units import count, nbytes, seconds, some

_HOMES = {
    "Advice": ".picture_parts",
    "Block": "..manifest",
    "Check": ".checks",
    "ColumnFacts": ".layout",
    "Health": ".checks",
    "Layout": ".picture",
    "Leftover": ".places",
    "Process": "..manifest",
    "Reading": ".open",
    "Reclaimable": ".reclaiming",
    "Segment": "..manifest",
    "Share": ".sharing",
    "ShownBlock": ".picture_parts",
    "ShownSegment": ".picture_parts",
    "Snapshot": "..manifest",
    "Summary": "..manifest",
    "TableFacts": ".layout",
    "Watch": ".live",
    "check_host": ".host",
    "check_planes": ".planes",
    "count": ".units",
    "default_root": "..manifest",
    "describe_block": ".contents",
    "describe_format": ".layout",
    "directory_of": "..manifest",
    "leftovers": ".places",
    "nbytes": ".units",
    "parts_of": ".reclaiming",
    "plane_checks": ".planes",
    "plane_names": "..manifest",
    "read_layout": ".picture",
    "reading": ".open",
    "reclaimable": ".reclaiming",
    "seconds": ".units",
    "snapshot_of": ".open",
    "some": ".units",
    "summary_of": ".open",
    "watch": ".live",
}

__all__ = [
    "Advice",
    "Block",
    "Check",
    "ColumnFacts",
    "Health",
    "Layout",
    "Leftover",
    "Process",
    "Reading",
    "Reclaimable",
    "Segment",
    "Share",
    "ShownBlock",
    "ShownSegment",
    "Snapshot",
    "Summary",
    "TableFacts",
    "Watch",
    "check_host",
    "check_planes",
    "count",
    "default_root",
    "describe_block",
    "describe_format",
    "directory_of",
    "leftovers",
    "nbytes",
    "parts_of",
    "plane_checks",
    "plane_names",
    "read_layout",
    "reading",
    "reclaimable",
    "seconds",
    "snapshot_of",
    "some",
    "summary_of",
    "watch",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home, __name__), name)
