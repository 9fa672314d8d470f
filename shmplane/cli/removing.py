"""``shmplane rm``: blocks by name, or a plane with all that is in it.

Nothing is removed unless all that was asked for can be. What is leased is refused without ``--force``, as a courtesy to
its readers: its memory would stay with them in any case.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from ..errors import BlockNotFound, PlaneCorrupt, PlaneNotFound, PlaneSecurityError, ShmplaneError
from ..names import check_plane_name
from ..observe import Snapshot, directory_of, snapshot_of, some
from ..system import remove_tree
from .exits import BUSY, NOT_FOUND, OK, PROBLEMS, USAGE, Failed
from .output import printable

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["rm"]


def rm(options: Namespace, out: Output) -> int:
    if options.whole == bool(options.blocks):
        raise Failed(USAGE, "rm takes the names of blocks, or --plane for the whole plane; see `shmplane rm --help`")
    return _remove_plane(options, out) if options.whole else _remove_blocks(options, out)


def _remove_blocks(options: Namespace, out: Output) -> int:
    from ..plane import Plane

    snapshot = snapshot_of(options.plane, options.root)
    names = list(dict.fromkeys(options.blocks))
    found = {name: snapshot.named(name) for name in names}
    missing = [name for name in names if found[name] is None]
    if missing:
        raise Failed(NOT_FOUND, f"nothing removed: no block is named {_listed(missing)} in {options.plane}")
    leased = [name for name in names if _readers(snapshot, name)]
    if leased and not options.force:
        readers = "; ".join(f"{printable(name)}: {some(_readers(snapshot, name), 'process')}" for name in leased)
        raise Failed(BUSY, f"nothing removed: leased ({readers}). --force takes the name; readers keep the memory.")
    code = OK
    with Plane(options.plane, create=False, root=options.root) as plane:
        for name in names:
            try:
                plane.delete(name)
            except BlockNotFound:
                out.message(f"{printable(name)} was deleted by somebody else meanwhile")
                code = NOT_FOUND
    return code


def _readers(snapshot: Snapshot, name: str) -> int:
    """Living processes that lease the current version."""
    block = snapshot.named(name)
    alive = {process.slot for process in snapshot.processes if process.alive}
    return 0 if block is None else len(alive.intersection(block.holders))


def _remove_plane(options: Namespace, out: Output) -> int:
    from ..plane import Plane

    try:
        snapshot = snapshot_of(options.plane, options.root)
        _refuse_leased(snapshot, options)
        Plane(options.plane, create=False, root=options.root).destroy()
    except PlaneNotFound:
        raise
    except ShmplaneError as error:
        if isinstance(error, PlaneSecurityError) or not (options.force and isinstance(error, PlaneCorrupt)):
            hint = " --force removes its files as they are." if isinstance(error, PlaneCorrupt) else ""
            raise Failed(BUSY if error.retryable else PROBLEMS, f"{error}{hint}") from error
        _remove_files(f"{directory_of(options.root)}/{check_plane_name(options.plane)}")
        out.message(f"{options.plane} could not be opened; its files were removed as they were")
    return OK


def _refuse_leased(snapshot: Snapshot, options: Namespace) -> None:
    living = [process for process in snapshot.processes if process.alive]
    leases = sum(len(process.leases) for process in living)
    if leases and not options.force:
        holders = ", ".join(str(process.pid) for process in living if process.leases)
        raise Failed(
            BUSY,
            f"{options.plane} was not removed: {some(leases, 'lease')} of pid {holders}. "
            f"--force ends the plane for them; what they read now stays readable.",
        )


def _remove_files(path: str) -> None:
    """Move the directory out of the way first, so that its name is free at once and a kill leaves it to ``gc``."""
    from ..plane import removing_spill_of

    dead = f"{os.path.dirname(path)}/.dead-{secrets.token_hex(8)}"
    os.rename(path, dead)
    with removing_spill_of(dead):
        remove_tree(dead)


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
