"""Mapped files, for data that is larger than memory or need not be read whole; buffers that stay warm; file formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import late_names
from .buffers import BufferPool, BufferPoolStatistics, PooledBuffer
from .mapped import MappedFile, map_file

if TYPE_CHECKING:
    from .formats import (
        FORMATS,
        PIECE_NBYTES,
        Format,
        OnProgress,
        Pieces,
        Source,
        StrPath,
        format_of,
        read_arrow,
        read_csv,
        read_npy,
        read_npz,
        read_parquet,
        read_raw,
        read_safetensors,
        widen,
        write_arrow,
        write_csv,
        write_npy,
        write_npz,
        write_parquet,
        write_raw,
        write_safetensors,
        writing,
    )
else:
    __getattr__ = late_names(
        __name__,
        {
            ".formats": "FORMATS PIECE_NBYTES Format OnProgress Pieces Source StrPath format_of read_arrow read_csv read_npy "
            "read_npz read_parquet read_raw read_safetensors widen write_arrow write_csv write_npy write_npz write_parquet "
            "write_raw write_safetensors writing"
        },
    )

__all__ = [
    "BufferPool", "BufferPoolStatistics", "Format", "format_of", "FORMATS", "map_file", "MappedFile",
    "OnProgress", "PIECE_NBYTES", "Pieces", "PooledBuffer", "read_arrow", "read_csv", "read_npy", "read_npz",
    "read_parquet", "read_raw", "read_safetensors", "Source", "StrPath", "widen", "write_arrow", "write_csv",
    "write_npy", "write_npz", "write_parquet", "write_raw", "write_safetensors", "writing",
]  # fmt: skip
