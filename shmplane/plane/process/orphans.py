"""What killed processes left beside the planes: temporary planes, half-made and half-removed ones, dead links."""

from __future__ import annotations

import os
import stat

from ...errors import ShmplaneError
from ...manifest import TEMPORARY_PREFIX, directory_of, why_left_over
from ...scopes import reclaim_orphans
from ...system import check_directory, ignoring, own, remove_tree
from ..memory.failures import translate
from .close import attached, finish_leaving, leave
from .open import try_join

__all__ = ["remove_orphaned_files", "remove_orphans"]


def remove_orphans(root: str) -> int:
    """Remove what killed processes left in a root; how many planes that were. It needs no plane."""
    finish_leaving()
    removed = 0
    base = directory_of(root)
    try:
        check_directory(base)  # before anything in it is believed to be ours
        entries = os.listdir(base)
    except own(FileNotFoundError):
        return 0
    except own(OSError) as error:
        raise translate(error, f"looking for planes in {base}") from error
    for entry in entries:
        path = f"{base}/{entry}"
        if (root, entry) in attached or why_left_over(path) is None:
            continue
        if not entry.startswith(TEMPORARY_PREFIX):
            removed += remove_tree(path)
        else:
            # Joining and leaving alone in it is what destroys a temporary plane, with all checks on the way.
            with ignoring(OSError, ShmplaneError):
                joined = try_join(root, entry, path)
                if joined is not None:
                    leave(joined)
                    removed += 1
    _remove_dead_links(root)
    return removed


def remove_orphaned_files() -> int:
    """Remove the temporary files and directories of scopes whose process was killed."""
    try:
        return reclaim_orphans()
    except own(OSError):
        return 0  # the directory for temporary files is somebody else's, or went away meanwhile


def _remove_dead_links(root: str) -> None:
    """Remove links of planes that are gone: a link whose segment has no other name belongs to nobody."""
    prefix = f"shmplane.{os.geteuid()}."
    with ignoring(OSError):
        for entry in os.scandir(root):
            if entry.name.startswith(prefix):
                with ignoring(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
                        os.unlink(entry.path)
