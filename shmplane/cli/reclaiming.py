"""``shmplane gc``: reclaim what ended processes held, and say what came back. Silent when nothing did.

A dry run tells it from a snapshot. Otherwise it is what ``Plane.gc`` gave back: a process that lives in the plane looks for
ended ones once a second, and what it reclaimed first is not ours to tell.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..observe import Leftover, leftovers, nbytes, parts_of, plane_names, reclaimable, snapshot_of, some
from ..system import load_late
from .all_planes import of_each
from .exits import OK, PROBLEMS

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["gc"]


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
