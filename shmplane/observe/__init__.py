"""Read only: what planes and their host look like, told without taking part in them.

What listing planes does not need is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..manifest import default_root, directory_of, plane_names
from .checks import Check, worst
from .open import Reading, reading, snapshot_of, summary_of
from .places import Leftover, leftovers
from .snapshot import Block, Process, Segment, Snapshot, Summary
from .units import count, nbytes, seconds, some

if TYPE_CHECKING:
    from .contents import describe_block
    from .host import check_host
    from .layout import ColumnFacts, TableFacts, describe_format
    from .planes import check_planes
    from .reclaiming import Reclaimable, reclaimable

_LAZY = {
    "ColumnFacts": "layout",
    "Reclaimable": "reclaiming",
    "TableFacts": "layout",
    "check_host": "host",
    "check_planes": "planes",
    "describe_block": "contents",
    "describe_format": "layout",
    "reclaimable": "reclaiming",
}

__all__ = [
    "Block",
    "Check",
    "ColumnFacts",
    "Leftover",
    "Process",
    "Reading",
    "Reclaimable",
    "Segment",
    "Snapshot",
    "Summary",
    "TableFacts",
    "check_host",
    "check_planes",
    "count",
    "default_root",
    "describe_block",
    "describe_format",
    "directory_of",
    "leftovers",
    "nbytes",
    "plane_names",
    "reading",
    "reclaimable",
    "seconds",
    "snapshot_of",
    "some",
    "summary_of",
    "worst",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{module}", __name__), name)
