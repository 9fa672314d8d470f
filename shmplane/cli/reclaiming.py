"""``shmplane gc``: reclaim what ended processes held. Silent when there is nothing to reclaim.

What was reclaimed is what could be reclaimed before and cannot any more: only ended processes hold such things, so
it does not matter who was faster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import PlaneNotFound, ShmplaneError
from ..observe import Leftover, Reclaimable, leftovers, nbytes, plane_names, reclaimable, snapshot_of, some
from .exits import OK, PROBLEMS

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["gc"]


def gc(options: Namespace, out: Output) -> int:
    if options.all_users:
        from .. import plane, scopes  # noqa: F401 - before a child that may not be able to read them any more
        from .users import run_for_all_users

        return run_for_all_users(_gc, options, out)
    return _gc(options, out)


def _gc(options: Namespace, out: Output) -> int:
    names = [options.plane] if options.plane is not None else plane_names(options.root)
    orphans = leftovers(options.root)
    files = _files_of_scopes(dry_run=options.dry_run)
    found: dict[str, Reclaimable] = {}
    failed: dict[str, str] = {}
    for name in names:
        # A temporary plane that nobody lives in goes as a whole, below.
        if options.plane is None and any(left.path.endswith(f"/{name}") for left in orphans):
            continue
        with _noting(name, failed, only=options.plane is not None):
            found[name] = _reclaim(name, options.root, dry_run=options.dry_run)
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


@contextmanager
def _noting(name: str, failed: dict[str, str], *, only: bool) -> Iterator[None]:
    """A plane that cannot be read is no reason to leave the others; the only one asked for is."""
    try:
        yield
    except PlaneNotFound:
        if only:
            raise
    except (ShmplaneError, OSError, ValueError) as error:
        if only:
            raise
        failed[name] = str(error)


def _reclaim(name: str, root: str, *, dry_run: bool) -> Reclaimable:
    snapshot = snapshot_of(name, root)
    found = reclaimable(snapshot)
    if dry_run or not (found or snapshot.summary.dead or snapshot.summary.dirty or snapshot.blocks):
        return found
    from ..plane import Plane

    with Plane(name, create=False, root=root) as plane:
        plane.gc()
    return found


def _files_of_scopes(*, dry_run: bool) -> int:
    """How many temporary files and directories of ended processes were removed, or would be."""
    from ..scopes import reclaim_orphans

    try:
        return reclaim_orphans(dry_run=dry_run)
    except OSError:
        return 0


def _show(found: dict[str, Reclaimable], orphans: list[Leftover], files: int, *, dry_run: bool, out: Output) -> None:
    verb = "would reclaim" if dry_run else "reclaimed"
    for name, what in found.items():
        if what:
            processes = [some(len(what.processes), "process")] if what.processes else []
            out.line(f"{name}: {verb} {', '.join([*processes, *what.parts])}")
    for left in orphans:
        removed = "would remove" if dry_run else "removed"
        out.line(f"{os.path.basename(left.path)}: {removed} ({left.what}, {nbytes(left.nbytes)})")
    if files:
        out.line(f"{'would remove' if dry_run else 'removed'} {some(files, 'temporary file')} of ended processes")


def _fields(
    found: dict[str, Reclaimable], orphans: list[Leftover], failed: dict[str, str], *, options: Namespace
) -> dict[str, Any]:
    planes = [
        {
            "name": name,
            "processes": len(what.processes),
            "leases": what.leases,
            "permits": what.permits,
            "blocks": len(what.blocks),
            "nbytes": what.nbytes,
            "pids": [process.pid for process in what.processes],
        }
        for name, what in found.items()
    ]
    return {
        "root": options.root,
        "dry_run": options.dry_run,
        "planes": planes,
        "leftovers": [{"path": left.path, "what": left.what, "nbytes": left.nbytes} for left in orphans],
        "problems": [{"name": name, "problem": problem} for name, problem in failed.items()],
    }
