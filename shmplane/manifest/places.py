"""Where planes lie and spill to, and which directories were left by killed processes. Nothing is made or removed here.

A plane is ``ROOT/shmplane-<euid>/<name>/`` with the files ``tokens``, ``lock`` and ``manifest`` and its segments. While it is
made its directory is called ``.new-…``, while it is removed ``.dead-…``.

Where it spills to stands in its file ``spill``: ``DIRECTORY/shmplane-<euid>/<name>.<instance>/``. There lie its segments,
beside the file ``owner``, which says of which boot and of which root they are: so what another boot left is told from what
another container has.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Any, NamedTuple

from .. import system
from ..errors import PlaneCorrupt, ShmplaneError
from ..system import Token, exists, ignoring, open_file, own, read_start
from ..tables import WORD_NBYTES
from .schema import Header

__all__ = [
    "NEW_SPILL",
    "Owner",
    "SpillPlace",
    "TEMPORARY_PREFIX",
    "dead_links",
    "default_root",
    "directory_of",
    "is_left_in_spill",
    "link_prefix",
    "open_files",
    "owner_of",
    "plane_names",
    "read_spill_place",
    "spill_place",
    "why_left_over",
]

TEMPORARY_PREFIX = "temporary-"
_EVERY_SLOT = 1 << 20
_BEING_FILLED_S = 1.0
#: what a directory in a spill directory is called while it is made
NEW_SPILL = ".new-"
_NEWBORN_S = 60.0
_MOST_TEXT = 64 << 10


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
