"""The layout of a plane's memory at one moment: what ``plane.layout()`` returns, read from a private copy of the tables.

Rule 1. What is shown is chosen here, and bounded: the largest segments; stale blocks first, then the largest; processes that
ended first, then those with most leases. The rest is counted. ``to_arrow()`` has all.
Rule 2. Nothing is leased. What a composed block is made of is read from its segment like a frame, and believed when the
frame's checksum still fits afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from ..manifest import (
    CELL_NBYTES,
    CREATING,
    FREE,
    LIVE,
    PLACES,
    SEGMENT_STATES,
    WARM,
    Snapshot,
    checked,
    read_blocks,
    read_published_name,
    read_summary,
    read_superseded,
)
from .picture_parts import Advice, Picture, ShownBlock, ShownSegment
from .planes import plane_checks
from .sharing import ADDED, read_shares
from .units import nbytes as show_nbytes
from .units import some

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ..manifest import Block, Process, Summary, TableCopy
    from .open import Reading

__all__ = ["Layout", "layout_of", "read_layout"]

MOST_BLOCKS = 8
MOST_PROCESSES = 5
MOST_SEGMENTS = 10


@dataclass(frozen=True, slots=True)
class Layout(Picture):
    """What is where in a plane's memory, who leases it, and what is to be seen to. Made by ``plane.layout()``.

    Its attributes are those of ``Picture``.
    """

    _tables: TableCopy = field(repr=False, compare=False)
    _all_processes: tuple[Process, ...] = field(repr=False, compare=False)

    def text(self) -> str:
        """As lines of plain text, at most 100 characters wide."""
        from .picture_text import text_of_layout

        return text_of_layout(self)

    def html(self) -> str:
        """As HTML: divs and tables with inline styles, at most 760 px wide, right in light and dark front ends."""
        from .picture_html import html_of_layout

        return html_of_layout(self)

    def to_arrow(self) -> pa.Table:
        """A row for each block that is not free: name, version, kind, state, nbytes, where it lies, who leases it.

        ``holders`` are slots, ``pids`` their processes; ``made_of`` are rows of the blocks whose bytes it shows.
        """
        from .picture_table import table_of_blocks

        return checked(self.name, table_of_blocks, self._tables, self._all_processes)

    def to_pandas(self) -> pd.DataFrame:
        """The same as a ``DataFrame``."""
        return self.to_arrow().to_pandas()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}


class _Columns:
    """Columns of the copy that all rows are looked at in; a column is one list."""

    def __init__(self, tables: TableCopy) -> None:
        blocks = tables.blocks
        self.states: list[int] = blocks.state.tolist()
        self.nbytes: list[int] = blocks.body_nbytes.tolist()
        self.names: list[int] = blocks.name.tolist()
        self.owners: list[int] = blocks.owner.tolist()
        self.cells: list[int] = blocks.cell.tolist()
        self.segments: list[int] = blocks.segment.tolist()


def read_layout(
    name: str,
    root: str,
    tables: TableCopy,
    *,
    segment_path: Callable[[int, bool], str],
    own_slot: int = -1,
    approximate: bool = False,
) -> Layout:
    """The layout that a copy of the tables shows.

    Args:
        segment_path: where a segment's file lies, by its id and whether it was spilled.
        own_slot: of the process that asks, if it has one.
        approximate: the copy was made without the lock, which somebody holds for too long.

    Cost: about 1 µs a block row.
    """
    summary = replace(read_summary(name, root, tables), approximate=approximate)
    columns = _Columns(tables)
    processes = sorted(summary.processes, key=lambda process: (not process.is_stale, -len(process.leases)))
    shown = [process for process in processes if process.alive or process.is_stale]
    blocks, more_blocks = _shown_blocks(tables, columns, summary, segment_path)
    segments, more, more_nbytes = _shown_segments(tables, columns, summary)
    return Layout(
        name=name,
        root=root,
        capacity=summary.capacity,
        used_nbytes=summary.used_nbytes,
        recycled_nbytes=summary.recycled_nbytes,
        free_nbytes=summary.free_nbytes,
        spilled_nbytes=summary.spilled_nbytes,
        segments=segments,
        more_segments=more,
        more_segments_nbytes=more_nbytes,
        blocks=blocks,
        more_blocks=more_blocks,
        processes=tuple(shown[:MOST_PROCESSES]),
        more_processes=max(0, len(shown) - MOST_PROCESSES),
        advice=tuple(_advice(summary, tables, columns, own_slot)),
        own_slot=own_slot,
        _tables=tables,
        _all_processes=summary.processes,
    )


def layout_of(plane: Reading) -> Layout:
    """The layout of a plane that is looked at from outside."""
    tables, approximate = plane.tables(with_blocks=True)
    path = plane.segment_path
    return checked(plane.name, read_layout, plane.name, plane.root, tables, segment_path=path, approximate=approximate)


def _shown_blocks(
    tables: TableCopy, columns: _Columns, summary: Summary, segment_path: Callable[[int, bool], str]
) -> tuple[tuple[ShownBlock, ...], int]:
    leased = {row for process in summary.processes for row in process.leases}
    stale = _stale_rows(columns, summary)
    # What is neither named nor leased is a piece of others, and is shown as what they are made of.
    states = zip(columns.states, columns.names, strict=True)
    rows = [row for row, (state, name) in enumerate(states) if state == LIVE and (name or row in leased)]
    being_made = [row for row, state in enumerate(columns.states) if state == CREATING]
    nbytes = columns.nbytes
    for row in being_made:  # of which no more is known than its segment
        nbytes[row] = _nbytes_of_segment(tables, columns.segments[row] - 1)
    chosen = nlargest(MOST_BLOCKS, stale, key=nbytes.__getitem__)
    if len(chosen) < MOST_BLOCKS:
        largest = nlargest(MOST_BLOCKS, [*rows, *being_made], key=nbytes.__getitem__)
        chosen = [*chosen, *(row for row in largest if row not in stale)][:MOST_BLOCKS]
    found = read_blocks(tables, chosen, summary.processes)
    shown = [_shown_block(tables, columns, found[row], row in stale, segment_path=segment_path) for row in chosen]
    return tuple(shown), len({*rows, *being_made, *stale}) - len(shown)


def _stale_rows(columns: _Columns, summary: Summary) -> set[int]:
    """Blocks that a process which ended leases, or was making."""
    dead = {process.slot + 1 for process in summary.dead}
    rows = {row for process in summary.dead for row in process.leases}
    if dead:
        rows.update(
            row
            for row, (state, owner) in enumerate(zip(columns.states, columns.owners, strict=True))
            if state == CREATING and owner in dead
        )
    return rows


def _nbytes_of_segment(tables: TableCopy, segment: int) -> int:
    return tables.segments.nbytes[segment] if 0 <= segment < tables.segments.rows else 0


def _shown_block(
    tables: TableCopy, columns: _Columns, block: Block, is_stale: bool, *, segment_path: Callable[[int, bool], str]
) -> ShownBlock:
    def label_of(row: int) -> str:
        return _label(tables, row)

    return ShownBlock(
        label=block.name if block.name is not None else _label(tables, block.row),
        version=block.version,
        kind=block.kind,
        nbytes=columns.nbytes[block.row],
        state=_state_of(block),
        holders=block.holders,
        is_stale=is_stale,
        place=block.place,
        shares=read_shares(tables, block, segment_path, label_of) if block.references else (),
    )


def _state_of(block: Block) -> str:
    if block.state != "live" or block.name is not None or not block.version:
        return block.state
    return "superseded" if block.holders else "part of a newer one"


def _label(tables: TableCopy, row: int) -> str:
    if tables.blocks.state[row] == CREATING:
        return "(being made)"
    published = read_published_name(tables, row)
    if published is not None:
        return published
    return ADDED if tables.blocks.referenced[row] else "(anonymous)"


def _shown_segments(
    tables: TableCopy, columns: _Columns, summary: Summary
) -> tuple[tuple[ShownSegment, ...], int, int]:
    segments = tables.segments
    states, sizes = segments.state.tolist(), segments.nbytes.tolist()
    rows = [row for row, state in enumerate(states) if state != FREE]
    places = segments.place.tolist()
    chosen = nlargest(MOST_SEGMENTS, rows, key=lambda row: (states[row] != WARM, not places[row], sizes[row]))
    wanted = {row + 1 for row in chosen}
    inside: dict[int, int] = {
        segment - 1: row
        for row, (state, segment, cell) in enumerate(zip(columns.states, columns.segments, columns.cells, strict=True))
        if segment in wanted and state != FREE and not cell
    }
    found = read_blocks(tables, inside.values(), summary.processes)
    shown = [_shown_segment(tables, row, found.get(inside.get(row, -1))) for row in chosen]
    return tuple(shown), len(rows) - len(shown), sum(sizes[row] for row in rows) - sum(sizes[row] for row in chosen)


def _shown_segment(tables: TableCopy, row: int, block: Block | None) -> ShownSegment:
    segments = tables.segments
    nbytes, slab = segments.nbytes[row], segments.slab[row]
    state = SEGMENT_STATES.get(segments.state[row], "unknown")
    used, what, kind = 0, "kept warm for the next block" if state == "warm" else state, ""
    if 0 < slab <= len(CELL_NBYTES):
        cell, count = CELL_NBYTES[slab - 1], segments.cells[row]
        used, kind = min(count * cell, nbytes), "slab"
        what = f"small blocks: {count:,} of {nbytes // cell:,} cells of {show_nbytes(cell)}"
    elif block is not None and state != "warm":
        made = block.state == "creating"
        used = nbytes if made else min(block.stored_nbytes + block.frame_nbytes, nbytes)
        kind = block.kind or "making"
        label = block.name if block.name is not None else _label(tables, block.row)
        version = f" version {block.version}" if block.version else ""
        what = "pages that an edit changed" if kind == "pages" else f"{label}{version}"
    place = PLACES.get(segments.place[row], "unknown")
    return ShownSegment(segments.id[row], state, nbytes, used, what, kind=kind, place=place)


def _advice(summary: Summary, tables: TableCopy, columns: _Columns, own_slot: int) -> Iterable[Advice]:
    """What ``plane.health()`` finds, without the rows of blocks; then what concerns who asks."""
    for check in plane_checks(Snapshot(summary, {}, {})):
        if check.status != "pass":
            yield Advice(check.found, check.cure)
    yield from _advice_on_old_versions(summary, tables, columns, own_slot)


def _advice_on_old_versions(summary: Summary, tables: TableCopy, columns: _Columns, own_slot: int) -> Iterable[Advice]:
    ours = next((process.leases for process in summary.processes if process.slot == own_slot), ())
    old = read_superseded(tables, ours)
    if old:
        size = show_nbytes(sum(columns.nbytes[row] for row in old))
        yield Advice(
            f"this process keeps {some(len(old), 'old version')} ({size})",
            "drop the arrays and tables over them; in IPython also what a cell showed is kept: %reset -f out",
        )
