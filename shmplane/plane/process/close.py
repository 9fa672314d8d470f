"""Leave and destroy: how a process's part ends, and how a plane does.

Who destroys sets the DESTROYED word under the lock, renames the directory away, then removes it. Killed in between, whoever
comes next goes on: a joiner that finds the word set renames the directory, and ``gc`` removes renamed ones. Views that
were handed out stay valid, since memory that somebody leases is unlinked but not punched out.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING

from ...errors import ClosedError, PlaneCorrupt, ShmplaneError
from ...manifest import Doomed, Transaction, destroy_unread, read_spill_place
from ...manifest import destroy as destroy_tables
from ...system import NOT_HAD, identity_of, ignoring, own, remove_tree, run_in_forked_child
from ..memory.spill_directory import remove_spill
from .fast import drop_core
from .patience import is_in_event_loop, moment

if TYPE_CHECKING:
    from .attachment import Attachment

__all__ = [
    "abandon_opening",
    "attached",
    "destroy",
    "end_if_temporary",
    "finish_leaving",
    "forget_ended",
    "leave",
    "leave_at_exit",
    "opening",
    "remove_directory",
    "removing_spill_of",
]

#: the attachments of this process, by root and name
attached: dict[tuple[str, str], Attachment] = {}

_PATIENCE_S = 0.5

#: one at a time opens, leaves or destroys; a plain lock, since its ``with`` cannot lose it to an interrupt
opening: threading.RLock = threading.RLock()
run_in_forked_child(opening._at_fork_reinit)  # type: ignore[attr-defined]


def leave(attachment: Attachment) -> None:
    """End this process's part; a temporary plane whose last process leaves is destroyed."""
    with opening:
        # Between its last use and here somebody may have opened the plane again.
        if not attachment.is_idle:
            return
        try:
            destroyed = attachment.try_change(_patience(attachment), _leave, attachment)
        except own(ShmplaneError):
            destroyed = None
        if destroyed is NOT_HAD:
            attachment.timer.start()
            return
        attachment.end(attachment.ended or _closed(attachment))
        _forget(attachment)
        if destroyed is not None:
            with ignoring(OSError):
                _remove_plane(attachment, destroyed)


def _patience(attachment: Attachment) -> float:
    """Seconds to wait for the lock with ``opening`` in hand: others open and close planes whose locks are free."""
    return moment(attachment) if is_in_event_loop() else _PATIENCE_S


def _leave(tx: Transaction, attachment: Attachment) -> list[Doomed] | None:
    header = attachment.manifest.header
    if header.temporary[0] and not attachment.token.others_alive(attachment.manifest.limits.max_processes):
        return destroy_tables(tx)
    # First ended, then the row: what Ctrl-C leaves in between is a process that takes no part, and not one without a row.
    attachment.ended = _closed(attachment)
    drop_core(attachment)
    attachment.release_slot(tx)
    return None


def end_if_temporary(attachment: Attachment) -> None:
    """Destroy a temporary plane when its last process closes it, although it has views: they stay valid, as do blocks."""
    if not attachment.is_closed or not attachment.manifest.header.temporary[0]:
        return
    with opening:
        for registry in list(attachment.registries.values()):
            registry.open_views()
        with ignoring(ShmplaneError):
            unleased = attachment.try_change(_patience(attachment), _end_if_alone, attachment)
            # When the lock is not to be had, the plane ends with the last view.
            if unleased is not None and unleased is not NOT_HAD:
                attachment.end(attachment.ended or _closed(attachment))
                _forget(attachment)
                with ignoring(OSError):
                    _remove_plane(attachment, unleased)


def _end_if_alone(tx: Transaction, attachment: Attachment) -> list[Doomed] | None:
    if not attachment.is_closed or attachment.token.others_alive(attachment.manifest.limits.max_processes):
        return None
    # First ended: after Ctrl-C in between, this process has no part in a plane that the next gc removes.
    attachment.ended = f"the temporary plane {attachment.name!r} was closed; make another one"
    drop_core(attachment)
    return destroy_tables(tx)


