"""Join a plane that is there.

A joiner takes the lock and then looks whether the files it opened are still the plane of that name, and whether the plane
was destroyed meanwhile; if so it starts again.
"""

from __future__ import annotations

import os

from ...errors import ClosedError
from ...manifest import Manifest, Transaction, directory_of, open_files, read_spill_place, take_slot
from ...system import check_directory, ignoring, own
from ..memory.spill_directory import SpillDirectory
from .attachment import Attachment
from .close import abandon_opening, attached, leave, remove_directory
from .fork import Forks
from .reclaim import reclaim_dead

__all__ = ["try_join"]


def try_join(root: str, name: str, path: str) -> Attachment | None:
    """Join what is there; None when nothing is, or when it went away meanwhile."""
    descriptors: list[int] = []
    joining: Attachment | None = None
    try:
        try:
            check_directory(directory_of(root))
            check_directory(path)
            token, lock_fd, manifest_fd = open_files(path, descriptors)
        except own(FileNotFoundError):
            _remove_if_empty(path)
            return None
        manifest = Manifest.open(manifest_fd, f"{path}/manifest")
        joining = Attachment(root, name, path, manifest=manifest, token=token, lock_fd=lock_fd, on_idle=leave)
        place = read_spill_place(path)
        if place is not None:
            joining.memory.spill = SpillDirectory(place, root, name, joining.instance)
        joining.forks = Forks(joining)
        try:
            joined = joining.change(_join, joining)
        except own(ClosedError):
            remove_directory(path, {manifest.identity})
            return None
        if joined:
            token.leave_seat()
            # Known first, then no longer ours to close: Ctrl-C in between leaves one that has lost its descriptors.
            attached[root, name] = joining
            descriptors.clear()
            return joining
        return None
    finally:
        if descriptors:
            abandon_opening(joining, descriptors)


def _join(tx: Transaction, joining: Attachment) -> bool:
    """Under the lock: is it still the plane of that name? Then take a slot."""
    try:
        here = os.stat(f"{joining.path}/lock")
    except own(FileNotFoundError):
        return False
    if (here.st_ino, here.st_dev) != joining.lock.identity:
        return False
    reclaim_dead(tx, joining)
    joining.take_slot(take_slot(tx, joining.token))
    return True


def _remove_if_empty(path: str) -> None:
    with ignoring(OSError):
        os.rmdir(path)
