"""Where a plane spills to, and what is left in a spill directory that nobody needs. Nothing is made or removed here.

The path stands in the plane's file ``spill``: ``DIRECTORY/shmplane-<euid>/<name>.<instance>/``. There lie its segments, beside
the file ``owner``, which says of which boot and of which root they are: so what another boot left is told from what another
container has.
"""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from .. import system
from ..errors import PlaneCorrupt
from ..system import open_file, own, read_start
from .places import directory_of, read_header

__all__ = ["NEW_SPILL", "Owner", "SpillPlace", "is_left_in_spill", "owner_of", "read_spill_place", "spill_place"]

#: what a directory in it is called while it is made
NEW_SPILL = ".new-"
_NEWBORN_S = 60.0
_MOST_TEXT = 64 << 10


class SpillPlace(NamedTuple):
    """Where a plane spills to."""

    chosen: str  #: what the user said
    directory: str  #: the plane's own in it, which is made when it is first needed

    @property
    def of_user(self) -> str:
        """The directory of all planes of this user."""
        return os.path.dirname(self.directory)


class Owner(NamedTuple):
    """Whose a directory in a spill directory is."""

    boot: str
    device: int  #: and inode of the root
    inode: int
    plane: str
    instance: int


def spill_place(chosen: str, plane: str, instance: int) -> SpillPlace:
    return SpillPlace(chosen, f"{chosen}/shmplane-{os.geteuid()}/{plane}.{instance:x}")


def read_spill_place(path: str) -> SpillPlace | None:
    """What the file ``spill`` of the plane in a directory says; None: it spills nowhere."""
    said = _read_json(f"{path}/spill")
    if said is None:
        return None
    try:
        found = SpillPlace(str(said["chosen"]), str(said["directory"]))
    except own(KeyError, TypeError):
        found = SpillPlace("", "")
    if not os.path.isabs(found.directory):
        raise PlaneCorrupt(
            f"{path}/spill does not say where the plane spills to: it was written over. Remove the plane.", path=path
        )
    return found


def owner_of(root: str, plane: str, instance: int) -> Owner:
    found = os.stat(root)
    return Owner(system.boot_id(), found.st_dev, found.st_ino, plane, instance)


def is_left_in_spill(path: str, root: str) -> bool:
    """Whether nobody needs a directory in a spill directory: its plane went with another boot, or was in ``root`` and is gone.

    What is of another root of this boot is another container's, for all that can be told here.
    """
    said = _read_json(f"{path}/owner")
    try:
        if said is None:
            # Only while it is made has it none.
            is_old = time.time() - os.stat(path).st_ctime > _NEWBORN_S
            return os.path.basename(path).startswith(NEW_SPILL) and is_old
        owner = Owner(**said)
        here = owner_of(root, owner.plane, owner.instance)
    except own(OSError, TypeError):
        return False
    if owner.boot != here.boot:
        return True
    if owner != here:
        return False
    plane = f"{directory_of(root)}/{owner.plane}"
    try:
        os.stat(f"{plane}/manifest")
    except own(OSError) as error:
        return isinstance(error, FileNotFoundError)
    header = read_header(plane)  # one that cannot be read now is there all the same
    return header is not None and header.instance[0] != owner.instance


def _read_json(path: str) -> dict[str, Any] | None:
    """A small file of ours; None when it is not there, empty when it is not what it should be."""
    try:
        fd = open_file(path)
    except own(FileNotFoundError):
        return None
    import json  # most planes need it not

    try:
        said = json.loads(read_start(fd, _MOST_TEXT))
    except own(ValueError):
        return {}
    finally:
        os.close(fd)
    return said if isinstance(said, dict) else {}
