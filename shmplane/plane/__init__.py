"""What users touch: planes, blocks, builders and buffers; each is loaded when it is first asked for."""

from typing import TYPE_CHECKING

from ..system import late_names

if TYPE_CHECKING:
    from ..manifest import BlockInfo, PlaneStatistics, Reclaimed, SemaphoreInfo
    from .blocks import Block, Buffer, Builder
    from .coordination.semaphores import Semaphore
    from .drafts import ArrayDraft, Draft, JsonDraft, TableDraft
    from .plane import Plane
    from .process.orphans import remove_orphans

__getattr__ = late_names(
    __name__,
    {
        "..manifest": "BlockInfo PlaneStatistics Reclaimed SemaphoreInfo",
        ".blocks": "Block Buffer Builder",
        ".coordination.semaphores": "Semaphore",
        ".drafts": "ArrayDraft Draft JsonDraft TableDraft",
        ".plane": "Plane",
        ".process.orphans": "remove_orphans",
    },
)

__all__ = [
    "ArrayDraft",
    "Block",
    "BlockInfo",
    "Buffer",
    "Builder",
    "Draft",
    "JsonDraft",
    "Plane",
    "PlaneStatistics",
    "Reclaimed",
    "Semaphore",
    "SemaphoreInfo",
    "TableDraft",
    "remove_orphans",
]
