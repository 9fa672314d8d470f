"""Open, create, join, leave and destroy, without races.

* A plane is made under a private name, its maker's token taken, then renamed into place: it is there whole or not at all,
  and a newborn temporary plane is never taken for an orphan.
* A joiner takes the lock and then looks whether the files it opened are still the plane of that name, and whether the
  plane was destroyed meanwhile; if so it starts again.
* Who destroys sets the DESTROYED word under the lock, renames the directory away, then removes it. Killed in between,
  whoever comes next goes on. So a name never means two planes.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import threading
import time
from typing import NamedTuple

from ..errors import ClosedError, PlaneCorrupt, PlaneMismatch, PlaneNotFound, PlaneSecurityError, ShmplaneError
from ..manifest import Doomed, Limits, Manifest
from ..system import (
    Token,
    check_directory,
    create_file,
    make_directory,
    open_file,
    require_platform,
    run_in_forked_child,
    unlink_quietly,
)
from .attachment import Attachment
from .exporting import remove_dead_links
from .joining import take_slot
from .memory import translate
from .reaper import reap_dead

__all__ = [
    "DEFAULT_LIMITS",
    "Limits",
    "Options",
    "destroy",
    "directory_of",
    "leave",
    "open_attachment",
    "plane_names",
    "remove_orphans",
]

DEFAULT_LIMITS = Limits(max_blocks=65_536, max_processes=256)
TEMPORARY_PREFIX = "temporary-"
_NEWBORN_S = 60.0
_MOST_TRIES = 100

_attached: dict[tuple[str, str], Attachment] = {}
_opening = threading.RLock()


class Options(NamedTuple):
    """What the caller asked of the plane; None: whatever it is."""

    capacity: int | None
    recycle: int | None
    limits: Limits
    temporary: bool = False


def default_root() -> str:
    return os.environ.get("SHMPLANE_ROOT") or "/dev/shm"


def directory_of(root: str) -> str:
    """Where this user's planes of a root lie."""
    return f"{root}/shmplane-{os.geteuid()}"


def open_attachment(root: str, name: str, *, create: bool, options: Options) -> tuple[Attachment, int]:
    """This process's attachment to the plane, joined or made if need be, and the number by which it is held."""
    require_platform()
    options.limits.check()
    with _opening:
        known = _attached.get((root, name))
        if known is not None and _still_there(known):
            _check_options(known, options)
        else:
            known = _join_or_create(root, name, create=create, options=options)
            _attached[root, name] = known
        return known, known.hold()


def _still_there(known: Attachment) -> bool:
    if known.ended is None:
        with contextlib.suppress(ClosedError):
            known.run(_nothing, writes=False)
    return known.ended is None


def _nothing() -> None:
    """Finds out whether the plane was destroyed."""


def _join_or_create(root: str, name: str, *, create: bool, options: Options) -> Attachment:
    path = f"{directory_of(root)}/{name}"
    try:
        if create:
            make_directory(directory_of(root))
        for attempt in range(_MOST_TRIES):
            joined = _try_join(root, name, path)
            if joined is not None:
                try:
                    _check_options(joined, options)
                except PlaneMismatch:
                    leave(joined)
                    raise
                return joined
            if not create:
                raise PlaneNotFound(
                    f"there is no plane {name!r} in {root}; open it without create=False to make it",
                    name=name,
                    root=root,
                )
            created = _try_create(root, name, path, options)
            if created is not None:
                return created
            time.sleep(min(0.05, 0.001 * attempt))
    except OSError as error:
        if isinstance(error, ShmplaneError):
            raise
        raise _opening_failed(root, name, error) from error
    raise PlaneCorrupt(
        f"{path} is neither a plane nor can it be made one: files of a plane are missing in it. Look what it is, and "
        f"remove it.",
        path=path,
    )


