"""Temporary files and directories that outlive nobody.

Each process keeps its files in a nest: a directory of its own beside a lock file that it holds locked. The
kernel lets go of the lock when the process is gone, however it died; so a nest whose lock can be taken has
no owner, and ``reclaim_orphans`` removes it. No pid is ever looked at.

What can race: a collector takes the lock of a newborn nest before its owner does. Then the owner finds the
lock taken, or its file unlinked, and begins again under another name; the directory is only made once the
lock is held.

What can come in between: an exception of a signal handler, or a handler that uses scopes itself. So the mutex may
be taken again by its thread, paths are known before they are made, and the directory goes before the lock does:
the kernel removes only an empty one.
"""

from __future__ import annotations

import atexit
import errno
import os
import secrets
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

from shmplane.errors import PlaneFull, PlaneSecurityError
from shmplane.system import create_file_into, ignoring, open_file, own, remove_entry, run_in_forked_child, try_flock

__all__ = ["reclaim_orphans", "keep", "new_path", "remove", "try_make"]

KEPT = ".kept"  #: in a nest: names that were handed over, one a line; they are nobody's orphans


class Nest:
    """This process's directory, there as long as something is in it. What is half built can be left as well."""

    def __init__(self, root: Path) -> None:
        self.path: Path = root / secrets.token_hex(8)
        self._lock_path: Path = self.path.with_name(self.path.name + ".lock")
        self._fds: list[int] = []
        self._is_being_built = False  #: what is interrupted goes on when the handler ends

    def try_build(self) -> bool:
        """Make and lock the lock, then the directory; False when a collector was faster."""
        self._is_being_built = True
        try:
            create_file_into(self._fds, str(self._lock_path))
            if not try_flock(self._fds[0]) or not _is_linked(self._fds[0], self._lock_path):
                return False
            self.path.mkdir(mode=0o700)
            return True
        finally:
            self._is_being_built = False

    def make(self) -> None:
        """Make the directory, unless it is there."""
        with ignoring(FileExistsError):
            self.path.mkdir(mode=0o700)

    def try_leave(self) -> bool:
        """Remove it if nothing is in it."""
        if self._is_being_built:
            return False
        try:
            self.path.rmdir()
        except FileNotFoundError:
            pass
        except own(OSError):
            return False
        self._lock_path.unlink(missing_ok=True)
        return True

    def abandon(self) -> None:
        """Close the lock. In a forked child: the nest is the parent's; our descriptor would keep its lock."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)


_mutex = threading.RLock()
_nest: Nest | None = None
#: all that were begun and not left yet: one, unless a signal handler came in between
_nests: list[Nest] = []


def new_path(prefix: str, suffix: str = "") -> Path:
    """Where a file or directory may be made: a name in this process's nest that nobody has."""
    if os.path.basename(suffix) != suffix or "\0" in suffix:
        raise ValueError(f"suffix is the end of a file's name, not {suffix!r}")
    with _mutex:
        try:
            return _our_nest().path / f"{prefix}{secrets.token_hex(8)}{suffix}"
        except own(OSError) as error:
            raise _translate(error) from error


def try_make(path: Path, *, directory: bool) -> bool:
    """Make an empty file of mode 0600, or a directory of mode 0700; False when the nest was left meanwhile."""
    with _mutex:
        if _nest is None or _nest.path != path.parent:
            return False
        try:
            _nest.make()
            if directory:
                path.mkdir(0o700)
            else:
                os.mknod(path, 0o600 | stat.S_IFREG)
        except own(FileNotFoundError):
            return False
        except own(OSError) as error:
            raise _translate(error) from error
        return True


def _translate(error: OSError) -> Exception:
    """The library's error for a system call that failed."""
    if isinstance(error, PlaneSecurityError):
        return error
    tried = f"making a temporary file: {error}"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return PlaneSecurityError(f"{tried}. Choose another directory by TMPDIR.", errno=error.errno)
    return PlaneFull(f"{tried}. Free room or descriptors, or choose another directory by TMPDIR.", errno=error.errno)


