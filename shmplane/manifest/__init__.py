"""The shared truth of a plane: schema, states, the only writer, and recovery.

What only those who look at a plane need is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import late_names
from .coordination import NO_TICKET, Coordination, watch_bit
from .expiry import expire, expire_lingering, expire_names
from .freed import NOTHING, Freed
from .limits import FORMAT, MAX_METERS, METER_WORDS, Limits, fingerprint_of_format
from .membership import copy_leases, destroy, destroy_unread, release_slot, say_pid, take_slot
from .metering import LEVEL_WORDS, Metering
from .places import TEMPORARY_PREFIX, default_root, directory_of, link_prefix, open_files, plane_names, why_left_over
from .reading import BlockFacts, Contents, Reader, held_rows, not_found
from .recovery import leave, rebuild, reclaim_slot, rows_of_owner
from .roots import emptied_segments, is_rooted, reach
from .schema import MAX_REFERENCES
from .segments import Doomed, Place
from .space import CELL_NBYTES, SMALL_NBYTES
from .states import (
    BLOCK_STATES,
    CREATING,
    DOOMED,
    EVICTABLE,
    FREE,
    KEPT,
    KIND_CODES,
    KINDS,
    LIVE,
    MAKING,
    PAGES,
    SEGMENT_STATES,
    USED,
    WARM,
)
from .store import Manifest
from .transaction import NeedSlab, Transaction

if TYPE_CHECKING:
    from .copying import TableCopier, TableCopy
    from .records import BlockInfo, PlaneStatistics, Reclaimed, SemaphoreInfo, timestamp
    from .snapshot import (
        Block,
        Process,
        Segment,
        SemaphoreUse,
        Snapshot,
        Summary,
        checked,
        read_blocks,
        read_published_name,
        read_snapshot,
        read_summary,
        read_superseded,
    )

__getattr__ = late_names(
    __name__,
    {
        ".copying": "TableCopier TableCopy",
        ".records": "BlockInfo PlaneStatistics Reclaimed SemaphoreInfo timestamp",
        ".snapshot": "Block Process Segment SemaphoreUse Snapshot Summary "
        "checked read_blocks read_published_name read_snapshot read_summary read_superseded",
    },
)

__all__ = [
    "BLOCK_STATES",
    "Block",
    "BlockFacts",
    "BlockInfo",
    "CELL_NBYTES",
    "CREATING",
    "Contents",
    "Coordination",
    "DOOMED",
    "Doomed",
    "EVICTABLE",
    "FORMAT",
    "FREE",
    "Freed",
    "KEPT",
    "KINDS",
    "KIND_CODES",
    "LEVEL_WORDS",
    "LIVE",
    "Limits",
    "MAKING",
    "MAX_METERS",
    "MAX_REFERENCES",
    "METER_WORDS",
    "Manifest",
    "Metering",
    "NOTHING",
    "NO_TICKET",
    "NeedSlab",
    "PAGES",
    "Place",
    "PlaneStatistics",
    "Process",
    "Reader",
    "Reclaimed",
    "SEGMENT_STATES",
    "SMALL_NBYTES",
    "Segment",
    "SemaphoreInfo",
    "SemaphoreUse",
    "Snapshot",
    "Summary",
    "TEMPORARY_PREFIX",
    "TableCopier",
    "TableCopy",
    "Transaction",
    "USED",
    "WARM",
    "checked",
    "copy_leases",
    "default_root",
    "destroy",
    "destroy_unread",
    "directory_of",
    "emptied_segments",
    "expire",
    "expire_lingering",
    "expire_names",
    "fingerprint_of_format",
    "held_rows",
    "is_rooted",
    "leave",
    "link_prefix",
    "not_found",
    "open_files",
    "plane_names",
    "reach",
    "read_blocks",
    "read_published_name",
    "read_snapshot",
    "read_summary",
    "read_superseded",
    "rebuild",
    "reclaim_slot",
    "release_slot",
    "rows_of_owner",
    "say_pid",
    "take_slot",
    "timestamp",
    "watch_bit",
    "why_left_over",
]
