"""What users touch: planes, blocks, builders and buffers; each is loaded when it is first asked for."""

from typing import TYPE_CHECKING

from ..system import late_names

if TYPE_CHECKING:
    from ..manifest import BlockInfo, PlaneStatistics, Reclaimed, SemaphoreInfo
    from .blocks import Block, Buffer, Builder
    from .blocks.block import attach_handle, attachment_of_handle
    from .blocks.claims import Lease
    from .blocks.kept import drop_kept, keep_for, lease_at, lease_kept, put_kept, take_kept
    from .blocks.origin import origin_of, shown_at
    from .blocks.private import PrivateBody, image_of
    from .blocks.putting import put
    from .blocks.target import ANYWHERE
    from .coordination.in_threads import call_in_loop, call_in_thread
    from .coordination.loading import loading, refuse_own
    from .coordination.meters import PoolMeter
    from .coordination.queues import Item, Queue
    from .coordination.rates import Grant, RateLimiter
    from .coordination.semaphores import Semaphore
    from .drafts import ArrayDraft, Draft, JsonDraft, TableDraft, TreeDraft
    from .hot import MISSING, HotTier, open_shared_plane
    from .plane import Plane
    from .process.close import leave_at_exit, removing_spill_of
    from .process.orphans import remove_orphans
    from .process.presence import Presence, is_present, presence_of
    from .travel import outgoing

__getattr__ = late_names(
    __name__,
    {
        "..manifest": "BlockInfo PlaneStatistics Reclaimed SemaphoreInfo",
        ".blocks": "Block Buffer Builder",
        ".blocks.block": "attach_handle attachment_of_handle",
        ".blocks.claims": "Lease",
        ".blocks.kept": "drop_kept keep_for lease_at lease_kept put_kept take_kept",
        ".blocks.origin": "origin_of shown_at",
        ".blocks.private": "PrivateBody image_of",
        ".blocks.putting": "put",
        ".blocks.target": "ANYWHERE",
        ".coordination.in_threads": "call_in_loop call_in_thread",
        ".coordination.loading": "loading refuse_own",
        ".coordination.meters": "PoolMeter",
        ".coordination.queues": "Item Queue",
        ".coordination.rates": "Grant RateLimiter",
        ".coordination.semaphores": "Semaphore",
        ".hot": "MISSING HotTier open_shared_plane",
        ".drafts": "ArrayDraft Draft JsonDraft TableDraft TreeDraft",
        ".plane": "Plane",
        ".process.close": "leave_at_exit removing_spill_of",
        ".process.orphans": "remove_orphans",
        ".process.presence": "is_present Presence presence_of",
        ".travel": "outgoing",
    },
)

__all__ = [
    "ANYWHERE", "ArrayDraft", "attach_handle", "attachment_of_handle", "Block", "BlockInfo", "Buffer",
    "Builder", "call_in_loop", "call_in_thread", "Draft", "drop_kept", "Grant", "HotTier", "image_of",
    "is_present", "Item", "JsonDraft", "keep_for", "Lease", "lease_at", "lease_kept", "leave_at_exit",
    "loading", "MISSING", "open_shared_plane", "origin_of", "outgoing", "Plane", "PlaneStatistics", "PoolMeter",
    "Presence", "presence_of", "PrivateBody", "put", "put_kept", "Queue", "RateLimiter",
    "Reclaimed", "refuse_own", "remove_orphans", "removing_spill_of", "Semaphore", "SemaphoreInfo", "shown_at",
    "TableDraft", "take_kept", "TreeDraft",
]  # fmt: skip