def _opening_failed(root: str, name: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(error.errno, f"root {root!r} is not there", root)
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return PlaneSecurityError(f"plane {name!r} in {root}: {error}. Choose another root=.", path=root)
    if isinstance(error, NotADirectoryError):
        return PlaneSecurityError(f"{directory_of(root)} should be a directory: {error}", path=root)
    return translate(error, f"opening the plane {name!r} in {root}")


# Joining


def _try_join(root: str, name: str, path: str) -> Attachment | None:
    """Join what is there; None when nothing is, or when it went away meanwhile."""
    descriptors: list[int] = []
    try:
        try:
            check_directory(directory_of(root))
            check_directory(path)
            token = Token.open(f"{path}/tokens")
            descriptors.append(token.fd)
            lock_fd = open_file(f"{path}/lock", writable=True)
            descriptors.append(lock_fd)
            manifest_fd = open_file(f"{path}/manifest", writable=True)
            descriptors.append(manifest_fd)
        except FileNotFoundError:
            _remove_if_empty(path)
            return None
        manifest = Manifest.open(manifest_fd, f"{path}/manifest")
        joining = Attachment(root, name, path, manifest=manifest, token=token, lock_fd=lock_fd, on_idle=leave)
        try:
            joined = joining.run(_take_part, joining)
        except ClosedError:
            _remove_directory(path, manifest)
            return None
        if joined:
            descriptors.clear()
            return joining
        return None
    finally:
        for fd in descriptors:
            with contextlib.suppress(OSError):
                os.close(fd)


def _take_part(joining: Attachment) -> bool:
    """Under the lock: is it still the plane of that name? Then take a slot."""
    try:
        here = os.stat(f"{joining.path}/lock")
    except FileNotFoundError:
        return False
    if (here.st_ino, here.st_dev) != joining.lock.identity:
        return False
    reap_dead(joining)
    joining.take_part(take_slot(joining.tx, joining.token))
    return True


def _remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _check_options(joined: Attachment, options: Options) -> None:
    header = joined.manifest.header
    asked = {
        "capacity": (options.capacity, header.capacity[0], None),
        "recycle": (options.recycle, header.recycle[0], None),
        "max_blocks": (options.limits.max_blocks, header.max_blocks[0], DEFAULT_LIMITS.max_blocks),
        "max_processes": (options.limits.max_processes, header.max_processes[0], DEFAULT_LIMITS.max_processes),
    }
    for what, (wanted, found, default) in asked.items():
        if wanted is not None and wanted not in (found, default):
            raise PlaneMismatch(
                f"plane {joined.name!r} has {what}={found:,}, asked for {wanted:,}. Leave the option out, use the same "
                f"value, or change it with plane.resize().",
                option=what,
                asked=wanted,
                found=found,
            )


# Creating


def _try_create(root: str, name: str, path: str, options: Options) -> Attachment | None:
    """Make the plane; None when somebody else was faster."""
    private = f"{directory_of(root)}/.new-{secrets.token_hex(8)}"
    os.mkdir(private, 0o700)
    descriptors: list[int] = []
    try:
        token = Token.create(f"{private}/tokens")
        descriptors.append(token.fd)
        token.try_take(0)
        lock_fd = create_file(f"{private}/lock")
        descriptors.append(lock_fd)
        manifest_fd = create_file(f"{private}/manifest")
        descriptors.append(manifest_fd)
        capacity = options.capacity if options.capacity is not None else _half_of_free(root)
        recycle = options.recycle if options.recycle is not None else capacity // 4
        manifest = Manifest.create(
            manifest_fd, options.limits, capacity=capacity, recycle=recycle, temporary=options.temporary
        )
        created = Attachment(root, name, path, manifest=manifest, token=token, lock_fd=lock_fd, on_idle=leave)
        created.run(_take_first_slot, created)
        try:
            os.rename(private, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return None
            raise
        descriptors.clear()
        return created
    finally:
        if descriptors:
            for fd in descriptors:
                os.close(fd)
            _remove_files(private)


def _take_first_slot(created: Attachment) -> None:
    created.take_part(take_slot(created.tx, created.token))


def _half_of_free(root: str) -> int:
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize // 2


# Leaving and destroying


def leave(attachment: Attachment) -> None:
    """End this process's part; a temporary plane whose last process leaves is destroyed."""
    with _opening:
        # Between its last use and here somebody may have opened the plane again.
        if not attachment.is_idle:
            return
        try:
            destroyed = attachment.run(_leave, attachment)
        except ShmplaneError:
            destroyed = None
        if attachment.ended is None:
            attachment.end(f"plane {attachment.name!r} is closed in this process; open it again")
        _forget(attachment)
        if destroyed is not None:
            _remove_plane(attachment, destroyed)


def _leave(attachment: Attachment) -> list[Doomed] | None:
    header = attachment.manifest.header
    if header.temporary[0] and not attachment.token.others_alive(attachment.manifest.limits.max_processes):
        return _destroy(attachment)
    attachment.release_slot()
    return None


def destroy(attachment: Attachment) -> None:
    """End the plane for all processes; views handed out stay valid."""
    with _opening:
        try:
            unleased = attachment.run(_destroy, attachment)
        except ClosedError:
            return
        attachment.end(f"plane {attachment.name!r} was destroyed; open it again to make a new one")
        _forget(attachment)
        _remove_plane(attachment, unleased)


def _destroy(attachment: Attachment) -> list[Doomed]:
    """Set the word that ends the plane; returns the segments that nobody reads any more."""
    tx = attachment.tx
    tx.header.destroyed[0] = 1
    tx.coordination.wake_everybody()
    # Who holds a block compares its name's word and nothing else: make it differ.
    for name_row in range(tx.header.names_high[0]):
        if tx.names.word[name_row]:
            tx.names.word[name_row] = 0
    return tx.unleased_segments()


def _forget(attachment: Attachment) -> None:
    key = (attachment.root, attachment.name)
    if _attached.get(key) is attachment:
        del _attached[key]


def _remove_plane(attachment: Attachment, unleased: list[Doomed]) -> None:
    for segment in unleased:
        attachment.memory.remove(segment)
    for segment_id in attachment.tx.exported_segments():
        unlink_quietly(attachment.memory.link(segment_id))
    _remove_directory(attachment.path, attachment.manifest)


def _remove_directory(path: str, manifest: Manifest) -> None:
    """Move the directory of a destroyed plane away, if it still is that plane's, and remove it."""
    try:
        here = os.stat(f"{path}/manifest")
    except OSError:
        return
    if (here.st_ino, here.st_dev) != manifest.identity:
        return
    dead = f"{os.path.dirname(path)}/.dead-{secrets.token_hex(8)}"
    try:
        os.rename(path, dead)
    except FileNotFoundError:
        return
    _remove_files(dead)


def _remove_files(directory: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            unlink_quietly(entry.path)
        os.rmdir(directory)


def plane_names(root: str) -> list[str]:
    """The planes of this user in a root, sorted."""
    try:
        entries = os.listdir(directory_of(root))
    except FileNotFoundError:
        return []
    return sorted(entry for entry in entries if not entry.startswith("."))


def remove_orphans(root: str) -> int:
    """Remove what killed processes left beside the planes: temporary planes, half-made and half-removed ones."""
    removed = 0
    base = directory_of(root)
    try:
        entries = os.listdir(base)
    except FileNotFoundError:
        return 0
    for entry in entries:
        path = f"{base}/{entry}"
        if entry.startswith(".dead-") or (entry.startswith(".new-") and _is_orphan(path)):
            _remove_files(path)
            removed += 1
        elif entry.startswith(TEMPORARY_PREFIX) and (root, entry) not in _attached and _nobody_lives_in(path):
            # Joining and leaving alone in it is what destroys a temporary plane, with all checks on the way.
            with contextlib.suppress(OSError, ShmplaneError):
                joined = _try_join(root, entry, path)
                if joined is not None:
                    leave(joined)
                    removed += 1
    remove_dead_links(root)
    return removed


def _nobody_lives_in(path: str) -> bool:
    try:
        token = Token.open(f"{path}/tokens")
    except (OSError, ShmplaneError):
        return False
    try:
        return not token.others_alive(1 << 20)
    finally:
        token.close()


def _is_orphan(path: str) -> bool:
    """A half-made plane whose maker is gone; one without a locked token may be newborn, so it must have some age."""
    try:
        age = time.time() - os.stat(path).st_ctime
    except FileNotFoundError:
        return False
    if os.path.exists(f"{path}/tokens"):
        return age > 1.0 and _nobody_lives_in(path)
    return age > _NEWBORN_S


@atexit.register
def _at_exit() -> None:
    """Nothing is given back, except that a temporary plane goes with its last process; its views stay readable."""
    for attachment in list(_attached.values()):
        attachment.exiting = True
        if attachment.ended is None and attachment.manifest.header.temporary[0]:
            with contextlib.suppress(ShmplaneError, OSError):
                if not attachment.token.others_alive(attachment.manifest.limits.max_processes):
                    destroy(attachment)


def _new_mutex_in_child() -> None:
    global _opening
    _opening = threading.RLock()


run_in_forked_child(_new_mutex_in_child)
