"""What users touch: planes, blocks, builders and buffers."""

from .block import Block
from .building import Buffer, Builder
from .drafts import ArrayDraft, JsonDraft, TableDraft
from .options import directory_of, plane_names
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
    "directory_of",
    "plane_names",
]
