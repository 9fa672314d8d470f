"""Where planes lie, and what killed processes left beside them.

Only directory entries and tokens are looked at; nothing is made or removed. It says the same as ``plane.lifecycle``
(a test compares the two) and stands here as well, so that looking at planes does not load what writes them.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from ..errors import ShmplaneError
from ..system import Token

__all__ = ["Leftover", "default_root", "directory_of", "leftovers", "plane_names"]

_TEMPORARY_PREFIX = "temporary-"
_EVERY_SLOT = 1 << 20
_NEWBORN_S = 60.0


class Leftover(NamedTuple):
    """Something in the user's directory that no living process needs; the next ``gc`` removes it."""

    path: str
    what: str
    nbytes: int


def default_root() -> str:
    return os.environ.get("SHMPLANE_ROOT") or "/dev/shm"  # noqa: S108 - only checked directories in it are used


def directory_of(root: str) -> str:
    """Where this user's planes of a root lie."""
    return f"{root}/shmplane-{os.geteuid()}"


def plane_names(root: str) -> list[str]:
    """The planes of this user in a root, sorted."""
    return sorted(entry for entry in _entries(root) if not entry.startswith("."))


def leftovers(root: str) -> list[Leftover]:
    """Temporary planes that nobody lives in any more, and planes half made or half removed by killed processes."""
    found = []
    for entry in sorted(_entries(root)):
        path = f"{directory_of(root)}/{entry}"
        what = _why_left_over(path, entry)
        if what:
            found.append(Leftover(path, what, _allocated(path)))
    return found


def _why_left_over(path: str, entry: str) -> str | None:
    if entry.startswith(".dead-"):
        return "half removed"
    if entry.startswith(".new-") and _maker_is_gone(path):
        return "half made"
    if entry.startswith(_TEMPORARY_PREFIX) and _nobody_lives_in(path):
        return "temporary plane of killed processes"
    return None


def _maker_is_gone(path: str) -> bool:
    """Without tokens it may be newborn, so it must have some age."""
    try:
        age = time.time() - os.stat(path).st_ctime
    except FileNotFoundError:
        return False
    if os.path.exists(f"{path}/tokens"):
        return age > 1.0 and _nobody_lives_in(path)
    return age > _NEWBORN_S


def _nobody_lives_in(path: str) -> bool:
    try:
        token = Token.open(f"{path}/tokens")
    except (OSError, ShmplaneError):
        return False
    try:
        return not token.others_alive(_EVERY_SLOT)
    finally:
        token.close()


def _entries(root: str) -> list[str]:
    try:
        return os.listdir(directory_of(root))
    except FileNotFoundError:
        return []


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
