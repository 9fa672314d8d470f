"""What killed processes left beside the planes: temporary planes, half-made and half-removed ones, dead links."""

from __future__ import annotations

import contextlib
import os
import time

from ..errors import ShmplaneError
from ..system import Token
from .ending import attached, finish_leaving, leave, remove_files
from .exporting import remove_dead_links
from .lifecycle import try_join
from .options import directory_of

__all__ = ["TEMPORARY_PREFIX", "remove_orphans"]

TEMPORARY_PREFIX = "temporary-"
_NEWBORN_S = 60.0


def remove_orphans(root: str) -> int:
    """Remove what killed processes left beside the planes: temporary planes, half-made and half-removed ones."""
    finish_leaving()
    removed = 0
    base = directory_of(root)
    try:
        entries = os.listdir(base)
    except FileNotFoundError:
        return 0
    for entry in entries:
        path = f"{base}/{entry}"
        if entry.startswith(".dead-") or (entry.startswith(".new-") and _is_orphan(path)):
            remove_files(path)
            removed += 1
        elif entry.startswith(TEMPORARY_PREFIX) and (root, entry) not in attached and _nobody_lives_in(path):
            # Joining and leaving alone in it is what destroys a temporary plane, with all checks on the way.
            with contextlib.suppress(OSError, ShmplaneError):
                joined = try_join(root, entry, path)
                if joined is not None:
                    leave(joined)
                    removed += 1
    remove_dead_links(root)
    return removed


def _nobody_lives_in(path: str) -> bool:
    try:
        token = Token.open(f"{path}/tokens")
    except (OSError, ShmplaneError):
        return False
    try:
        return not token.others_alive(1 << 20)
    finally:
        token.close()


def _is_orphan(path: str) -> bool:
    """A half-made plane whose maker is gone; one without a locked token may be newborn, so it must have some age."""
    try:
        age = time.time() - os.stat(path).st_ctime
    except FileNotFoundError:
        return False
    if os.path.exists(f"{path}/tokens"):
        return age > 1.0 and _nobody_lives_in(path)
    return age > _NEWBORN_S
