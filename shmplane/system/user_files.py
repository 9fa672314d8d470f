"""Files of the user: read in pieces, and written so that they are there whole or not at all.

A file that is being written has no name (``O_TMPFILE``) where the file system can do that: whatever ends the process leaves
nothing. It is written to the disk, gets a name beside the one that it is to have, and takes that one's place; then the
directory is written to the disk as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .files import exists, write_all
from .handlers import ignoring, own

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ReplacingFile", "followed", "is_cached", "open_to_read", "read_into", "replacing"]

_MOST_LINKS = 40
# O_NONBLOCK: a FIFO must not hang the open.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_RDWR | os.O_CLOEXEC


def open_to_read(path: str) -> tuple[int, int]:
    """Descriptor and size of a regular file; ``IsADirectoryError``, ``ValueError`` for anything else."""
    fd = os.open(path, _READ)
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is no regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, found.st_size


def read_into(fd: int, offset: int, view: memoryview) -> int:
    """Fill ``view`` with what lies at ``offset``; fewer bytes than it has: there the file ends."""
    done = 0
    while done < view.nbytes:
        count = os.preadv(fd, [view[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def is_cached(fd: int, offset: int) -> bool:
    """Whether a byte of a file is in memory, so that reading it is a copy and waits for no disk."""
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except own(OSError) as error:
        return error.errno == errno.EOPNOTSUPP  # a file system that is in memory itself does not tell
    return True


class ReplacingFile:
    """The file that is to take the place of another: what writers need of one. Ascending, and not to be read."""

    closed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._offset = 0

    def write(self, data: Buffer) -> int:
        nbytes = memoryview(data).nbytes
        write_all(self._fd, self._offset, data)
        self._offset += nbytes
        return nbytes

    def tell(self) -> int:
        return self._offset

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Closed by whoever opened it."""


@contextlib.contextmanager
def replacing(path: str) -> Iterator[ReplacingFile]:
    """What is written inside takes the place of ``path`` at a clean end, on the disk as well; else nothing has changed."""
    path = followed(path)
    directory, name = os.path.split(path)
    directory = directory or "."
    temporary = f"{directory}/.{name[:100]}.{os.urandom(8).hex()}.tmp"
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _open_unnamed(directory, temporary)
        try:
            with ignoring(FileNotFoundError):
                found = os.stat(path)
                if stat.S_ISDIR(found.st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
                os.fchmod(fd, stat.S_IMODE(found.st_mode))
            yield ReplacingFile(fd)
            os.fsync(fd)
            if not os.fstat(fd).st_nlink:
                # By the descriptor, which needs the call that follows links: so it is given a directory.
                os.link(f"/proc/self/fd/{fd}", os.path.basename(temporary), dst_dir_fd=directory_fd)
            os.replace(temporary, path)
            os.fsync(directory_fd)
        except BaseException:
            with ignoring(FileNotFoundError):
                os.unlink(temporary)
            raise
        finally:
            os.close(fd)
    finally:
        os.close(directory_fd)


def followed(path: str) -> str:
    """Where a link leads, so that it stays one; ``os.path.realpath`` swallows what a signal handler raises."""
    for _ in range(_MOST_LINKS):
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except own(OSError) as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:
                return path
            raise
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _open_unnamed(directory: str, temporary: str) -> int:
    """A new file without a name; where there can be none, one under that name."""
    if exists("/proc/self/fd"):
        try:
            return os.open(directory, _WRITE | os.O_TMPFILE, 0o666)
        except own(OSError) as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}:
                raise
    return os.open(temporary, _WRITE | os.O_CREAT | os.O_EXCL, 0o666)
