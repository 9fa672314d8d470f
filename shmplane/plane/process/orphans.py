"""What killed processes left beside the planes: temporary planes, half-made and half-removed ones, dead links.

They go when somebody asks (``gc``), before a plane is made, and when the file system is full: so who was killed does not
stand in the way of whoever comes next. Named planes stay, as directories do; so does whatever a living process needs or is
making (see ``why_left_over``), and what other users have.
"""

from __future__ import annotations

import errno
import os
import time
from math import inf
from typing import TYPE_CHECKING

from ...errors import ShmplaneError
from ...manifest import TEMPORARY_PREFIX, dead_links, directory_of, why_left_over
from ...system import check_directory, ignoring, late, own, remove_tree
from ..memory.failures import translate
from ..memory.spill_directory import remove_left_in_spill
from .close import attached, finish_leaving, leave, removing_spill_of
from .join import try_join
from .patience import is_in_event_loop

if TYPE_CHECKING:
    from ... import manifest, scopes
    from ...errors import PlaneFull
    from . import upkeep
    from .attachment import Attachment
else:
    manifest = late("shmplane.manifest")
    scopes = late("shmplane.scopes")
    upkeep = late("shmplane.plane.process.upkeep")

__all__ = ["reclaim_all", "remove_for_room", "remove_in_passing", "remove_orphans"]

#: how long the search may go on where nobody asked for it, and in an event loop; a removal that has begun is finished
_IN_PASSING_S, _FOR_ROOM_S = 0.1, 2.0


def reclaim_all(attachment: Attachment) -> manifest.Reclaimed:
    """``plane.gc``: what dead processes held in a plane, and what they left beside it."""
    while attachment.change(upkeep.reclaim_expired, attachment):
        pass
    start = 0
    while start >= 0:
        start = attachment.change(upkeep.reclaim_unheld, attachment, start)
    freed = attachment.change(upkeep.reclaim, attachment)
    planes, files = remove_orphans(attachment.root), remove_orphaned_files()
    remove_left_behind(attachment)
    return manifest.Reclaimed(*freed, planes=planes, files=files)


def remove_orphans(root: str, *, seconds: float = inf) -> int:
    """Remove what killed processes left in a root; how many planes that were. It needs no plane."""
    finish_leaving()
    removed, deadline = 0, time.monotonic() + seconds
    base = directory_of(root)
    for entry in _entries(base):
        removed += _remove_if_left_over(root, entry, f"{base}/{entry}")
        if time.monotonic() > deadline:
            return removed
    _remove_dead_links(root)
    return removed


def _remove_if_left_over(root: str, entry: str, path: str) -> int:
    """How many planes that were: one or none."""
    if (root, entry) in attached or why_left_over(path) is None:
        return 0
    if not entry.startswith(TEMPORARY_PREFIX):
        with removing_spill_of(path):
            return remove_tree(path)
    # Joining and leaving alone in it is what destroys a temporary plane, with all checks on the way.
    with ignoring(OSError, ShmplaneError):
        joined = try_join(root, entry, path)
        if joined is not None:
            leave(joined)
            return 1
    return 0


def _entries(base: str) -> list[str]:
    """What may be left over: in turns, so that a search that ends early comes to all of it in the end."""
    try:
        check_directory(base)  # before anything in it is believed to be ours
        entries = [entry for entry in os.listdir(base) if entry.startswith((".", TEMPORARY_PREFIX))]
    except own(FileNotFoundError):
        return []
    except own(OSError) as error:
        raise translate(error, f"looking for planes in {base}") from error
    first = time.monotonic_ns() % max(1, len(entries))
    return entries[first:] + entries[:first]


def remove_in_passing(root: str, spill: str | None) -> None:
    """Before a plane is made: a moment's worth of it, and what is left where it is to spill to."""
    with ignoring(OSError, ShmplaneError):
        remove_orphans(root, seconds=_IN_PASSING_S)
    if spill is not None:
        remove_left_in_spill(spill, root)


def remove_left_behind(attachment: Attachment) -> None:
    """Remove what other planes left where this one spills to."""
    if attachment.memory.spill is not None:
        remove_left_in_spill(attachment.memory.spill.place.chosen, attachment.root)


def remove_for_room(root: str, full: PlaneFull) -> bool:
    """When the file system was full: remove what nobody needs; whether it is worth to try again."""
    if full.facts.get("errno") not in {errno.ENOSPC, errno.EDQUOT}:
        return False
    with ignoring(OSError, ShmplaneError):
        planes = remove_orphans(root, seconds=_IN_PASSING_S if is_in_event_loop() else _FOR_ROOM_S)
        return planes + remove_orphaned_files() > 0
    return False


def remove_orphaned_files() -> int:
    """Remove the temporary files and directories of scopes whose process was killed."""
    try:
        return scopes.reclaim_orphans()
    except own(OSError):
        return 0  # the directory for temporary files is somebody else's, or went away meanwhile


def _remove_dead_links(root: str) -> None:
    for path in dead_links(root):
        with ignoring(OSError):
            os.unlink(path)