def _closed(attachment: Attachment) -> str:
    return f"plane {attachment.name!r} is closed in this process; open it again"


def finish_leaving() -> None:
    """Go on where Ctrl-C stopped an attachment of this process on its way out."""
    with opening:
        for attachment in list(attached.values()):
            if attachment.ended is not None:
                attachment.close_descriptors()
                _forget(attachment)
            else:
                if attachment.garbage and attachment.is_closed:
                    attachment.try_drain()
                attachment.leave_if_idle()


def forget_ended(attachment: Attachment) -> None:
    """Let go of an attachment that another process's ``destroy`` ended, without waiting; ``finish_leaving`` does it else."""
    if attachment.ended is not None and opening.acquire(blocking=False):
        try:
            attachment.close_descriptors()
            _forget(attachment)
        finally:
            opening.release()


def destroy(attachment: Attachment) -> None:
    """End the plane for all processes; views handed out stay valid."""
    with opening:
        ours = {attachment.manifest.identity, attachment.lock.identity}
        with ignoring(OSError):
            ours.add(identity_of(attachment.token.fd))
        try:
            unleased = attachment.change(destroy_tables)
        except own(ClosedError):
            return
        except own(PlaneCorrupt):
            destroy_unread(attachment.manifest)
            unleased = []
        attachment.end(f"plane {attachment.name!r} was destroyed; open it again to make a new one")
        _forget(attachment)
        with attachment.memory.translated(f"removing the files of plane {attachment.name!r}, which has ended"):
            _remove_plane(attachment, unleased, ours)


def abandon_opening(attachment: Attachment | None, descriptors: list[int]) -> None:
    """Close what was opened for a plane that will not be in use, once: an attachment that was made of it has them, and may
    have closed them already.
    """
    if attachment is not None:
        attachment.ended = attachment.ended or _closed(attachment)
        drop_core(attachment)
        attachment.close_descriptors()
        return
    for fd in descriptors:
        with ignoring(OSError):
            os.close(fd)


def _forget(attachment: Attachment) -> None:
    key = (attachment.root, attachment.name)
    if attached.get(key) is attachment:
        del attached[key]


def _remove_plane(attachment: Attachment, unleased: list[Doomed], ours: Iterable[tuple[int, int]] = ()) -> None:
    for segment in unleased:
        attachment.memory.remove(segment)
    with ignoring(PlaneCorrupt):
        for segment_id in attachment.reader.exported_segments():
            attachment.memory.remove_link(segment_id)
    remove_directory(attachment.path, {attachment.manifest.identity, *ours})


def remove_directory(path: str, ours: Container[tuple[int, int]]) -> None:
    """Move the directory of a destroyed plane away, if one of its files still is that plane's, and remove it."""
    if not any(_identity_at(f"{path}/{name}") in ours for name in ("manifest", "lock", "tokens")):
        return
    dead = f"{os.path.dirname(path)}/.dead-{os.urandom(8).hex()}"
    try:
        os.rename(path, dead)
    except own(FileNotFoundError):
        return
    with removing_spill_of(dead):
        remove_tree(dead)  # what cannot be removed now, for want of descriptors, is removed by the next ``gc``


@contextlib.contextmanager
def removing_spill_of(path: str) -> Iterator[None]:
    """When the directory of a plane that has ended is gone, what it has in its spill directory goes as well."""
    place = None
    with ignoring(OSError, ShmplaneError):
        place = read_spill_place(path)
    yield
    if place is not None:
        remove_spill(place)


def _identity_at(path: str) -> tuple[int, int]:
    try:
        here = os.stat(path)
    except own(FileNotFoundError):
        return -1, -1
    return here.st_ino, here.st_dev


@atexit.register
def leave_at_exit() -> None:
    """Nothing is given back, except that a temporary plane goes with its last process; its views stay readable."""
    for attachment in list(attached.values()):
        attachment.exiting = True
        if attachment.ended is None and attachment.manifest.header.temporary[0]:
            with ignoring(ShmplaneError, OSError):
                if not attachment.token.others_alive(attachment.manifest.limits.max_processes):
                    destroy(attachment)
