"""What users touch: planes, blocks, builders and buffers."""

from .block import Block
from .building import Buffer, Builder
from .drafts import ArrayDraft, JsonDraft, TableDraft
from .orphans import remove_orphans
from .plane import Plane
from .records import BlockInfo, PlaneStatistics, Reclaimed
from .semaphores import Semaphore

__all__ = [
    "ArrayDraft",
    "Block",
    "BlockInfo",
    "Buffer",
    "Builder",
    "JsonDraft",
    "Plane",
    "PlaneStatistics",
    "Reclaimed",
    "Semaphore",
    "TableDraft",
    "remove_orphans",
]
