"""Read only: what planes and their host look like, told without taking part in them.

It stands below ``plane`` and ``connections``, which tell their own state by it. Everything is loaded when it is first asked
for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import late_names

if TYPE_CHECKING:
    from ..manifest import (
        Block,
        Process,
        Segment,
        SemaphoreUse,
        Snapshot,
        Summary,
        default_root,
        directory_of,
        plane_names,
    )
    from .checks import Check, Health
    from .contents import describe_block
    from .host import check_host
    from .layout import ColumnFacts, TableFacts, describe_format
    from .live import Watch, watch
    from .measurements import BOUNDS, Histogram, Measurement, prometheus_text
    from .metrics import Counts, Metrics, read_counts, read_metrics
    from .open import Figures, Reading, figures_of, reading, snapshot_of, summary_of
    from .picture import Layout, layout_of, read_layout
    from .picture_parts import Advice, ShownBlock, ShownSegment
    from .planes import Leftover, check_planes, leftovers, plane_checks
    from .reclaiming import Reclaimable, parts_of, reclaimable
    from .sample import LargeBlock, Sample, rates, sample_of
    from .sharing import Share
    from .units import count, nbytes, seconds, some

__getattr__ = late_names(
    __name__,
    {
        "..manifest": "Block Process Segment SemaphoreUse Snapshot Summary default_root directory_of plane_names",
        ".checks": "Check Health",
        ".contents": "describe_block",
        ".host": "check_host",
        ".layout": "ColumnFacts TableFacts describe_format",
        ".live": "Watch watch",
        ".measurements": "BOUNDS Histogram Measurement prometheus_text",
        ".metrics": "Counts Metrics read_counts read_metrics",
        ".open": "Figures Reading figures_of reading snapshot_of summary_of",
        ".picture": "Layout layout_of read_layout",
        ".picture_parts": "Advice ShownBlock ShownSegment",
        ".planes": "Leftover check_planes leftovers plane_checks",
        ".reclaiming": "Reclaimable parts_of reclaimable",
        ".sample": "LargeBlock Sample rates sample_of",
        ".sharing": "Share",
        ".units": "count nbytes seconds some",
    },
)

__all__ = [
    "Advice", "Block", "BOUNDS", "Check", "check_host", "check_planes", "ColumnFacts", "count", "Counts",
    "default_root", "describe_block", "describe_format", "directory_of", "Figures", "figures_of", "Health",
    "Histogram", "LargeBlock", "Layout", "layout_of", "Leftover", "leftovers", "Measurement", "Metrics", "nbytes",
    "parts_of", "plane_checks", "plane_names", "Process", "prometheus_text", "rates", "read_counts", "read_layout",
    "read_metrics", "reading", "Reading", "reclaimable", "Reclaimable", "Sample", "sample_of", "seconds", "Segment",
    "SemaphoreUse", "Share", "ShownBlock", "ShownSegment", "Snapshot", "snapshot_of", "some", "Summary", "summary_of",
    "TableFacts", "watch", "Watch",
]  # fmt: skip
