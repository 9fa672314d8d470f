"""A layout as plain text: bars of characters, a matrix, and what is to be seen to."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .units import nbytes as show_nbytes
from .units import some

if TYPE_CHECKING:
    from .picture_parts import Picture, ShownBlock, ShownSegment
    from .sharing import Share

__all__ = ["text_of_layout"]

_WIDTH = 100
_BAR = 24
_NAME = 32
_MOST_COLUMNS = 6


def text_of_layout(layout: Picture) -> str:
    return "\n".join(line[:_WIDTH].rstrip() for line in _lines(layout))


def _lines(layout: Picture) -> Iterator[str]:
    used, warm, free = layout.used_nbytes, layout.recycled_nbytes, layout.free_nbytes
    spilled = f"; {show_nbytes(layout.spilled_nbytes)} spilled to disk" if layout.spilled_nbytes else ""
    yield f"plane {layout.name} in {layout.root}"
    yield (
        f"{show_nbytes(used)} used + {show_nbytes(warm)} recycled + {show_nbytes(free)} free "
        f"= {show_nbytes(layout.capacity)}{spilled}"
    )
    yield ""
    yield "segments (# used, . empty):"
    for segment in layout.segments:
        yield f"  {show_nbytes(segment.nbytes):>9} [{_bar(segment)}] {_printable(segment.what)}{_kind(segment)}"
    if layout.more_segments:
        yield f"  and {some(layout.more_segments, 'more segment')}, {show_nbytes(layout.more_segments_nbytes)}"
    yield ""
    yield from _matrix(layout)
    for block in layout.blocks:
        for share in block.shares:
            yield f"  {_cut(block.label)} version {block.version}: {_share(share)}"
    for advice in layout.advice:
        said = f"! {_printable(advice.what)}: {_printable(advice.cure)}"
        yield from textwrap.wrap(said, _WIDTH, subsequent_indent="  ")


def _bar(segment: ShownSegment) -> str:
    filled = round(_BAR * segment.used_nbytes / max(segment.nbytes, 1))
    return "#" * filled + "." * (_BAR - filled)


def _kind(segment: ShownSegment) -> str:
    notes = [segment.kind] if segment.kind not in ("", "slab", "pages", "making") else []
    notes += ["on disk"] if segment.place == "spill" else []
    return f" ({', '.join(notes)})" if notes else ""


def _matrix(layout: Picture) -> Iterator[str]:
    processes = layout.processes
    marks = [f"{'*' * (process.slot == layout.own_slot)}{'!' * (not process.alive)}" for process in processes]
    heads = [f"{process.pid}{mark}" for process, mark in zip(processes, marks, strict=True)]
    yield "blocks, and the processes (pid, * this one, ! ended) that lease them (x):"
    yield "  " + f"{'':>{_NAME}} {'version':>7} {'kind':<7} {'size':>9}  " + "  ".join(heads)
    for block in layout.blocks:
        cells = "  ".join(
            ("x" if process.slot in block.holders else "-").center(len(head))
            for process, head in zip(processes, heads, strict=True)
        )
        yield (
            f"  {_cut(block.label):>{_NAME}} {block.version or '':>7} {block.kind:<7} "
            f"{show_nbytes(block.nbytes):>9}  {cells}  {_note(block)}"
        )
    if layout.more_blocks or layout.more_processes:
        yield f"  and {some(layout.more_blocks, 'more block')}, {some(layout.more_processes, 'more process')}"


def _note(block: ShownBlock) -> str:
    notes = [block.state] if block.state != "live" else []
    notes += ["on disk"] if block.place == "spill" else []
    return ", ".join([*notes, *(["stale"] if block.is_stale else [])])


def _share(share: Share) -> str:
    names = ", ".join(_cut(name) for name in share.columns[:_MOST_COLUMNS])
    more = ", ..." if len(share.columns) > _MOST_COLUMNS else ""
    return f"{some(share.amount, share.unit)} from {_cut(share.source)}{f' ({names}{more})' if names else ''}"


def _cut(text: str) -> str:
    text = _printable(text)
    return text if len(text) <= _NAME else f"{text[: _NAME - 1]}…"


def _printable(text: str) -> str:
    """What a terminal would obey, as a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)
