"""What users touch: planes, blocks, builders and buffers; each is loaded when it is first asked for."""

from typing import TYPE_CHECKING

from ..system import late_names

if TYPE_CHECKING:
    from ..manifest import BlockInfo, PlaneStatistics, Reclaimed, SemaphoreInfo
    from .blocks import Block, Buffer, Builder
    from .blocks.origin import origin_of
    from .coordination.in_threads import call_in_loop, call_in_thread
    from .coordination.loading import loading, refuse_own
    from .coordination.meters import PoolMeter
    from .coordination.semaphores import Semaphore
    from .drafts import ArrayDraft, Draft, JsonDraft, TableDraft, TreeDraft
    from .hot import MISSING, HotTier, open_shared_plane
    from .plane import Plane
    from .process.close import removing_spill_of
    from .process.orphans import remove_orphans
    from .process.presence import Presence, is_present, presence_of

__getattr__ = late_names(
    __name__,
    {
        "..manifest": "BlockInfo PlaneStatistics Reclaimed SemaphoreInfo",
        ".blocks": "Block Buffer Builder",
        ".blocks.origin": "origin_of",
        ".coordination.in_threads": "call_in_loop call_in_thread",
        ".coordination.loading": "loading refuse_own",
        ".coordination.meters": "PoolMeter",
        ".coordination.semaphores": "Semaphore",
        ".hot": "MISSING HotTier open_shared_plane",
        ".drafts": "ArrayDraft Draft JsonDraft TableDraft TreeDraft",
        ".plane": "Plane",
        ".process.close": "removing_spill_of",
        ".process.orphans": "remove_orphans",
        ".process.presence": "is_present Presence presence_of",
    },
)

__all__ = [
    "ArrayDraft", "Block", "BlockInfo", "Buffer", "Builder", "call_in_loop", "call_in_thread", "Draft", "HotTier",
    "is_present", "JsonDraft", "loading", "MISSING", "open_shared_plane", "origin_of", "Plane", "PlaneStatistics",
    "PoolMeter", "Presence", "presence_of", "Reclaimed", "refuse_own", "remove_orphans", "removing_spill_of", "Semaphore",
    "SemaphoreInfo", "TableDraft", "TreeDraft",
]  # fmt: skip
