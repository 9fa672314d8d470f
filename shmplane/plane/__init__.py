"""What users touch: planes, blocks, builders and buffers."""

from ..manifest import BlockInfo, PlaneStatistics, Reclaimed, SemaphoreInfo
from .blocks.block import Block
from .blocks.build import Buffer, Builder
from .coordination.semaphores import Semaphore
from .drafts import ArrayDraft, Draft, JsonDraft, TableDraft
from .plane import Plane
from .process.orphans import remove_orphans

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
