"""Which format a file has: what was asked for, or what its name says."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["FORMATS", "Format", "format_of"]


class Format(NamedTuple):
    """A format, and the ends of names that say so."""

    name: str
    suffixes: tuple[str, ...]
    is_table: bool = False


FORMATS = {
    one.name: one
    for one in (
        Format("npy", (".npy",)),
        Format("npz", (".npz",)),
        Format("parquet", (".parquet", ".pq"), is_table=True),
        Format("arrow", (".arrow", ".ipc"), is_table=True),
        Format("feather", (".feather",), is_table=True),
        Format("csv", (".csv",), is_table=True),
        Format("safetensors", (".safetensors",)),
        Format("raw", (".raw", ".bin")),
    )
}
_BY_SUFFIX = {suffix: one for one in FORMATS.values() for suffix in one.suffixes}


def format_of(path: str, asked: str | None = None) -> Format:
    """The format of a file; ``ValueError`` when nothing says which."""
    if asked is not None:
        if asked not in FORMATS:
            raise ValueError(f"there is no format {asked!r}; there are {', '.join(FORMATS)}")
        return FORMATS[asked]
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _BY_SUFFIX:
        raise ValueError(
            f"{path}: the end of its name does not say which format it has; known are {', '.join(_BY_SUFFIX)}. "
            f"Say it with format=, which is one of {', '.join(FORMATS)}."
        )
    return _BY_SUFFIX[suffix]
