"""Mapped files, for data that is larger than memory or need not be read whole; buffers that stay warm."""

from .buffers import BufferPool, BufferPoolStatistics, PooledBuffer
from .mapped import MappedFile, map_file

__all__ = ["BufferPool", "BufferPoolStatistics", "MappedFile", "PooledBuffer", "map_file"]
