"""Files of the user: data that this library maps but did not make, at a path that somebody else may use as well.

They are opened by Python's file objects, which own the descriptor also when Ctrl-C comes at once. Only regular files are
opened: a FIFO would hang, a device has no size. What a failed call raises is the operating system's own ``OSError``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import FileIO
from typing import NamedTuple

from . import libc
from .files import unlink_quietly
from .handlers import ignoring, own
from .user_files import followed

__all__ = ["DataFile", "grow_data_file", "make_data_file", "open_data_file", "size_of_data_file"]

_ZEROS_NBYTES = 1 << 20
_CANNOT_ALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS)


class DataFile(NamedTuple):
    """Which file it is, whatever its name says later, and how long it was."""

    inode: int
    device: int
    nbytes: int


@contextlib.contextmanager
def open_data_file(path: str, *, writable: bool = False) -> Iterator[tuple[int, DataFile]]:
    """A descriptor of a regular file for the length of the block; ``ValueError`` when it is something else."""
    _check(path, os.stat(path))
    with open(path, "r+b" if writable else "rb", buffering=0) as file:
        yield file.fileno(), _check(path, os.fstat(file.fileno()))


def _check(path: str, found: os.stat_result) -> DataFile:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is a pipe, socket or device; only regular files can be mapped")
    return DataFile(found.st_ino, found.st_dev, found.st_size)


def size_of_data_file(path: str, known: DataFile) -> int | None:
    """How long a file is now; None when its name is gone or another file's."""
    try:
        found = os.stat(path)
    except own(OSError):
        return None
    return found.st_size if (found.st_ino, found.st_dev) == known[:2] else None


@contextlib.contextmanager
def make_data_file(path: str, nbytes: int) -> Iterator[tuple[int, DataFile]]:
    """A new file of zeros, with room on the disk for every byte, which has the name ``path`` when the block ends.

    A file that had the name lives on with those who have it open or mapped: cutting it would be SIGBUS for them. It keeps
    the name when the block raises.
    """
    path = followed(path)
    mode = _mode_to_keep(path)
    made = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.new")
    try:
        with open(made, "x+b", buffering=0) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            _allocate(file, 0, nbytes)
            yield file.fileno(), _check(made, os.fstat(file.fileno()))
            os.replace(made, path)
    except BaseException:
        with ignoring(OSError):
            unlink_quietly(made)
        raise


def _mode_to_keep(path: str) -> int | None:
    """The permissions of the file that has the name; what may not be written is not replaced either."""
    try:
        found = os.stat(path)
    except own(FileNotFoundError):
        return None
    _check(path, found)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return stat.S_IMODE(found.st_mode)


def grow_data_file(path: str, known: DataFile, nbytes: int) -> None:
    """Make a file longer, with room on the disk for what is added; ``FileNotFoundError`` when another has its name."""
    with open_data_file(path, writable=True) as (fd, found):
        if found[:2] != known[:2]:
            raise FileNotFoundError(errno.ENOENT, "another file has this name by now", path)
        if found.nbytes < nbytes:
            with open(fd, "r+b", buffering=0, closefd=False) as file:
                _allocate(file, found.nbytes, nbytes - found.nbytes)


def _allocate(file: FileIO, start: int, nbytes: int) -> None:
    """Room for every byte, so that no store can be SIGBUS on a full disk."""
    if not nbytes:
        return
    try:
        libc.fallocate(file.fileno(), 0, offset=start, nbytes=nbytes)
    except own(OSError) as error:
        if error.errno not in _CANNOT_ALLOCATE:
            raise
        _write_zeros(file, start, nbytes)


def _write_zeros(file: FileIO, start: int, nbytes: int) -> None:
    """What file systems without ``fallocate`` need."""
    zeros = memoryview(bytes(min(nbytes, _ZEROS_NBYTES)))
    position, end = start, start + nbytes
    while position < end:
        position += os.pwrite(file.fileno(), zeros[: end - position], position)
