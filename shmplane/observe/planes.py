"""What is wrong with the planes of a root: stale processes, unfinished work, full tables, foreign files, what was left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PlaneNotFound, PlaneSecurityError, ShmplaneError
from ..manifest import dead_links, directory_of, plane_names, why_left_over
from ..system import disk_of
from .checks import Check
from .open import Reading, reading
from .reclaiming import reclaimable
from .units import count, nbytes, some

if TYPE_CHECKING:
    from ..manifest import Snapshot, Summary

__all__ = ["Leftover", "check_planes", "leftovers", "plane_checks"]

_NEARLY = 0.9


def check_planes(root: str) -> Iterator[Check]:
    """Every plane of this user in a root, then what killed processes left beside them."""
    for name in plane_names(root):
        yield from _plane(name, root)
    for left in leftovers(root):
        yield Check("leftover", "warn", f"{left.path}: {left.what}, {nbytes(left.nbytes)}", "shmplane gc")


def _plane(name: str, root: str) -> Iterator[Check]:
    label = f"plane {name}"
    try:
        with reading(name, root) as plane:
            segments = _segment_files(plane.path)  # first: what is made meanwhile is no stranger
            snapshot, spill = plane.snapshot(), plane.spill
            strangers = _strangers(plane, snapshot, segments)
    except PlaneNotFound:
        return  # removed meanwhile
    except PlaneSecurityError as error:
        # Whose it is and who may write there is the fault, which its message says how to mend; the values may be well.
        yield Check(label, "fail", str(error), "Mend that first; do not remove the plane for it.")
        return
    except (ShmplaneError, OSError, ValueError) as error:
        yield Check(label, "fail", str(error), f"shmplane rm {name} --plane --force")
        return
    problems = [replace(check, name=label) for check in (*plane_checks(snapshot), *strangers) if check.status != "pass"]
    yield from problems or [Check(label, "pass", _describe(snapshot.summary))]
    if spill is not None:
        yield _spill(f"spill {name}", spill.chosen, snapshot.summary)


def _spill(label: str, directory: str, summary: Summary) -> Check:
    """The disk that a plane spills to."""
    try:
        disk = disk_of(directory)
    except OSError as error:
        return Check(label, "fail", f"{directory}: {error.strerror}", "Mount or make it again; what lay there is lost.")
    found = f"{nbytes(disk.free_nbytes)} free of {nbytes(disk.nbytes)} in {directory}, {nbytes(summary.spilled_nbytes)} spilled"
    if disk.free_nbytes < max(summary.capacity, (1 - _NEARLY) * disk.nbytes):
        return Check(label, "warn", found, "Free some of that disk, or delete blocks.")
    return Check(label, "pass", found)


def _segment_files(path: str) -> list[str]:
    return [entry for entry in os.listdir(path) if entry.startswith("s") and entry[1:].isdecimal()]


def _strangers(plane: Reading, snapshot: Snapshot, files: list[str]) -> list[Check]:
    """Files like segments that no row of the tables knows: somebody else put them there, or wrote over the tables."""
    known = {f"s{segment.id}" for segment in snapshot.segments.values()}
    paths = [path for entry in files if entry not in known and os.path.exists(path := f"{plane.path}/{entry}")]
    if not paths or snapshot.summary.approximate:
        return []
    return [
        Check(
            "files",
            "warn",
            f"{some(len(paths), 'file')} of its directory {'is' if len(paths) == 1 else 'are'} in no table: {paths[0]}",
            f"Nothing of the plane lies there: rm {paths[0]}" + (", and so on" if len(paths) > 1 else ""),
        )
    ]


def _describe(summary: Summary) -> str:
    return (
        f"{some(summary.blocks, 'block')}, {nbytes(summary.used_nbytes)} of {nbytes(summary.capacity)}, "
        f"{some(len(summary.living), 'process')}"
    )


def plane_checks(snapshot: Snapshot) -> Iterator[Check]:
    """What can be wrong in a plane, one after the other, well or not."""
    summary, name = snapshot.summary, snapshot.summary.name
    yield _lock(summary)
    yield _ended(snapshot, f"shmplane gc {name}")
    if summary.dirty and not (summary.approximate or summary.stale):
        cure = f"shmplane gc {name}"
        yield Check("unfinished", "warn", "a call was left unfinished; the next one recovers", cure)
    for what, used, most in (
        ("blocks", summary.blocks, summary.max_blocks),
        ("processes", len(summary.processes), summary.max_processes),
    ):
        cure = f"Make the plane with a larger max_{what}="
        yield _share(what, used, most, f"{count(used)} of {count(most)} {what}", cure=cure)
    found = f"{nbytes(summary.used_nbytes)} of {nbytes(summary.capacity)} in use"
    cure = "Delete blocks, or plane.resize(capacity)"
    if summary.spilled_nbytes:  # it is full by intention: others move when there is need
        yield Check("memory", "pass", f"{found}, {nbytes(summary.spilled_nbytes)} spilled to disk")
    else:
        yield _share("memory", summary.used_nbytes, summary.capacity, found, cure=cure)


def _lock(summary: Summary) -> Check:
    if summary.approximate:
        cure = "Look for a stopped process: kill -CONT, or end it."
        return Check("lock", "warn", "its lock has been held for over a second", cure)
    return Check("lock", "pass", "its lock is to be had")


def _ended(snapshot: Snapshot, cure: str) -> Check:
    if snapshot.summary.stale:
        return Check("ended processes", "warn", str(reclaimable(snapshot)), cure)
    return Check("ended processes", "pass", "nothing is left of them")


def _share(what: str, used: int, most: int, found: str, *, cure: str) -> Check:
    return Check(what, "warn", found, f"{cure}.") if used > _NEARLY * most else Check(what, "pass", found)


class Leftover(NamedTuple):
    """Something beside the user's planes that no living process needs; the next ``gc`` removes it."""

    path: str
    what: str
    nbytes: int


def leftovers(root: str) -> list[Leftover]:
    """Temporary planes that nobody lives in, planes half made or half removed, and links to what planes had that are gone."""
    try:
        entries = sorted(os.listdir(directory_of(root)))
    except FileNotFoundError:
        entries = []
    paths = [f"{directory_of(root)}/{entry}" for entry in entries]
    found = [Leftover(path, what, _allocated(path)) for path in paths if (what := why_left_over(path)) is not None]
    return [
        *found,
        *(Leftover(path, "link to a segment of a plane that is gone", _size(path)) for path in dead_links(root)),
    ]


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0  # it went away meanwhile


def _allocated(directory: str) -> int:
    """Bytes of memory behind the files of a directory."""
    nbytes = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                nbytes += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        pass  # it went away meanwhile
    return nbytes
