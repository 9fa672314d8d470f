"""``shmplane ls``: planes, or the blocks of one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..observe import Block, Snapshot, Summary, count, nbytes, plane_names, seconds, snapshot_of, some, summary_of
from .exits import OK, PROBLEMS, of_each

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["age", "block_fields", "ls", "plane_fields", "some_of", "sorted_blocks", "timestamp", "warn_about"]

#: what ``--json`` shows of a summary as it is
_PLANE_FIELDS = "temporary capacity used_nbytes recycled_nbytes free_nbytes spilled_nbytes names blocks leases dirty"


def ls(options: Namespace, out: Output) -> int:
    if options.all_users:
        from .users import run_for_all_users

        return run_for_all_users(_planes, options, out)
    return _blocks(options, out) if options.plane is not None else _planes(options, out)


def _planes(options: Namespace, out: Output) -> int:
    seen, unreadable = of_each(plane_names(options.root), lambda name: summary_of(name, options.root))
    found = list(seen.values())
    if options.json:
        problems = [{"name": name, "problem": problem} for name, problem in unreadable.items()]
        planes = sorted([*map(plane_fields, found), *problems], key=lambda fields: fields["name"])
        out.json(root=options.root, planes=planes)
    else:
        _show_planes(found, unreadable, options.root, out=out)
    return PROBLEMS if unreadable else OK


def _show_planes(found: list[Summary], unreadable: dict[str, str], root: str, *, out: Output) -> None:
    if found:
        out.table(
            ("BLOCKS", "USED", "RECYCLED", "CAPACITY", "PROCS", "LEASES", "AGE", "PLANE"),
            [
                (
                    count(plane.blocks),
                    nbytes(plane.used_nbytes),
                    nbytes(plane.recycled_nbytes),
                    nbytes(plane.capacity),
                    count(len(plane.living)),
                    count(plane.leases),
                    age(plane.created),
                    plane.name,
                )
                for plane in found
            ],
            left="PLANE",
        )
    elif not unreadable:
        out.message(f"no planes in {root}")
    for plane in found:
        warn_about(plane, out)
    for name, problem in unreadable.items():
        out.message(f"{name}: {problem}")


def warn_about(plane: Summary, out: Output) -> None:
    """What a reader of the figures must know."""
    if plane.stale:
        ended = some(len(plane.stale), "process")
        out.message(f"{plane.name}: {ended} ended and left something; `shmplane gc {plane.name}` reclaims it")
    if plane.approximate:
        out.message(f"{plane.name}: approximate, since somebody has held the plane's lock for over a second")
    elif plane.dirty:
        out.message(f"{plane.name}: a call was left unfinished, figures may be off; `shmplane gc` recovers")


def _blocks(options: Namespace, out: Output) -> int:
    snapshot = snapshot_of(options.plane, options.root)
    if options.json:
        out.json(
            root=options.root,
            plane=plane_fields(snapshot.summary),
            blocks=[block_fields(block, snapshot) for block in sorted_blocks(snapshot)],
        )
        return OK
    blocks = sorted_blocks(snapshot)
    if blocks:
        out.table(
            ("KIND", "SIZE", "VERSION", "LEASES", "AGE", "BLOCK"),
            [_row(block, snapshot) for block in blocks],
            left="KIND BLOCK",
        )
    else:
        out.message(f"no blocks in {options.plane}")
    warn_about(snapshot.summary, out)
    return OK


def _row(block: Block, snapshot: Snapshot) -> tuple[str, ...]:
    if block.state == "creating":
        return "-", nbytes(_room(block, snapshot)), "-", "-", "-", f"(being written by slot {block.owner})"
    label = block.name if block.name is not None else "(no name; leased or lingering)"
    return block.kind, nbytes(block.nbytes), count(block.version), count(len(block.holders)), age(block.created), label


def sorted_blocks(snapshot: Snapshot) -> list[Block]:
    """By name, then those without one, largest first."""
    return sorted(snapshot.blocks.values(), key=lambda block: (block.name is None, block.name or "", -block.nbytes))


def _room(block: Block, snapshot: Snapshot) -> int:
    segment = snapshot.segments.get(block.segment)
    return block.cell or (segment.nbytes if segment else 0)


def plane_fields(plane: Summary) -> dict[str, Any]:
    """A plane as ``--json`` shows it."""
    return {
        "name": plane.name,
        "created": timestamp(plane.created),
        **{field: getattr(plane, field) for field in _PLANE_FIELDS.split()},
        "processes": len(plane.processes),
        "dead_processes": len(plane.dead),
        "approximate": plane.approximate,
        "problem": None,
    }


def block_fields(block: Block, snapshot: Snapshot) -> dict[str, Any]:
    """A block as ``--json`` shows it."""
    creating = block.state == "creating"
    return {
        "name": block.name,
        "version": block.version,
        "kind": block.kind or None,
        "nbytes": _room(block, snapshot) if creating else block.nbytes,
        "state": block.state,
        "leases": len(block.holders),
        "holders": list(block.holders),
        "place": block.place,
        "owner": block.owner if creating else None,
        "created": None if creating else timestamp(block.created),
    }


def age(time_ns: int) -> str:
    return seconds(max(0.0, time.time() - time_ns / 1e9)) if time_ns else "-"


def timestamp(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def some_of(texts: Iterable[str], most: int) -> str:
    """The first ``most`` of them, and how many more there are."""
    given = list(texts)
    more = len(given) - most
    return ", ".join(given[:most]) + (f" +{more}" if more > 0 else "") or "-"
