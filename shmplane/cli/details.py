"""``shmplane info``: all about a plane, or about a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..observe import (
    Block,
    Process,
    Reading,
    Snapshot,
    count,
    describe_block,
    nbytes,
    reading,
    reclaimable,
    some,
)
from .exits import OK
from .listing import age, block_fields, plane_fields, sorted_blocks, timestamp, warn_about
from .output import clip, printable

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["info"]

_MOST_SHOWN = 10


def info(options: Namespace, out: Output) -> int:
    with reading(options.plane, options.root) as plane:
        if options.block is not None:
            return _block(plane, options, out)
        snapshot = plane.snapshot()
        manifest = plane.manifest
        words = {"format": manifest.header.format[0], "fingerprint": f"{manifest.header.fingerprint[0]:#018x}"}
    if options.json:
        out.json(
            root=options.root,
            plane=plane_fields(snapshot.summary)
            | words
            | {
                "recycle": snapshot.summary.recycle,
                "max_blocks": snapshot.summary.max_blocks,
                "max_processes": snapshot.summary.max_processes,
                "segments": len(snapshot.segments),
            },
            processes=[_process_fields(process, snapshot) for process in snapshot.processes],
            blocks=[block_fields(block, snapshot) for block in sorted_blocks(snapshot)],
        )
    else:
        _show_plane(snapshot, words, out)
    return OK


def _show_plane(snapshot: Snapshot, words: dict[str, Any], out: Output) -> None:
    plane = snapshot.summary
    what = "temporary plane" if plane.temporary else "plane"
    _facts(
        out,
        {
            what: f"{plane.name} in {plane.root}",
            "created": f"{timestamp(plane.created)}, {age(plane.created)} ago",
            "memory": f"{nbytes(plane.used_nbytes)} used + {nbytes(plane.recycled_nbytes)} recycled + "
            f"{nbytes(plane.free_nbytes)} free = {nbytes(plane.capacity)}",
            "blocks": f"{count(plane.blocks)} of {count(plane.max_blocks)}, {count(plane.names)} with a name, "
            f"in {some(len(snapshot.segments), 'segment')}",
            "processes": f"{count(len(plane.processes))} of {count(plane.max_processes)}",
            "format": f"{words['format']}, fingerprint {words['fingerprint']}",
        },
    )
    if plane.processes:
        out.line()
        out.table(
            ("SLOT", "PID", "LEASES", "LEASED", "WRITING", "SINCE", "STATE"),
            [_process_row(process, snapshot) for process in plane.processes],
            left="STATE",
        )
    largest = sorted(snapshot.blocks.values(), key=lambda block: -block.nbytes)
    named = [block for block in largest if block.name is not None]
    if named:
        out.line()
        out.line("largest blocks:" if len(named) > _MOST_SHOWN else "blocks:")
        for block in named[:_MOST_SHOWN]:
            name = printable(block.name or "")
            out.line(clip(f"  {nbytes(block.nbytes):>9}  {block.kind:7}  version {block.version}  {name}", out.width))
    stale = reclaimable(snapshot)
    if stale:
        out.message(
            f"to reclaim: {some(len(stale.processes), 'killed process')}, {some(stale.leases, 'lease')}, "
            f"{some(len(stale.blocks), 'block')}, {nbytes(stale.nbytes)}; `shmplane gc {plane.name}` does"
        )
    warn_about(plane, out)


def _process_row(process: Process, snapshot: Snapshot) -> tuple[str, ...]:
    fields = _process_fields(process, snapshot)
    return (
        count(process.slot),
        str(process.pid),
        count(fields["leases"]),
        nbytes(fields["leased_nbytes"]),
        count(fields["creating"]),
        age(process.joined),
        "alive" if process.alive else "killed",
    )


def _process_fields(process: Process, snapshot: Snapshot) -> dict[str, Any]:
    leased = [snapshot.blocks[row].nbytes for row in process.leases if row in snapshot.blocks]
    return {
        "slot": process.slot,
        "pid": process.pid,
        "joined": timestamp(process.joined),
        "alive": process.alive,
        "leases": len(process.leases),
        "leased_nbytes": sum(leased),
        "creating": sum(block.owner == process.slot for block in snapshot.blocks.values()),
    }


def _block(plane: Reading, options: Namespace, out: Output) -> int:
    snapshot, block, said = describe_block(plane, options.block)
    segment = snapshot.segments[block.segment]
    holders = [process for process in snapshot.processes if process.slot in block.holders]
    columns = [] if said.schema is None else [(field.name, str(field.type)) for field in said.schema]
    dtype = None if said.dtype is None else str(said.dtype)
    if options.json:
        fields = block_fields(block, snapshot) | {
            "dtype": dtype,
            "shape": None if said.shape is None else list(said.shape),
            "schema": [{"name": name, "type": kind} for name, kind in columns] if said.schema is not None else None,
            "origin": said.origin,
            "segment": segment.id,
            "segment_nbytes": segment.nbytes,
            "offset": block.offset,
            "pids": [process.pid for process in holders],
        }
        out.json(root=options.root, plane=options.plane, block=fields)
        return OK
    where = f"segment {segment.id}, {nbytes(segment.nbytes)}"
    _facts(
        out,
        {
            "block": f"{printable(options.block)} in plane {options.plane}",
            "version": count(block.version),
            "kind": block.kind + (f" ({said.origin})" if said.origin else ""),
            "size": f"{nbytes(block.nbytes)} ({count(block.nbytes)} B)",
            "dtype": dtype,
            "shape": None if said.shape is None else " x ".join(map(count, said.shape)) or "()",
            "created": f"{timestamp(block.created)}, {age(block.created)} ago",
            "lies in": where + (f", at {count(block.offset)}, with others" if block.cell else ", alone"),
            "leases": _show_holders(block, holders),
        },
    )
    if columns:
        out.line()
        out.table(("COLUMN", "TYPE"), columns, left="COLUMN TYPE")
    return OK


def _show_holders(block: Block, holders: list[Process]) -> str:
    if not block.holders:
        return "none"
    pids = ", ".join(f"{process.pid}{'' if process.alive else ' (killed)'}" for process in holders)
    return f"{len(block.holders)}: pid {pids}"


def _facts(out: Output, facts: dict[str, str | None]) -> None:
    width = max(len(name) for name in facts)
    for name, fact in facts.items():
        if fact is not None:
            out.line(clip(f"{name.ljust(width)}  {fact}", out.width))