def remove(path: Path) -> None:
    """Remove a file or directory, if it is still there, and the nest when it was the last."""
    if path.is_dir() and not path.is_symlink():
        _remove_tree(str(path))
    else:
        path.unlink(missing_ok=True)
    with _mutex:
        _leave_if_empty()


def _remove_tree(path: str) -> None:
    """Like ``shutil.rmtree``, which takes some OSErrors for the file system's that a signal handler raised."""
    with ignoring(FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
            else:
                with ignoring(FileNotFoundError):
                    os.unlink(entry.path)
    with ignoring(FileNotFoundError):
        os.rmdir(path)


def keep(resource: Any) -> None:
    """A path was handed over: it is no orphan, whoever dies."""
    if not isinstance(resource, Path) or not (resource.name.startswith(("f-", "d-"))):
        return
    with _mutex:
        if resource.parent in [nest.path for nest in _nests]:
            with open(resource.parent / KEPT, "a", encoding="utf-8") as names:
                names.write(resource.name + "\n")


def reclaim_orphans(*, dry_run: bool = False) -> int:
    """Remove the temporary files and directories of processes that are gone; returns how many there were.

    Args:
        dry_run: only count them.

    Cost: one lock attempt per process that has temporary files.
    """
    root = _root()
    return sum(_reclaim(lock, dry_run=dry_run) for lock in root.glob("*.lock")) if root.is_dir() else 0


def _reclaim(lock_path: Path, *, dry_run: bool) -> int:
    try:
        descriptor = open_file(str(lock_path), writable=True)
    except own(OSError):
        return 0
    try:
        if not try_flock(descriptor) or not _is_linked(descriptor, lock_path):
            return 0
        nest = lock_path.with_suffix("")
        if dry_run:
            return len(_orphans_in(nest))
        found = _clear(nest)
        if (nest / KEPT).exists() or not nest.exists():
            lock_path.unlink()
        return found
    finally:
        os.close(descriptor)


def _clear(nest: Path) -> int:
    orphans = _orphans_in(nest)
    if (nest / KEPT).exists():
        for path in orphans:
            remove_entry(str(path))
    else:
        remove_entry(str(nest))
    return len(orphans)


def _orphans_in(nest: Path) -> list[Path]:
    if not nest.is_dir():
        return []
    kept = {KEPT}
    with ignoring(FileNotFoundError):
        kept.update((nest / KEPT).read_text(encoding="utf-8").splitlines())
    return [path for path in nest.iterdir() if path.name not in kept]


def _our_nest() -> Nest:
    global _nest  # noqa: PLW0603  one nest a process
    while _nest is None:
        root = _root()
        # Not Path.mkdir(exist_ok=True), which takes any OSError for "it exists", a handler's TimeoutError too.
        with ignoring(FileExistsError):
            root.mkdir(mode=0o700)
        _check_private(root)
        nest = Nest(root)
        _nests.append(nest)
        if nest.try_build():
            _nest = nest
        else:
            _leave_if_empty()
    return _nest


def _leave_if_empty() -> None:
    global _nest  # noqa: PLW0603  one nest a process
    for nest in list(_nests):
        # A signal handler that makes a file now does so in a nest of its own.
        _nest = None
        if nest.try_leave():
            nest.abandon()
            _nests.remove(nest)
    if _nest is None and _nests:
        _nest = _nests[-1]


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"shmplane-scopes-{os.geteuid()}"


def _check_private(root: Path) -> None:
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PlaneSecurityError(
            f"{root} is not a directory that is ours alone; somebody else made it: remove it, or set TMPDIR",
            path=str(root),
        )


def _is_linked(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _after_fork_in_child() -> None:
    global _nest, _mutex  # noqa: PLW0603  one nest a process
    _mutex = threading.RLock()
    _nest = None
    while _nests:
        _nests.pop().abandon()


def _at_exit() -> None:
    with _mutex:
        _leave_if_empty()


run_in_forked_child(_after_fork_in_child)
atexit.register(_at_exit)
