"""The spill directory of one plane: made when it is first needed, and removed with the plane.

It is made under a private name with its ``owner`` in it, then renamed, so that one without an owner is half made. A directory
that somebody removed is made again, for new segments; the blocks that lay in it are lost, and say so when they are read. One
that the user chose is not made again: what is missing then is most likely a disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ... import system
from ...errors import PlaneFull, PlaneSecurityError, ShmplaneError
from ...manifest import NEW_SPILL, SpillPlace, is_left_in_spill, owner_of, spill_place
from ...system import check_directory, create_file, exists, ignoring, make_directory, own, remove_tree, write_all

__all__ = ["SpillDirectory", "choose_spill", "prepare_spill", "remove_left_in_spill", "remove_spill"]

_OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_IS_THERE = (errno.EEXIST, errno.ENOTEMPTY)


def prepare_spill(chosen: str) -> None:
    """See that a directory can be spilled to; it is made when it is missing.

    Raises:
        ValueError: it is no directory.
        UnsupportedPlatform: its file system cannot reserve room.
        PlaneSecurityError, PlaneFull: nothing can be made there.
    """
    if exists(chosen) and not _is_directory(chosen):
        raise ValueError(f"spill={chosen!r} is no directory; say where on a disk blocks may go")
    with _translated(chosen):
        os.makedirs(chosen, 0o700, exist_ok=True)
        system.require_fallocate(chosen)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except own(FileNotFoundError):
        return False


def choose_spill(directory: str, chosen: str, *, plane: str, instance: int, root: str) -> SpillDirectory:
    """Say in the plane that is made in ``directory`` where it spills to."""
    import json

    place = spill_place(chosen, plane, instance)
    fd = create_file(f"{directory}/spill")
    try:
        write_all(fd, 0, json.dumps(place._asdict()).encode())
    finally:
        os.close(fd)
    return SpillDirectory(place, root, plane, instance)


class SpillDirectory:
    """Where one plane spills to."""

    def __init__(self, place: SpillPlace, root: str, plane: str, instance: int) -> None:
        self.place: SpillPlace = place
        self._root, self._plane, self._instance = root, plane, instance

    def path(self, segment_id: int) -> str:
        return f"{self.place.directory}/s{segment_id}"

    def make(self) -> None:
        """Make the plane's own directory, unless it is there."""
        import json

        chosen, directory = self.place
        if not _is_directory(chosen):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), chosen)
        make_directory(self.place.of_user)
        made = f"{self.place.of_user}/{NEW_SPILL}{os.urandom(8).hex()}"
        os.mkdir(made, 0o700)
        try:
            fd = create_file(f"{made}/owner")
            try:
                owner = owner_of(self._root, self._plane, self._instance)
                write_all(fd, 0, json.dumps(owner._asdict()).encode())
            finally:
                os.close(fd)
            os.rename(made, directory)
        except own(OSError) as error:
            if error.errno not in _IS_THERE:
                raise
        finally:
            remove_tree(made)
        check_directory(directory)

    def translated(self) -> contextlib.AbstractContextManager[None]:
        """Raise the library's error for a system call in the directory that fails inside the block."""
        return _translated(self.place.chosen)


@contextlib.contextmanager
def _translated(chosen: str) -> Iterator[None]:
    try:
        yield
    except own(OSError) as error:
        if isinstance(error, ShmplaneError) or error.errno is None:
            raise
        if error.errno in _OUT_OF_ROOM:
            raise PlaneFull(
                f"the spill directory {chosen} has no room left ({error.strerror}). Free some of the disk, delete blocks, or "
                f"enlarge the plane (plane.resize).",
                spill=chosen,
                errno=error.errno,
            ) from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise PlaneFull(
                f"nothing can be spilled: the spill directory {chosen} is gone. Mount or make it again.",
                spill=chosen,
                errno=error.errno,
            ) from error
        raise PlaneSecurityError(
            f"nothing can be spilled to {chosen}: {error}. We are user {os.geteuid()}: see whose it is, which mode it has, "
            f"and that it can be written.",
            spill=chosen,
            errno=error.errno,
        ) from error


def remove_spill(place: SpillPlace) -> None:
    """Remove the directory of a plane that has ended, with all in it, if it is ours."""
    with ignoring(OSError, ShmplaneError):
        check_directory(place.directory)
        remove_tree(place.directory)


def remove_left_in_spill(chosen: str, root: str) -> int:
    """Remove what nobody needs in a spill directory, as far as that can be told from ``root``; how many planes had it."""
    of_user, removed = f"{chosen}/shmplane-{os.geteuid()}", 0
    with ignoring(OSError, ShmplaneError):
        check_directory(of_user)
        for entry in os.listdir(of_user):
            path = f"{of_user}/{entry}"
            with ignoring(OSError, ShmplaneError):
                check_directory(path)
                if is_left_in_spill(path, root):
                    removed += remove_tree(path)
    return removed
