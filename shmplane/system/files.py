"""Files of a plane: made so that only their owner can use them, and checked each time they are opened.

Every open is ``O_NOFOLLOW | O_CLOEXEC``, creation adds ``O_EXCL``, and ``fstat`` then has to show a regular file of
ours without bits for group and others. Directories are checked in the same way.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from ..errors import PlaneSecurityError
from . import libc
from .handlers import ignoring, own

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "allocate",
    "backed_nbytes",
    "check_directory",
    "close_own",
    "copy_file",
    "create_file",
    "identity_of",
    "link_file",
    "make_directory",
    "mark_description",
    "open_file",
    "punch",
    "remove_entry",
    "remove_tree",
    "read_start",
    "reopen",
    "set_size",
    "try_flock",
    "unlink_quietly",
    "unlink_second_name",
    "write_all",
]

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO planted in place of a file must not hang the open.
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02
#: the kernel writes at most this much in one call
_MOST_PER_WRITE = 0x7FFF_F000
_COPIED_AT_ONCE = 1 << 20


def create_file(path: str) -> int:
    """A new file that only we can read and write; ``FileExistsError`` when the name is taken."""
    return os.open(path, _CREATE, 0o600)


def create_file_into(fds: list[int], path: str) -> None:
    """The same, with the descriptor in ``fds`` before anything looks for signals: it is not opened and then lost."""
    fds.extend(map(os.open, (path,), (_CREATE,), (0o600,)))


def open_file(path: str, *, writable: bool = False) -> int:
    """Open a file of the plane; ``PlaneSecurityError`` unless it is regular, ours and private."""
    try:
        fd = os.open(path, _OPEN | (os.O_RDWR if writable else os.O_RDONLY))
    except own(OSError) as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EISDIR):
            raise PlaneSecurityError(
                f"opening {path}: {os.strerror(error.errno)}; it should be a regular file of user {os.geteuid()}. "
                f"Somebody replaced it: look at it, and remove the plane if you do not trust it.",
                path=path,
            ) from error
        raise
    try:
        _check(path, os.fstat(fd), stat.S_ISREG)
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_directory(path: str) -> None:
    """Make a directory that only we can enter, or check that the one there is such."""
    with ignoring(FileExistsError):
        os.mkdir(path, 0o700)
    check_directory(path)


def check_directory(path: str) -> None:
    """``PlaneSecurityError`` unless ``path`` is a private directory of ours and no link."""
    _check(path, os.lstat(path), stat.S_ISDIR)


def _check(path: str, found: os.stat_result, right_type: object) -> None:
    problems, cure = [], "Remove it, or choose another root=."
    if not right_type(found.st_mode):  # type: ignore[operator]
        problems.append("it is of another file type")
    if found.st_uid != os.geteuid():
        problems.append(f"it belongs to user {found.st_uid}, we are {os.geteuid()}")
    if found.st_mode & 0o077:
        if not problems:
            cure = f"See who else wrote there, then: chmod {700 if stat.S_ISDIR(found.st_mode) else 600} {path}"
        problems.append(f"its mode {stat.S_IMODE(found.st_mode):04o} lets others in")
    if problems:
        raise PlaneSecurityError(
            f"{path} is not safe to use: {' and '.join(problems)}. {cure}",
            path=path,
            uid=found.st_uid,
            mode=stat.S_IMODE(found.st_mode),
        )


def write_all(fd: int, offset: int, data: Buffer) -> None:
    """Write all of a contiguous buffer at ``offset``: fresh pages are neither zeroed nor faulted first."""
    view = memoryview(data).cast("B")
    while view.nbytes:
        written = os.pwrite(fd, view[:_MOST_PER_WRITE], offset)
        offset += written
        view = view[written:]


def copy_file(source: int, target: int, nbytes: int) -> bool:
    """Write the first ``nbytes`` of a file to another; False when it has fewer. What is a hole there is read as zeros."""
    buffer, at = memoryview(bytearray(min(nbytes, _COPIED_AT_ONCE))), 0
    while at < nbytes:
        count = os.preadv(source, [buffer[: nbytes - at]], at)
        if not count:
            return False
        write_all(target, at, buffer[:count])
        at += count
    return True


def allocate(fd: int, nbytes: int, *, offset: int = 0) -> None:
    """Back ``[offset, offset + nbytes)`` with memory, so that no later access can be SIGBUS; ``OSError`` if full."""
    libc.fallocate(fd, 0, offset=offset, nbytes=nbytes)


def backed_nbytes(fd: int) -> int:
    """How much of a file has memory behind it."""
    return os.fstat(fd).st_blocks * 512


def punch(fd: int, nbytes: int) -> None:
    """Give the pages of a file back although others may still map it."""
    libc.fallocate(fd, _KEEP_SIZE_AND_PUNCH_HOLE, offset=0, nbytes=nbytes)


def remove_entry(path: str) -> bool:
    """Remove a file, or a directory that somebody put in its place; whether it is gone. Raises nothing of its own."""
    try:
        unlink_quietly(path)
    except own(OSError) as error:
        return error.errno == errno.EISDIR and remove_tree(path)
    return True


def remove_tree(directory: str) -> bool:
    """Remove a directory with all that is in it, as far as that can be; whether it is gone. Follows no links."""
    directories = [directory]
    for found in directories:
        with ignoring(OSError):
            for entry in os.scandir(found):
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                else:
                    with ignoring(OSError):
                        os.unlink(entry.path)
    for found in reversed(directories):
        with ignoring(OSError):
            os.rmdir(found)
    return not exists(directory)


def unlink_quietly(path: str) -> None:
    """Remove a file that may be gone already."""
    with ignoring(FileNotFoundError):
        os.unlink(path)


def identity_of(fd: int) -> tuple[int, int]:
    """Inode and device of an open file."""
    found = os.fstat(fd)
    return found.st_ino, found.st_dev


def close_own(fd: int, identity: tuple[int, int]) -> None:
    """Close a descriptor if it still is that file; one that somebody closed and reused is theirs."""
    try:
        if identity_of(fd) == identity:
            os.close(fd)
    except own(OSError):
        pass  # closed already


def mark_description(fd: int) -> int:
    """Set the file offset to a number by which this open description is known again; the number."""
    # Any one that no other descriptor's offset has by accident, below the file size limit of every file system.
    offset = int.from_bytes(os.urandom(5), "little") | 1 << 39
    return os.lseek(fd, offset, os.SEEK_SET)


def reopen(fd: int) -> int:
    """A new open description of the same file, read-write, also when the file has been unlinked since."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)


