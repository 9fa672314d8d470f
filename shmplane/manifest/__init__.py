"""The shared truth of a plane: schema, states, the only writer, and recovery.

What only those who look at a plane need is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import late_names
from .coordination import NO_TICKET, Coordination, watch_bit
from .counting import WAIT_BOUNDS, Counting, read_counters
from .expiry import expire_all, expire_some
from .freed import NOTHING, Freed
from .limits import FORMAT, MAX_METERS, METER_WORDS, Limits, fingerprint_of_format
from .membership import copy_leases, destroy, destroy_unread, release_slot, say_pid, take_slot
from .metering import LEVEL_WORDS, OTHER_ROWS, Metering
from .native import (
    NO_FACTS,
    facts_of_published,
    facts_of_written,
    is_published,
    lock_turns,
    make_core,
    make_lock_word,
    reserved,
    sit_down,
)
from .places import (
    NEW_SPILL,
    TEMPORARY_PREFIX,
    Owner,
    SpillPlace,
    dead_links,
    default_root,
    directory_of,
    is_left_in_spill,
    link_prefix,
    open_files,
    owner_of,
    plane_names,
    read_spill_place,
    spill_place,
    why_left_over,
)
from .queues import EvictionQueues
from .reading import BlockFacts, Contents, Reader, held_rows, not_found
from .recovery import (
    drop_idle_rings,
    leave,
    load_rare_modules,
    may_need_rare_modules,
    rebuild,
    reclaim_slot,
    rows_of_owner,
)
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
    PLACES,
    SEGMENT_STATES,
    USED,
    WARM,
    LockKind,
    row_of_name_word,
)
from .store import Manifest
from .transaction import NeedSlab, Transaction

if TYPE_CHECKING:
    from .cell_rate import Paid, Terms, cost_ns, is_payable, is_sound
    from .copying import TableCopier, TableCopy
    from .eviction import Evicted, Need, evict, evict_in_group, group_room
    from .groups import open_group
    from .meter_reading import GroupUse, MeterWords, copy_meters, read_groups
    from .policies import STEPS, Queues
    from .records import BlockInfo, PlaneStatistics, Reclaimed, SemaphoreInfo, timestamp
    from .ring import AWAITED, DONE, LARGEST_PAYLOAD_NBYTES, NOT_OURS, NOTHING_THERE, RING_NBYTES, Entry, Ring
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
    from .spilling import (
        Stays,
        Victim,
        begin_copy,
        begin_spilling,
        choose_victims,
        end_spilling,
        move_blocks,
        spiller,
    )

__getattr__ = late_names(
    __name__,
    {
        ".cell_rate": "Paid Terms cost_ns is_payable is_sound",
        ".copying": "TableCopier TableCopy",
        ".eviction": "Evicted Need evict evict_in_group group_room",
        ".groups": "open_group",
        ".meter_reading": "GroupUse MeterWords copy_meters read_groups",
        ".policies": "Queues STEPS",
        ".records": "BlockInfo PlaneStatistics Reclaimed SemaphoreInfo timestamp",
        ".ring": "AWAITED DONE Entry LARGEST_PAYLOAD_NBYTES NOT_OURS NOTHING_THERE Ring RING_NBYTES",
        ".spilling": "Stays Victim begin_copy begin_spilling choose_victims end_spilling move_blocks spiller",
        ".snapshot": "Block Process Segment SemaphoreUse Snapshot Summary "
        "checked read_blocks read_published_name read_snapshot read_summary read_superseded",
    },
)

__all__ = [
    "AWAITED", "begin_copy", "begin_spilling", "Block", "BLOCK_STATES", "BlockFacts", "BlockInfo", "CELL_NBYTES",
    "checked", "choose_victims", "Contents", "Coordination", "copy_leases", "copy_meters", "cost_ns", "Counting",
    "CREATING", "dead_links", "default_root", "destroy", "destroy_unread", "directory_of", "DONE", "DOOMED", "Doomed",
    "drop_idle_rings", "emptied_segments", "end_spilling", "Entry", "evict", "evict_in_group", "EVICTABLE", "Evicted",
    "EvictionQueues", "expire_all", "expire_some", "facts_of_published", "facts_of_written", "fingerprint_of_format",
    "FORMAT", "FREE", "Freed", "group_room", "GroupUse", "held_rows", "is_left_in_spill", "is_payable", "is_published",
    "is_rooted", "is_sound", "KEPT", "KIND_CODES", "KINDS", "LARGEST_PAYLOAD_NBYTES", "leave", "LEVEL_WORDS", "Limits",
    "link_prefix", "LIVE", "load_rare_modules", "lock_turns", "LockKind", "make_core", "make_lock_word", "MAKING",
    "Manifest", "MAX_METERS", "MAX_REFERENCES", "may_need_rare_modules", "METER_WORDS", "Metering", "MeterWords",
    "move_blocks", "Need", "NeedSlab", "NEW_SPILL", "NO_FACTS", "NO_TICKET", "not_found", "NOT_OURS", "NOTHING",
    "NOTHING_THERE", "open_files", "open_group", "OTHER_ROWS", "Owner", "owner_of", "PAGES", "Paid", "Place", "PLACES",
    "plane_names", "PlaneStatistics", "Process", "Queues", "reach", "read_blocks", "read_counters", "read_groups",
    "read_published_name", "read_snapshot", "read_spill_place", "read_summary", "read_superseded", "Reader", "rebuild",
    "reclaim_slot", "Reclaimed", "release_slot", "reserved", "Ring", "RING_NBYTES", "row_of_name_word", "rows_of_owner",
    "say_pid", "Segment", "SEGMENT_STATES", "SemaphoreInfo", "SemaphoreUse", "sit_down", "SMALL_NBYTES", "Snapshot",
    "spill_place", "spiller", "SpillPlace", "Stays", "STEPS", "Summary", "TableCopier", "TableCopy", "take_slot",
    "TEMPORARY_PREFIX", "Terms", "timestamp", "Transaction", "USED", "Victim", "WAIT_BOUNDS", "WARM", "watch_bit",
    "why_left_over",
]  # fmt: skip
