"""What killed processes left beside the planes, and how much memory that is. Nothing is made or removed."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..manifest import dead_links, directory_of, why_left_over

__all__ = ["Leftover", "leftovers"]


class Leftover(NamedTuple):
    """Something beside the user's planes that no living process needs; the next ``gc`` removes it."""

    path: str
    what: str
    nbytes: int


def leftovers(root: str) -> list[Leftover]:
    """Temporary planes that nobody lives in, planes half made or half removed, and links to what planes had that are gone."""
    try:
        entries = sorted(os.listdir(directory_of(root)))
    except FileNotFoundError:
        entries = []
    paths = [f"{directory_of(root)}/{entry}" for entry in entries]
    found = [Leftover(path, what, _allocated(path)) for path in paths if (what := why_left_over(path)) is not None]
    return [
        *found,
        *(Leftover(path, "link to a segment of a plane that is gone", _size(path)) for path in dead_links(root)),
    ]


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0  # it went away meanwhile


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