def set_size(fd: int, nbytes: int) -> None:
    """Make a new file ``nbytes`` long; nothing is backed by memory yet."""
    os.ftruncate(fd, nbytes)


def exists(path: str) -> bool:
    """Whether there is something, be it a link to nothing; ``os.path.exists`` swallows what a signal handler raises in it."""
    try:
        os.lstat(path)
    except own(OSError):
        return False
    return True


def read_start(fd: int, nbytes: int) -> bytes:
    """The first ``nbytes`` of a file, or fewer when it is shorter."""
    return os.pread(fd, nbytes, 0)


def link_file(path: str, link: str) -> None:
    """Give a file a second name, which it may have already; ``PlaneSecurityError`` when another file has that name.

    The directory may be everybody's, and who guesses a name can take it.
    """
    with ignoring(FileExistsError):
        os.link(path, link)
    try:
        found = os.lstat(link)
    except own(FileNotFoundError):
        os.link(path, link)  # a resource tracker removed it at this moment
        found = os.lstat(link)
    if not os.path.samestat(found, os.lstat(path)):
        raise PlaneSecurityError(
            f"{link} should be a second name of {path}, and is another file, of user {found.st_uid}. Somebody put it "
            f"there: look at it and remove it, or put the block again, which gives it another name.",
            path=link,
            uid=found.st_uid,
        )


def unlink_second_name(path: str, link: str) -> None:
    """Remove what ``link_file`` made, unless it is gone or another file has the name by now. Raises nothing of its own."""
    with ignoring(OSError):
        if os.path.samestat(os.lstat(link), os.lstat(path)):
            os.unlink(link)


def try_flock(fd: int) -> bool:
    """Lock a whole file for this open description; False when another has it. The kernel drops it at death."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except own(OSError):
        return False
    return True
