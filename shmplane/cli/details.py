"""``shmplane info``: all about a plane, or about a block; ``shmplane map``: its memory as bars, and who leases what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..observe import (
    Block,
    Layout,
    Process,
    Reading,
    Snapshot,
    count,
    describe_block,
    layout_of,
    nbytes,
    reading,
    reclaimable,
    some,
)
from .exits import OK
from .listing import age, block_fields, plane_fields, some_of, sorted_blocks, timestamp, warn_about
from .output import Output, printable

if TYPE_CHECKING:
    from argparse import Namespace

    from ..manifest import SemaphoreUse

__all__ = ["info", "map_plane"]

_MOST_SHOWN = 10
_MOST_NAMED = 3


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
            semaphores=[_semaphore_fields(use, snapshot) for use in snapshot.summary.semaphores],
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
            f"{nbytes(plane.free_nbytes)} free = {nbytes(plane.capacity)}"
            f"{f'; {nbytes(plane.spilled_nbytes)} spilled to disk' if plane.spilled_nbytes else ''}",
            "blocks": f"{count(plane.blocks)} of {count(plane.max_blocks)}, {count(plane.names)} with a name, "
            f"in {some(len(snapshot.segments), 'segment')}",
            "processes": f"{count(len(plane.living))} of {count(plane.max_processes)}",
            "format": f"{words['format']}, fingerprint {words['fingerprint']}",
        },
    )
    shown = [process for process in plane.processes if process.alive or process.is_stale]
    if shown:
        out.line()
        out.table(
            ("SLOT", "PID", "LEASES", "LEASED", "PERMITS", "WRITING", "SINCE", "STATE"),
            [_process_row(process, snapshot) for process in shown],
            left="STATE",
        )
    if snapshot.summary.semaphores:
        out.line()
        out.table(
            ("KIND", "HELD", "HOLDERS", "WAITING", "NAME"),
            [_semaphore_row(use, snapshot) for use in snapshot.summary.semaphores],
            left="KIND HOLDERS WAITING NAME",
        )
    largest = sorted(snapshot.blocks.values(), key=lambda block: -block.nbytes)
    named = [block for block in largest if block.name is not None]
    if named:
        out.line()
        out.line("largest blocks:" if len(named) > _MOST_SHOWN else "blocks:")
        for block in named[:_MOST_SHOWN]:
            name = printable(block.name or "")
            out.cut(f"  {nbytes(block.nbytes):>9}  {block.kind:7}  version {block.version}  {name}")
    stale = reclaimable(snapshot)
    if stale:
        out.message(f"{plane.name}: {stale}; `shmplane gc {plane.name}` reclaims that")
    else:
        warn_about(plane, out)


def _process_row(process: Process, snapshot: Snapshot) -> tuple[str, ...]:
    fields = _process_fields(process, snapshot)
    return (
        count(process.slot),
        str(process.pid),
        count(fields["leases"]),
        nbytes(fields["leased_nbytes"]),
        count(process.permits),
        count(fields["creating"]),
        age(process.joined),
        "alive" if process.alive else "ended",
    )


def _semaphore_row(use: SemaphoreUse, snapshot: Snapshot) -> tuple[str, ...]:
    fields = _semaphore_fields(use, snapshot)
    holders = [
        f"{holder['pid']}" + (f" ({holder['permits']})" if use.permits > 1 else "") for holder in fields["holders"]
    ]
    return (
        use.kind,
        f"{fields['held']} of {use.permits}",
        some_of(holders, _MOST_NAMED),
        some_of((str(waiter["pid"]) for waiter in fields["waiting"]), _MOST_NAMED),
        use.name,
    )


def _semaphore_fields(use: SemaphoreUse, snapshot: Snapshot) -> dict[str, Any]:
    """A lock or semaphore as ``--json`` shows it."""
    pids = {process.slot: process.pid for process in snapshot.processes}
    return {
        "kind": use.kind,
        "name": use.name,
        "permits": use.permits,
        "held": sum(use.holders.values()),
        "holders": [{"slot": slot, "pid": pids.get(slot), "permits": held} for slot, held in use.holders.items()],
        "waiting": [{"slot": slot, "pid": pids.get(slot)} for slot in use.waiting],
    }


def _process_fields(process: Process, snapshot: Snapshot) -> dict[str, Any]:
    leased = [snapshot.blocks[row].nbytes for row in process.leases if row in snapshot.blocks]
    return {
        "slot": process.slot,
        "pid": process.pid,
        "joined": timestamp(process.joined),
        "alive": process.alive,
        "leases": len(process.leases),
        "leased_nbytes": sum(leased),
        "permits": process.permits,
        "creating": sum(block.owner == process.slot for block in snapshot.blocks.values()),
    }


def _block(plane: Reading, options: Namespace, out: Output) -> int:
    snapshot, block, said = describe_block(plane, options.block)
    segment = snapshot.segments[block.segment]
    holders = [process for process in snapshot.processes if process.slot in block.holders]
    columns = [] if said.schema is None else [(field.name, str(field.type)) for field in said.schema]
    dtype = said.dtype_name
    if options.json:
        fields = block_fields(block, snapshot) | {
            "dtype": dtype,
            "shape": None if said.shape is None else list(said.shape),
            "schema": [{"name": name, "type": kind} for name, kind in columns] if said.schema is not None else None,
            "origin": said.origin,
            "leaves": said.leaves,
            "segment": segment.id,
            "segment_nbytes": segment.nbytes,
            "place": segment.place,
            "offset": block.offset,
            "pids": [process.pid for process in holders],
        }
        out.json(root=options.root, plane=options.plane, block=fields)
        return OK
    where = f"segment {segment.id}, {nbytes(segment.nbytes)}" + ", on disk" * segment.is_spilled
    _facts(
        out,
        {
            "block": f"{printable(options.block)} in plane {options.plane}",
            "version": count(block.version),
            "kind": block.kind + (f" ({said.origin})" if said.origin else ""),
            "size": f"{nbytes(block.nbytes)} ({count(block.nbytes)} B)",
            "dtype": dtype,
            "shape": None if said.shape is None else " x ".join(map(count, said.shape)) or "()",
            "leaves": None if said.leaves is None else count(said.leaves),
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
    pids = ", ".join(f"{process.pid}{'' if process.alive else ' (ended)'}" for process in holders)
    return f"{len(block.holders)}: pid {pids}"


def _facts(out: Output, facts: dict[str, str | None]) -> None:
    width = max(len(name) for name in facts)
    for name, fact in facts.items():
        if fact is not None:
            out.cut(f"{name.ljust(width)}  {fact}")


def map_plane(options: Namespace, out: Output) -> int:
    with reading(options.plane, options.root) as plane:
        layout = layout_of(plane)
    if options.json:
        out.json(root=options.root, plane=layout.name, **_fields(layout))
    else:
        for line in layout.text().splitlines():
            out.cut(line)
    return OK


def _fields(layout: Layout) -> dict[str, Any]:
    return {
        "capacity": layout.capacity,
        "used_nbytes": layout.used_nbytes,
        "recycled_nbytes": layout.recycled_nbytes,
        "free_nbytes": layout.free_nbytes,
        "spilled_nbytes": layout.spilled_nbytes,
        "segments": [segment._asdict() for segment in layout.segments],
        "more_segments": layout.more_segments,
        "more_segments_nbytes": layout.more_segments_nbytes,
        "blocks": [
            block._asdict() | {"shares": [share._asdict() for share in block.shares]} for block in layout.blocks
        ],
        "more_blocks": layout.more_blocks,
        "processes": [
            {"slot": process.slot, "pid": process.pid, "alive": process.alive, "leases": len(process.leases)}
            for process in layout.processes
        ],
        "more_processes": layout.more_processes,
        "advice": [advice._asdict() for advice in layout.advice],
    }
