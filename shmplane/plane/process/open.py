"""Open, join and create, without races.

* A plane is made under a private name, its maker's token taken, then renamed into place: it is there whole or not at all,
  and a newborn temporary plane is never taken for an orphan.
* A joiner (see ``join``) starts again when what it opened is not the plane of that name any more.
* Who destroys does it in an order (see ``close``) that whoever comes next can go on with. So a name never means two planes.
* Before a plane is made, and when the file system is full, the planes go in which nobody lives any more (see ``orphans``).
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from ... import errors, system
from ...manifest import Manifest, Transaction, directory_of, take_slot
from ...system import Token, create_file, ignoring, late, make_directory, own, require_platform
from ..memory.failures import translate
from .attachment import Attachment, Opened
from .close import abandon_opening, attached, finish_leaving, leave, opening
from .fork import Forks
from .join import try_join
from .locking import choose_lock
from .options import Options, check_options
from .orphans import remove_for_room, remove_in_passing

if TYPE_CHECKING:
    from ..memory import spill_directory as spilling
else:
    spilling = late("shmplane.plane.memory.spill_directory")

__all__ = ["open_attachment"]

_MOST_TRIES = 100


def open_attachment(root: str, name: str, *, create: bool, options: Options) -> tuple[Attachment, Opened]:
    """This process's attachment to the plane, joined or made if need be, and what holds it."""
    require_platform()
    options.limits.check()
    with opening:
        finish_leaving()
        known = attached.get((root, name))
        # Planes are a user's own: who has become another one opens another plane.
        if known is not None and known.memory.opened_as == os.geteuid() and _still_there(known):
            check_options(known, options)
        else:
            known = _join_or_make_room(root, name, create=create, options=options)
            known.make_room = remove_for_room
        return known, known.open()


def _still_there(known: Attachment) -> bool:
    if known.ended is None:
        with ignoring(errors.ClosedError):
            known.look(_nothing)
    return known.ended is None


def _nothing(_: Transaction) -> None:
    """Finds out whether the plane was destroyed."""


def _join_or_make_room(root: str, name: str, *, create: bool, options: Options) -> Attachment:
    try:
        return _join_or_create(root, name, create=create, options=options)
    except own(errors.PlaneFull) as full:
        if not remove_for_room(root, full):
            raise
    return _join_or_create(root, name, create=create, options=options)


def _join_or_create(root: str, name: str, *, create: bool, options: Options) -> Attachment:
    path = f"{directory_of(root)}/{name}"
    try:
        if create:
            make_directory(directory_of(root))
        for attempt in range(_MOST_TRIES):
            joined = try_join(root, name, path)
            if joined is not None:
                try:
                    check_options(joined, options)
                except own(errors.PlaneMismatch):
                    leave(joined)
                    raise
                return joined
            if not create:
                raise errors.PlaneNotFound(
                    f"there is no plane {name!r} in {root}; open it without create=False to make it",
                    name=name,
                    root=root,
                )
            if not attempt:
                remove_in_passing(root, options.spill)  # before the capacity is chosen by what is free
            created = _try_create(root, name, path, options)
            if created is not None:
                return created
            time.sleep(min(0.05, 0.001 * attempt))
    except own(OSError) as error:
        if isinstance(error, errors.ShmplaneError):
            raise
        raise _opening_failed(root, name, error) from error
    raise errors.PlaneCorrupt(
        f"{path} is neither a plane nor can it be made one: files of a plane are missing in it. Look what it is, and "
        f"remove it.",
        path=path,
    )


def _opening_failed(root: str, name: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(error.errno, f"root {root!r} is not there", root)
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return errors.PlaneSecurityError(f"plane {name!r} in {root}: {error}. Choose another root=.", path=root)
    if isinstance(error, NotADirectoryError):
        return errors.PlaneSecurityError(f"{directory_of(root)} should be a directory: {error}", path=root)
    return translate(error, f"opening the plane {name!r} in {root}")


# Creating


def _try_create(root: str, name: str, path: str, options: Options) -> Attachment | None:
    """Make the plane; None when somebody else was faster."""
    private = f"{directory_of(root)}/.new-{os.urandom(8).hex()}"
    os.mkdir(private, 0o700)
    descriptors: list[int] = []
    created: Attachment | None = None
    try:
        token = Token.create(f"{private}/tokens")
        descriptors.append(token.fd)
        token.try_take(0)
        lock_fd = create_file(f"{private}/lock")
        descriptors.append(lock_fd)
        manifest_fd = create_file(f"{private}/manifest")
        descriptors.append(manifest_fd)
        if options.spill is not None:
            spilling.prepare_spill(options.spill)
        capacity = options.capacity if options.capacity is not None else system.free_nbytes(root) // 2
        recycle = options.recycle if options.recycle is not None else capacity // 4
        manifest = Manifest.create(
            manifest_fd,
            options.limits,
            capacity=capacity,
            recycle=recycle,
            temporary=options.temporary,
            lock=choose_lock(name, options.lock),
        )
        created = Attachment(root, name, path, manifest=manifest, token=token, lock_fd=lock_fd, on_idle=leave)
        if options.spill is not None:
            created.memory.spill = spilling.choose_spill(
                private, options.spill, plane=name, instance=created.instance, root=root
            )
        created.forks = Forks(created)
        created.change(_take_first_slot, created)
        token.leave_seat()
        try:
            os.rename(private, path)
        except own(OSError) as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return None
            raise
        attached[root, name] = created
        descriptors.clear()
        return created
    finally:
        if descriptors:
            abandon_opening(created, descriptors)
        _remove_private(private)


def _remove_private(private: str) -> None:
    """Remove what was not renamed into place, by name: listing it would need a descriptor, which may have run out."""
    for name in ("tokens", "lock", "manifest", "spill"):
        with ignoring(OSError):
            os.unlink(f"{private}/{name}")
    with ignoring(OSError):
        os.rmdir(private)


def _take_first_slot(tx: Transaction, created: Attachment) -> None:
    created.take_slot(take_slot(tx, created.token))
