"""The files that blocks come from and go to, one module a format. What a file says is checked before anything is made of it.

Reading gives ``Pieces``: how large a value is and of which type, and its bytes when there is memory for them; or Arrow batches.
So nothing of a file is held twice, and most not even once.
"""

from ..failures import writing
from .choose import FORMATS, Format, format_of
from .npy import read_npy, read_npz, read_raw, write_npy, write_npz, write_raw
from .safetensors import read_safetensors, write_safetensors
from .source import PIECE_NBYTES, OnProgress, Pieces, Source, StrPath
from .tables import read_arrow, read_csv, read_parquet, widen, write_arrow, write_csv, write_parquet

__all__ = [
    "Format", "format_of", "FORMATS", "OnProgress", "PIECE_NBYTES", "Pieces", "read_arrow", "read_csv",
    "read_npy", "read_npz", "read_parquet", "read_raw", "read_safetensors", "Source", "StrPath", "widen",
    "write_arrow", "write_csv", "write_npy", "write_npz", "write_parquet", "write_raw", "write_safetensors",
    "writing",
]  # fmt: skip
