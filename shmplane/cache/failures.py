"""What diskcache, SQLite and the file system raise, as errors of this library."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from typing import Any

import diskcache

from ..errors import LockTimeout, PlaneCorrupt, PlaneFull, PlaneNotFound, PlaneSecurityError, ShmplaneError
from ..system import own

__all__ = ["TIMEOUT_S", "translated"]

#: that a writer waits for another
TIMEOUT_S = 10.0

_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


@contextlib.contextmanager
def translated(what: str, directory: str) -> Iterator[None]:
    """Raise the library's error for what fails inside the block."""
    try:
        yield
    except own(diskcache.Timeout) as error:
        raise LockTimeout(
            f"{what} the cache {directory}: another process writes to its database for longer than {TIMEOUT_S:.0f} s. Try "
            f"again, or see who stands still there.",
            directory=directory,
        ) from error
    except own(sqlite3.Error) as error:
        raise _of_sqlite(f"{what} the cache {directory}: {error}", error, directory) from error
    except own(OSError) as error:
        if isinstance(error, ShmplaneError):
            raise
        raise _of_system(f"{what} the cache {directory}: {error.strerror or error}", error, directory) from error


def _of_sqlite(said: str, error: sqlite3.Error, directory: str) -> ShmplaneError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return PlaneFull(f"{said}. Free some room there, or use another directory.", directory=directory)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LockTimeout(f"{said}. Another process writes to it; try again.", directory=directory)
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}:
        return PlaneSecurityError(f"{said}. It has to be a directory that we may write to.", directory=directory)
    return PlaneCorrupt(f"{said}. Remove the directory: it is a cache.", directory=directory)


def _of_system(said: str, error: OSError, directory: str) -> ShmplaneError:
    facts: dict[str, Any] = {"directory": directory, "errno": error.errno}
    if error.errno == errno.ENOENT:
        return PlaneNotFound(f"{said}. Somebody removed it; open the cache anew.", **facts)
    if error.errno in _NOT_OURS:
        return PlaneSecurityError(f"{said}. It has to be a directory that we may write to.", **facts)
    if error.errno in _IN_THE_WAY:
        return PlaneSecurityError(f"{said}. Something else is at this path; remove it or use another.", **facts)
    return PlaneFull(f"{said}. Free some room or descriptors, or use another directory.", **facts)
