"""What users touch: planes, blocks, builders and buffers."""

from .block import Block
from .building import Buffer, Builder
from .options import directory_of, plane_names
from .plane import Plane
from .records import BlockInfo, PlaneStatistics, Reclaimed
from .semaphores import Semaphore

__all__ = [
    "Block",
    "BlockInfo",
    "Buffer",
    "Builder",
    "Plane",
    "PlaneStatistics",
    "Reclaimed",
    "Semaphore",
    "directory_of",
    "plane_names",
]
