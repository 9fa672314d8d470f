"""Failed system calls as errors of the library, and what tables raise that somebody wrote over.

Rule 1. A block under ``translated`` makes system calls of ours and nothing else, so that what a user's code raises is never
taken for one of theirs.
Rule 2. Whoever opened the plane as another user than he is now is told that, whatever the call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from typing import NoReturn

from ...errors import PlaneCorrupt, PlaneFull, PlaneSecurityError, ShmplaneError
from ...system import own

__all__ = ["fail", "is_impossible", "translate", "translated", "written_over"]

_OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_NO_ROOM = (
    "the file system has no room left ({}), although the plane's capacity is not reached. Free memory there, lower "
    "capacity=, or use another root=."
)
_NO_DESCRIPTORS = "out of file descriptors ({}). Close files or raise the limit (ulimit -n)."


@contextlib.contextmanager
def translated(what: str, *, plane: str | None = None, opened_as: int | None = None) -> Iterator[None]:
    """Raise the library's error for a system call that fails inside the block; see ``translate``."""
    try:
        yield
    except own(OSError, PlaneFull) as error:
        fail(error, what, plane=plane, opened_as=opened_as)


def fail(error: Exception, what: str, *, plane: str | None = None, opened_as: int | None = None) -> NoReturn:
    """Raise what ``translate`` makes of it: ``translated`` for what is called too often for a context manager."""
    said = translate(error, what, plane=plane, opened_as=opened_as)
    if said is error:
        raise error
    raise said from error


def translate(error: Exception, what: str, *, plane: str | None = None, opened_as: int | None = None) -> Exception:
    """The library's error for a failed system call; what is one already, as it is, with the name of the plane.

    Args:
        what: was tried, for the message.
        plane: in which that was.
        opened_as: the user who opened the plane, when that may be another one than we are now.
    """
    if isinstance(error, PlaneFull) and plane is not None:  # of mappings
        error.name_plane(plane)
    if not isinstance(error, OSError):
        return error
    if isinstance(error, PermissionError) and opened_as not in (None, os.geteuid()):
        return PlaneSecurityError(
            f"{what}: the plane was opened as user {opened_as}, now this process is user {os.geteuid()} and may not use "
            f"its files. Open planes after the change of user (setuid, gunicorn --user), or change it before.",
            opened_as=opened_as,
            user=os.geteuid(),
        )
    if isinstance(error, ShmplaneError) or error.errno is None:
        return error
    if error.errno in (*_OUT_OF_ROOM, *_OUT_OF_DESCRIPTORS):
        why = _NO_ROOM if error.errno in _OUT_OF_ROOM else _NO_DESCRIPTORS
        full = PlaneFull(f"{what}: {why.format(error.strerror)}", errno=error.errno)
        if plane is not None:
            full.name_plane(plane)
        return full
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return PlaneSecurityError(
            f"{what}: {error}. We are user {os.geteuid()}: see whose the files are and which mode they have.",
            errno=error.errno,
            user=os.geteuid(),
        )
    return PlaneCorrupt(f"{what}: {error}. If this stays, remove the plane.", errno=error.errno)


def is_impossible(error: BaseException) -> bool:
    """What storing or reading a word raises when somebody wrote over the tables; no operation raises it otherwise."""
    return isinstance(error, (IndexError, OverflowError, ValueError, struct.error)) and not isinstance(
        error, ShmplaneError
    )


def written_over(plane: str, error: BaseException) -> PlaneCorrupt:
    """What to raise then."""
    return PlaneCorrupt(
        f"plane {plane!r}: its tables hold impossible values ({error}). Somebody wrote over them: save what can still "
        f"be read and remove the plane.",
        name=plane,
    )
