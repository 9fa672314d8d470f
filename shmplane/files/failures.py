"""Failed system calls on files of the user, as errors of the library.

A path that leads nowhere, or to a directory, raises what ``open`` would. A file is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ..errors import PlaneFull, PlaneSecurityError, ShmplaneError
from ..system import ReplacingFile, own, replacing

__all__ = ["translated", "writing"]

_OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY)
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENODEV, errno.EINVAL)


@contextlib.contextmanager
def translated(what: str, path: str) -> Iterator[None]:
    """Raise the library's error for a system call that fails inside the block, which makes no other calls."""
    try:
        yield
    except own(OSError) as error:
        said = _translate(error, f"{what} {path}")
        if said is error:
            raise
        raise said from error


def _translate(error: OSError, what: str) -> Exception:
    if isinstance(error, (ShmplaneError, FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return error
    number, why = error.errno, error.strerror
    if number in _OUT_OF_ROOM:
        return PlaneFull(f"{what}: {why}. Free some room there, or use another directory.", errno=number)
    if number in _OUT_OF_DESCRIPTORS:
        return PlaneFull(f"{what}: {why}. Close files or raise the limit (ulimit -n).", errno=number)
    if number in _NOT_ALLOWED:
        return PlaneSecurityError(
            f"{what}: {why}. We are user {os.geteuid()}: see whose the file is and which mode it has.",
            errno=number,
            user=os.geteuid(),
        )
    if number in _NO_PATH:
        return ValueError(f"{what}: {why}; it is no file that can be mapped")
    return ShmplaneError(f"{what}: {error}", errno=number)


@contextlib.contextmanager
def writing(path: str) -> Iterator[ReplacingFile]:
    """What is written inside becomes the file at ``path``, at a clean end.

    Raises:
        PlaneFull: there is no room for it; then ``path`` is as it was.
    """
    with translated("writing", path), replacing(path) as out:
        yield out
