"""A layout as HTML, for notebooks.

The rules are those of ``shmplane.markup``. Colour is never the only sign: bars begin with the kind's letter, cells have a
mark, a warning has a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..markup import QUIET, bar, box, div, text, warning
from .units import nbytes as show_nbytes
from .units import some

if TYPE_CHECKING:
    from ..manifest import Process
    from .picture_parts import Picture, ShownBlock, ShownSegment
    from .sharing import Share

__all__ = ["html_of_layout"]

_WIDE = "font-size:13px;width:100%;table-layout:fixed;border-collapse:collapse;margin:0;border:0"
_LINE = "margin:6px 0 1px 0;white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
_CELL = "padding:2px 6px;border:0;border-bottom:1px solid rgba(128,128,128,0.3);overflow:hidden;text-overflow:ellipsis"
_HEAD = f"{_CELL};font-weight:bold;background:none"

#: letter and colour of each kind; of a brightness that white text is read on
_KINDS = {
    "array": ("A", "#3f73ad"),
    "table": ("T", "#2f855a"),
    "tree": ("R", "#5a62c4"),
    "records": ("L", "#7a5a8c"),
    "json": ("J", "#8457b3"),
    "bytes": ("B", "#8a6a3b"),
    "pickle": ("K", "#a0455f"),
    "mutable": ("M", "#b0561f"),
    "pages": ("P", "#2c7a86"),
    "slab": ("S", "#6b7280"),
}
_OTHER = ("?", "#6b7280")
_SOURCES = ("#3f73ad", "#b0561f", "#2f855a", "#8457b3", "#8a6a3b", "#2c7a86")
_MOST_COLUMNS = 12


def html_of_layout(layout: Picture) -> str:
    parts = [
        _head(layout),
        *(warning(advice.what, advice.cure) for advice in layout.advice),
        *(_segment(segment) for segment in layout.segments),
        _more(layout.more_segments, "more segment", f", {show_nbytes(layout.more_segments_nbytes)}"),
        _matrix(layout) if layout.blocks else div(_LINE, "no blocks"),
        _more(layout.more_blocks, "more block"),
        _more(layout.more_processes, "more process"),
        *(_shares(block) for block in layout.blocks if block.shares),
        _legend(layout),
    ]
    return box(parts)


def _head(layout: Picture) -> str:
    title = f"plane {layout.name} in {layout.root}: {show_nbytes(layout.capacity)}"
    parts = (
        ("used", layout.used_nbytes, "background-color:#3f73ad;color:#fff"),
        ("recycled", layout.recycled_nbytes, "background-color:#6b7280;color:#fff"),
        ("free", layout.free_nbytes, ""),
    )
    said = ", ".join(f"{show_nbytes(size)} {what}" for what, size, _ in parts)
    said += f"; {show_nbytes(layout.spilled_nbytes)} spilled to disk" if layout.spilled_nbytes else ""
    shown = bar((size, what if size * 8 > layout.capacity else "", style) for what, size, style in parts)
    return div(f"{_LINE};font-weight:bold", text(title)) + shown + div(QUIET, said)


def _segment(segment: ShownSegment) -> str:
    letter, colour = _KINDS.get(segment.kind, _OTHER)
    size = show_nbytes(segment.nbytes)
    share = segment.used_nbytes / max(segment.nbytes, 1)
    full = "empty" if not share else "under 1% used" if share < 0.01 else f"{share:.0%} used"
    kind = f", {segment.kind}" if segment.kind not in ("", "slab", "making") else ""
    place = " on disk" if segment.place == "spill" else ""
    line = f"{size}{place}: {text(segment.what)}{kind}, {full}"
    parts = (
        (segment.used_nbytes, letter, f"background-color:{colour};color:#fff"),
        (segment.nbytes - segment.used_nbytes, "", ""),
    )
    return div(_LINE, line) + bar(parts)


def _matrix(layout: Picture) -> str:
    heads = "".join(_process(process, process.slot == layout.own_slot) for process in layout.processes)
    head = (
        f'<th style="{_HEAD};width:34%;text-align:left">block</th><th style="{_HEAD};width:20%;text-align:left">kind</th>'
        f'<th style="{_HEAD};width:13%;text-align:right">size</th>{heads}'
    )
    rows = "".join(
        f'<tr style="background:none">{"".join(_row(block, layout.processes))}</tr>' for block in layout.blocks
    )
    return f'<table style="{_WIDE};margin-top:10px"><tr style="background:none">{head}</tr>{rows}</table>'


def _process(process: Process, is_own: bool) -> str:
    note = div("", "this one") if is_own else "" if process.alive else div("", "ended")
    border = "" if process.alive else ";border-bottom:3px solid #b0561f"
    return f'<th style="{_HEAD};text-align:center;vertical-align:bottom{border}">pid {process.pid}{note}</th>'


def _row(block: ShownBlock, processes: tuple[Process, ...]) -> Iterator[str]:
    version = f" v{block.version}" if block.version else ""
    place = "on disk" if block.place == "spill" else ""
    notes = [note for note in ("" if block.state == "live" else block.state, place, "stale" * block.is_stale) if note]
    note = f'<div style="{QUIET}">{text(", ".join(notes))}</div>' if notes else ""
    style = f"{_CELL};text-align:left;word-break:break-word"
    letter, _ = _KINDS.get(block.kind, _OTHER)
    yield f'<td style="{style}">{text(block.label)}{version}{note}</td>'
    yield f'<td style="{_CELL};text-align:left">{letter} {text(block.kind or "being made")}</td>'
    yield f'<td style="{_CELL};text-align:right;white-space:nowrap">{show_nbytes(block.nbytes)}</td>'
    for process in processes:
        leases = process.slot in block.holders
        colour = "#3f73ad" if process.alive else "#b0561f"
        mark = "&#9679;" if process.alive else "&#10005;"
        fill = f";background-color:{colour};color:#fff" if leases else ""
        yield f'<td style="{_CELL};text-align:center{fill}">{mark if leases else ""}</td>'


def _shares(block: ShownBlock) -> str:
    title = div(_LINE, f"{text(block.label)} version {block.version} is made of")
    texts = [div("margin:0 0 0 12px", _share(share, number)) for number, share in enumerate(block.shares)]
    coarse = (
        "" if block.shares[0].is_whole else div(QUIET, "a stretch with pages from several has the rarest one's number")
    )
    return title + _runs(block.shares) + "".join(texts) + coarse


def _runs(shares: tuple[Share, ...]) -> str:
    """The pages of an array in their order, each run in its source's colour and with its number."""
    if not shares or not all(share.runs for share in shares):
        return ""
    runs = []
    for position in range(len(shares[0].runs)):
        number = next(index for index, share in enumerate(shares) if share.runs[position] > 0)
        style = f"background-color:{_SOURCES[number % len(_SOURCES)]};color:#fff"
        runs.append((shares[number].runs[position], str(number + 1), style))
    # A page of a gigabyte is to be seen as well.
    least = max(1, sum(size for size, _, _ in runs) // 60)
    return bar((max(size, least), text, style) for size, text, style in runs)


def _share(share: Share, number: int) -> str:
    names = ", ".join(text(name, 30) for name in share.columns[:_MOST_COLUMNS])
    more = ", ..." if len(share.columns) > _MOST_COLUMNS else ""
    columns = f": {names}{more}" if names else ""
    return f"{number + 1}. {some(share.amount, share.unit)} from {text(share.source)}{columns}"


def _legend(layout: Picture) -> str:
    kinds = {segment.kind for segment in layout.segments} | {block.kind for block in layout.blocks}
    letters = ", ".join(
        f"{letter} {'small blocks' if kind == 'slab' else kind}"
        for kind, (letter, _) in _KINDS.items()
        if kind in kinds
    )
    marks = "&#9679; leases it, &#10005; ended while it leased it"
    return div(f"{QUIET};margin-top:6px", f"{letters}{'; ' if letters else ''}{marks}")


def _more(number: int, noun: str, rest: str = "") -> str:
    return div(QUIET, f"and {some(number, noun)}{rest}") if number else ""
