"""What killed processes left beside the planes, and how much memory that is. Nothing is made or removed."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..manifest import directory_of, why_left_over

__all__ = ["Leftover", "leftovers"]


class Leftover(NamedTuple):
    """Something in the user's directory that no living process needs; the next ``gc`` removes it."""

    path: str
    what: str
    nbytes: int


def leftovers(root: str) -> list[Leftover]:
    """Temporary planes that nobody lives in any more, and planes half made or half removed by killed processes."""
    try:
        entries = sorted(os.listdir(directory_of(root)))
    except FileNotFoundError:
        return []
    paths = [f"{directory_of(root)}/{entry}" for entry in entries]
    return [Leftover(path, what, _allocated(path)) for path in paths if (what := why_left_over(path)) is not None]


def _allocated(directory: str) -> int:
    """Bytes of memory behind the files of a directory."""
    nbytes = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                nbytes += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        pass  # it went away meanwhile
    return nbytes
