"""``shmplane gc`` and ``rm``: what goes when its processes have ended, and what goes when it is said.

``gc`` reclaims what ended processes held, and says what came back. It is silent when nothing did.

A dry run tells it from a snapshot. Otherwise it is what ``Plane.gc`` gave back: a process that lives in the plane looks for
ended ones once a second, and what it reclaimed first is not ours to tell.

``rm`` removes nothing unless all that was asked for can be. What is leased is refused without ``--force``, as a courtesy to
its readers: its memory would stay with them in any case.
"""

from __future__ import annotations

import os
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import BlockNotFound, PlaneCorrupt, PlaneNotFound, PlaneSecurityError, ShmplaneError
from ..names import check_plane_name
from ..observe import (
    Leftover,
    Snapshot,
    directory_of,
    leftovers,
    nbytes,
    parts_of,
    plane_names,
    reclaimable,
    snapshot_of,
    some,
)
from ..system import load_late, remove_tree
from .exits import BUSY, NOT_FOUND, OK, PROBLEMS, USAGE, Failed, of_each
from .output import Output, printable

if TYPE_CHECKING:
    from argparse import Namespace


__all__ = ["gc", "rm"]


class _Given(NamedTuple):
    """What came back, or would, of one plane; ``pids``: of ended processes that held something."""

    processes: int
    leases: int
    permits: int
    blocks: int
    nbytes: int
    pids: list[int]

    def __bool__(self) -> bool:
        """A process that ended and held nothing is no news."""
        return bool(self.pids or any((self.leases, self.permits, self.blocks, self.nbytes)))

    def __str__(self) -> str:
        """``1 process, 2 leases, 80 KiB``."""
        processes = [some(self.processes, "process")] if self.processes else []
        parts = parts_of(leases=self.leases, permits=self.permits, blocks=self.blocks, freed_nbytes=self.nbytes)
        return ", ".join(processes + parts)


def gc(options: Namespace, out: Output) -> int:
    if options.all_users:
        from ..plane import Plane  # noqa: F401
        from .users import check_all_users, run_for_all_users

        check_all_users(options)
        load_late()  # before a child that may not be able to read it any more
        return run_for_all_users(_gc, options, out)
    return _gc(options, out)


def _gc(options: Namespace, out: Output) -> int:
    orphans = leftovers(options.root)
    files = _files_of_scopes(dry_run=options.dry_run)
    reclaim, failed = partial(_reclaim, root=options.root, dry_run=options.dry_run), dict[str, str]()
    if options.plane is not None:
        found = {options.plane: reclaim(options.plane)}
    else:
        # A temporary plane that nobody lives in goes as a whole, below.
        left = {os.path.basename(left.path) for left in orphans}
        found, failed = of_each((name for name in plane_names(options.root) if name not in left), reclaim)
    if orphans and not options.dry_run:
        from ..plane import remove_orphans

        remove_orphans(options.root)
        still_there = {left.path for left in leftovers(options.root)}
        orphans = [left for left in orphans if left.path not in still_there]
    if options.json:
        out.json(**_fields(found, orphans, failed, options=options), temporary_files=files)
    else:
        _show(found, orphans, files, dry_run=options.dry_run, out=out)
    for name, problem in failed.items():
        out.message(f"{name}: {problem}")
    return PROBLEMS if failed else OK


def _reclaim(name: str, *, root: str, dry_run: bool) -> _Given:
    snapshot = snapshot_of(name, root)
    found = reclaimable(snapshot)
    pids = [process.pid for process in found.processes]
    if dry_run or not (found or snapshot.summary.dead or snapshot.summary.dirty or snapshot.blocks):
        return _Given(len(pids), found.leases, found.permits, len(found.blocks), found.nbytes, pids)
    from ..plane import Plane

    with Plane(name, create=False, root=root) as plane:
        done = plane.gc()
    return _Given(done.processes, done.leases, done.permits, done.blocks, done.nbytes, pids if done.processes else [])


def _files_of_scopes(*, dry_run: bool) -> int:
    """How many temporary files and directories of ended processes were removed, or would be."""
    from ..scopes import reclaim_orphans

    try:
        return reclaim_orphans(dry_run=dry_run)
    except OSError:
        return 0


def _show(found: dict[str, _Given], orphans: list[Leftover], files: int, *, dry_run: bool, out: Output) -> None:
    verb = "would reclaim" if dry_run else "reclaimed"
    for name, what in found.items():
        if what:
            out.line(f"{name}: {verb} {what}")
    for left in orphans:
        removed = "would remove" if dry_run else "removed"
        out.line(f"{os.path.basename(left.path)}: {removed} ({left.what}, {nbytes(left.nbytes)})")
    if files:
        out.line(f"{'would remove' if dry_run else 'removed'} {some(files, 'temporary file')} of ended processes")


def _fields(
    found: dict[str, _Given], orphans: list[Leftover], failed: dict[str, str], *, options: Namespace
) -> dict[str, Any]:
    return {
        "root": options.root,
        "dry_run": options.dry_run,
        "planes": [{"name": name, **what._asdict()} for name, what in found.items()],
        "leftovers": [{"path": left.path, "what": left.what, "nbytes": left.nbytes} for left in orphans],
        "problems": [{"name": name, "problem": problem} for name, problem in failed.items()],
    }


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
