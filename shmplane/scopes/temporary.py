"""Temporary files and directories that outlive nobody.

Each process keeps its files in a nest: a directory of its own beside a lock file that it holds locked. The
kernel lets go of the lock when the process is gone, however it died; so a nest whose lock can be taken has
no owner, and ``collect_orphans`` removes it. No pid is ever looked at.

What can race: a collector takes the lock of a newborn nest before its owner does. Then the owner finds the
lock taken, or its file unlinked, and begins again under another name; the directory is only made once the
lock is held.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from shmplane.errors import PlaneSecurityError
from shmplane.system import create_file, open_file, run_in_forked_child, try_flock

__all__ = ["collect_orphans", "keep", "new_directory", "new_file", "remove"]

KEPT = ".kept"  #: in a nest: names that were handed over, one a line; they are nobody's orphans


class Nest:
    """This process's directory, there as long as something is in it."""

    path: Path

    def __init__(self, root: Path) -> None:
        self.path, self._lock_path, self._fd = _build(root)

    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return not any(self.path.iterdir())

    def leave(self) -> None:
        """Remove it if it is empty; else leave it to a later ``collect_orphans``."""
        with suppress(OSError):
            self.path.rmdir()
            self._lock_path.unlink()
        os.close(self._fd)

    def abandon(self) -> None:
        """In a forked child: the nest and its lock are the parent's; our descriptor would keep the lock."""
        os.close(self._fd)


_mutex = threading.Lock()
_nest: Nest | None = None


def new_file(suffix: str = "") -> Path:
    """An empty file of mode 0600 in this process's nest."""
    with _mutex:
        descriptor, path = tempfile.mkstemp(suffix=suffix, prefix="f-", dir=_our_nest().path)
        os.close(descriptor)
        return Path(path)


def new_directory() -> Path:
    """An empty directory of mode 0700 in this process's nest."""
    with _mutex:
        return Path(tempfile.mkdtemp(prefix="d-", dir=_our_nest().path))


def remove(path: Path) -> None:
    """Remove a file or directory, if it is still there, and the nest when it was the last."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    with _mutex:
        _leave_if_empty()


def keep(resource: Any) -> None:
    """A path was handed over: it is no orphan, whoever dies."""
    if not isinstance(resource, Path) or not (resource.name.startswith(("f-", "d-"))):
        return
    with _mutex:
        if _nest is not None and resource.parent == _nest.path:
            with open(_nest.path / KEPT, "a", encoding="utf-8") as names:
                names.write(resource.name + "\n")


def collect_orphans(*, dry_run: bool = False) -> int:
    """Remove the temporary files and directories of processes that are gone; returns how many there were.

    Args:
        dry_run: only count them.

    Cost: one lock attempt per process that has temporary files.
    """
    root = _root()
    return sum(_collect(lock, dry_run=dry_run) for lock in root.glob("*.lock")) if root.is_dir() else 0


def _collect(lock_path: Path, *, dry_run: bool) -> int:
    try:
        descriptor = open_file(str(lock_path), writable=True)
    except OSError:
        return 0
    try:
        if not try_flock(descriptor) or not _is_linked(descriptor, lock_path):
            return 0
        nest = lock_path.with_suffix("")
        if dry_run:
            return len(_orphans_in(nest))
        found = _clear(nest)
        lock_path.unlink()
        return found
    finally:
        os.close(descriptor)


def _clear(nest: Path) -> int:
    orphans = _orphans_in(nest)
    if (nest / KEPT).exists():
        for path in orphans:
            _remove_quietly(path)
    else:
        shutil.rmtree(nest, ignore_errors=True)
    return len(orphans)


def _orphans_in(nest: Path) -> list[Path]:
    if not nest.is_dir():
        return []
    kept = {KEPT}
    with suppress(FileNotFoundError):
        kept.update((nest / KEPT).read_text(encoding="utf-8").splitlines())
    return [path for path in nest.iterdir() if path.name not in kept]


def _remove_quietly(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _our_nest() -> Nest:
    global _nest  # noqa: PLW0603  one nest a process
    if _nest is None:
        root = _root()
        root.mkdir(mode=0o700, exist_ok=True)
        _check_private(root)
        _nest = Nest(root)
    return _nest


def _leave_if_empty() -> None:
    global _nest  # noqa: PLW0603  one nest a process
    nest = _nest
    if nest is not None and nest.path.is_dir() and nest.is_empty():
        _nest = None
        nest.leave()


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"shmplane-scopes-{os.geteuid()}"


def _check_private(root: Path) -> None:
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PlaneSecurityError(
            f"{root} is not a directory that is ours alone; somebody else made it: remove it, or set TMPDIR",
            path=str(root),
        )


def _build(root: Path) -> tuple[Path, Path, int]:
    while True:
        path = root / secrets.token_hex(8)
        lock_path = path.with_name(path.name + ".lock")
        descriptor = create_file(str(lock_path))
        if try_flock(descriptor) and _is_linked(descriptor, lock_path):
            path.mkdir(mode=0o700)
            return path, lock_path, descriptor
        os.close(descriptor)


def _is_linked(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _after_fork_in_child() -> None:
    global _nest, _mutex  # noqa: PLW0603  one nest a process
    _mutex = threading.Lock()
    if _nest is not None:
        nest, _nest = _nest, None
        nest.abandon()


def _at_exit() -> None:
    with _mutex:
        _leave_if_empty()


run_in_forked_child(_after_fork_in_child)
atexit.register(_at_exit)
