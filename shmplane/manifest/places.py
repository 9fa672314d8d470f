"""Where planes lie, and which directories beside them were left by killed processes. Nothing is made or removed here.

A plane is ``ROOT/shmplane-<euid>/<name>/`` with the files ``tokens``, ``lock`` and ``manifest`` and its segments. While it is
made its directory is called ``.new-…``, while it is removed ``.dead-…``.
"""

from __future__ import annotations

import os
import stat
import time

from ..errors import ShmplaneError
from ..system import Token, exists, ignoring, open_file, own, read_start
from ..tables import WORD_NBYTES
from .schema import Header

__all__ = [
    "TEMPORARY_PREFIX",
    "dead_links",
    "default_root",
    "directory_of",
    "link_prefix",
    "open_files",
    "plane_names",
    "read_header",
    "why_left_over",
]

TEMPORARY_PREFIX = "temporary-"
_EVERY_SLOT = 1 << 20
_NEWBORN_S = 60.0
_BEING_FILLED_S = 1.0


def default_root() -> str:
    return os.environ.get("SHMPLANE_ROOT") or "/dev/shm"  # noqa: S108 - where Linux has memory as files


def directory_of(root: str) -> str:
    """Where this user's planes of a root lie."""
    return f"{root}/shmplane-{os.geteuid()}"


def link_prefix(root: str, plane: str) -> str:
    """The path of a plane's links for the standard library, up to the segment's id."""
    return f"{root}/shmplane.{os.geteuid()}.{plane}."


def dead_links(root: str) -> list[str]:
    """Links of planes that are gone: one whose segment has no other name belongs to nobody, and keeps its memory."""
    prefix, found = f"shmplane.{os.geteuid()}.", []
    with ignoring(OSError):
        for entry in os.scandir(root):
            if entry.name.startswith(prefix):
                with ignoring(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_uid == os.geteuid():
                        found.append(entry.path)
    return found


def plane_names(root: str) -> list[str]:
    """The planes of this user in a root, sorted."""
    try:
        entries = os.listdir(directory_of(root))
    except own(FileNotFoundError):
        return []
    return sorted(entry for entry in entries if not entry.startswith("."))


def open_files(path: str, descriptors: list[int]) -> tuple[Token, int, int]:
    """Token, lock and manifest of the plane in a directory; each descriptor is in the list as soon as it is open."""
    token = Token.open(f"{path}/tokens")
    descriptors.append(token.fd)
    descriptors.extend(open_file(f"{path}/{name}", writable=True) for name in ("lock", "manifest"))
    return token, descriptors[-2], descriptors[-1]


def why_left_over(path: str) -> str | None:
    """What an entry beside the planes is that no living process needs; None: it is needed, or a plane that stays."""
    entry = os.path.basename(path)
    if entry.startswith(".dead-"):
        return "half removed"
    if entry.startswith(".new-") and _maker_is_gone(path):
        return "half made"
    if entry.startswith(TEMPORARY_PREFIX) and _nobody_lives_in(path) and _is_temporary(path):
        return "temporary plane of ended processes"
    return None


def _maker_is_gone(path: str) -> bool:
    """Without a locked token it may be newborn, so it must have some age."""
    try:
        age = time.time() - os.stat(path).st_ctime
    except own(FileNotFoundError):
        return False
    if exists(f"{path}/tokens"):
        return age > _BEING_FILLED_S and _nobody_lives_in(path)
    return age > _NEWBORN_S


def _nobody_lives_in(path: str) -> bool:
    try:
        token = Token.open(f"{path}/tokens")
    except own(OSError, ShmplaneError):
        return False
    try:
        return not token.others_alive(_EVERY_SLOT)
    finally:
        token.close()


def _is_temporary(path: str) -> bool:
    """A user may call a plane that stays like a temporary one; its header tells."""
    header = read_header(path)
    return header is not None and bool(header.temporary[0])


def read_header(path: str) -> Header | None:
    """Of the plane in a directory; None when there is none that could be read."""
    try:
        fd = open_file(f"{path}/manifest")
    except own(OSError, ShmplaneError):
        return None
    try:
        head = read_start(fd, Header.row_words * WORD_NBYTES)
    finally:
        os.close(fd)
    return Header(memoryview(head).cast("Q"), 0, 1) if len(head) == Header.row_words * WORD_NBYTES else None
