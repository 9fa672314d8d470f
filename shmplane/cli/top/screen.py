"""What ``top`` draws: lines of at most a width, at most a height of them. Pure.

Columns give way from the right of their list of importance until the rest fits; names are cut last. What comes from shared
memory never reaches the terminal unless it is printable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from ...observe import LargeBlock, Process, Sample, Summary, count, nbytes, seconds
from ..listing import age, some_of
from ..output import printable
from .looking import Look, Overview
from .view import View

__all__ = ["draw", "order_of"]

_ROOM_FOR_CLOCK = 40
_HEAD, _MARKED, _BAD, _DIM = "bold", "reverse", "bold red", "dim"
_USED, _WARM = "green", "yellow"
#: lines below the totals from which on locks, and blocks, have a place of their own; and what share locks may take
_ROOM_FOR_LOCKS, _ROOM_FOR_BLOCKS, _MOST_LOCKS = 8, 11, 0.25
_GAP = 2


class _Column(NamedTuple):
    """Cells to the right but for ``left``; a wide table leaves out what has the largest ``rank``."""

    head: str
    rank: int
    left: bool = False


def draw(view: View, seen: Look | Overview, width: int, height: int, clock: str) -> list[Text]:
    """The whole screen."""
    body = height - 2
    lines = _planes(view, seen, width, body) if isinstance(seen, Overview) else _plane(view, seen, width, body)
    shown = [_title(view, clock, width), *lines[:body]]
    shown += [Text()] * (height - 1 - len(shown))
    return [_fit(line, width) for line in [*shown, _foot(view, width)]]


def order_of(view: View, seen: Look | Overview) -> list[str]:
    """The rows that can be marked or scrolled to, in their order: names of planes, or slots of processes."""
    if isinstance(seen, Overview):
        return [*(plane.name for plane in _sorted_planes(view, seen)), *sorted(seen.unreadable)]
    return [] if seen.sample is None else [str(process.slot) for process in _sorted_processes(view, seen.sample)]


# All planes


def _planes(view: View, seen: Overview, width: int, height: int) -> list[Text]:
    columns = (
        _Column("BLOCKS", 3), _Column("USED", 1), _Column("CAPACITY", 4), _Column("PROCS", 2), _Column("LEASES", 3),
        _Column("AGE", 5), _Column("PLANE", 0, left=True),
    )  # fmt: skip
    planes = _sorted_planes(view, seen)
    rows: list[Sequence[str]] = [
        (
            count(plane.blocks),
            nbytes(plane.used_nbytes),
            nbytes(plane.capacity),
            count(len(plane.living)),
            count(plane.leases),
            age(plane.created),
            printable(plane.name) + (" (stale)" if plane.stale else ""),
        )
        for plane in planes
    ]
    rows += [
        ("-", "-", "-", "-", "-", "-", printable(f"{name}: {seen.unreadable[name]}"))
        for name in sorted(seen.unreadable)
    ]
    if not rows:
        return [Text(), Text("no planes", _DIM)]
    first = max(0, min(view.row, len(rows) - 1) - (height - 3))
    lines = _table(columns, rows, width)
    for index, line in enumerate(lines[1:]):
        if index == min(view.row, len(rows) - 1):
            line.stylize(_MARKED)
        elif index >= len(planes):
            line.stylize(_BAD)
    return [Text(), lines[0], *lines[1 + first :]]


def _sorted_planes(view: View, seen: Overview) -> list[Summary]:
    keys: dict[str, Callable[[Summary], float | str]] = {
        "name": lambda plane: plane.name,
        "used": lambda plane: -plane.used_nbytes,
        "blocks": lambda plane: -plane.blocks,
        "leases": lambda plane: -plane.leases,
        "processes": lambda plane: -len(plane.living),
        "age": lambda plane: plane.created,
    }
    return sorted(seen.planes, key=keys[view.sorted_by], reverse=view.reverse)


# One plane


def _plane(view: View, seen: Look, width: int, height: int) -> list[Text]:
    lines = [] if seen.problem is None else _wrapped(f"{seen.name}: {printable(seen.problem)}", width, _BAD)
    if seen.sample is None:
        return lines
    if seen.problem is not None:
        lines.append(Text("what follows is what was seen last", _DIM))
    sample = seen.sample
    lines += [*_totals(sample, seen.rates, width), Text()]
    left = height - len(lines)
    locks = _locks(sample, width)[: max(2, int(left * _MOST_LOCKS))] if left >= _ROOM_FOR_LOCKS else []
    blocks = _blocks(sample.largest, width)
    processes = _processes(view, sample, width)
    # The processes first: they may take what is left but for the heads of what follows and a few blocks.
    few = min(len(blocks), max(4, left // 3)) if left >= _ROOM_FOR_BLOCKS else 0
    room = max(2, left - (len(locks) + 1 if locks else 0) - (few + 1 if few else 0))
    lines += processes[:room]
    for part in (locks, blocks):
        if part and height - len(lines) > 2:
            lines += [Text(), *part[: height - len(lines) - 1]]
    return lines


def _totals(sample: Sample, rates: dict[str, float] | None, width: int) -> list[Text]:
    plane = sample.summary
    memory = (
        f"{nbytes(plane.used_nbytes)} used",
        f"{nbytes(plane.recycled_nbytes)} recycled",
        f"{nbytes(plane.free_nbytes)} free",
        f"of {nbytes(plane.capacity)}",
    )
    facts = (
        f"blocks {count(plane.blocks)} of {count(plane.max_blocks)}",
        f"processes {count(len(plane.living))}",
        f"leases {count(plane.leases)}",
        f"segments {count(plane.segments)}",
        f"spilled {nbytes(sample.spilled_nbytes)}",
        f"evictions {count(round(sample.counts['evictions']))}",
    )
    speeds = ["-"] if rates is None else [_rate(name, rate) for name, rate in rates.items()]
    lines = [_bar(plane, width), *_flowing("memory", memory, width), *_flowing("", facts, width)]
    lines += _flowing("rates", speeds, width)
    if plane.stale:
        text = f"{len(plane.stale)} ended and left something: `shmplane gc {plane.name}`"
        lines += _wrapped(printable(text), width, _BAD)
    if plane.approximate:
        lines += _wrapped("approximate: somebody has held the plane's lock for over a second", width, _BAD)
    return lines


def _bar(plane: Summary, width: int) -> Text:
    room = width - 2
    whole = max(plane.capacity, 1)
    used = min(room, -(-room * max(plane.used_nbytes, 0) // whole))
    warm = min(room - used, -(-room * max(plane.recycled_nbytes, 0) // whole))
    return Text.assemble("[", ("#" * used, _USED), ("=" * warm, _WARM), ("." * (room - used - warm), _DIM), "]")


def _processes(view: View, sample: Sample, width: int) -> list[Text]:
    columns = (
        _Column("PID", 0), _Column("LEASES", 1), _Column("LEASED", 1), _Column("PERMITS", 3), _Column("SINCE", 4),
        _Column("STATE", 2, left=True),
    )  # fmt: skip
    processes = _sorted_processes(view, sample)
    rows = [
        (
            str(process.pid),
            count(len(process.leases)),
            nbytes(sample.leased_nbytes.get(process.slot, 0)),
            count(process.permits),
            age(process.joined),
            "alive" if process.alive else "ended, stale" if process.is_stale else "ended",
        )
        for process in processes
    ]
    lines = _table(columns, rows, width)
    for line, process in zip(lines[1:], processes, strict=True):
        if not process.alive:
            line.stylize(_BAD if process.is_stale else _DIM)
    return [lines[0], *lines[1 + min(view.row, max(0, len(rows) - 1)) :]]


def _sorted_processes(view: View, sample: Sample) -> list[Process]:
    """What ended and left something comes first, however they are sorted."""
    keys: dict[str, Callable[[Process], float]] = {
        "leased": lambda process: -sample.leased_nbytes.get(process.slot, 0),
        "leases": lambda process: -len(process.leases),
        "permits": lambda process: -process.permits,
        "pid": lambda process: process.pid,
        "age": lambda process: process.joined,
    }
    found = sorted(sample.summary.processes, key=keys[view.sorted_by], reverse=view.reverse)
    return sorted(found, key=lambda process: not process.is_stale)


def _locks(sample: Sample, width: int) -> list[Text]:
    """Nothing when nobody holds or waits for one."""
    uses = sample.summary.semaphores
    pids = {process.slot: process.pid for process in sample.summary.processes}
    columns = (
        _Column("HELD", 3), _Column("HOLDERS", 1, left=True), _Column("WAITING", 2), _Column("KIND", 4, left=True),
        _Column("LOCK", 0, left=True),
    )  # fmt: skip
    rows = [
        (f"{sum(use.holders.values())} of {use.permits}", some_of((str(pids.get(slot, "?")) for slot in use.holders), 2),
         count(len(use.waiting)), use.kind, printable(use.name))
        for use in sorted(uses, key=lambda use: -len(use.waiting))
    ]  # fmt: skip
    return _table(columns, rows, width) if rows else []


def _blocks(blocks: Iterable[LargeBlock], width: int) -> list[Text]:
    columns = (
        _Column("SIZE", 1), _Column("KIND", 3, left=True), _Column("VERSION", 4), _Column("LEASES", 2),
        _Column("BLOCK", 0, left=True),
    )  # fmt: skip
    rows = [
        (nbytes(block.nbytes), block.kind, count(block.version), count(block.leases),
         _label(block))
        for block in blocks
    ]  # fmt: skip
    return _table(columns, rows, width) if rows else []


def _label(block: LargeBlock) -> str:
    if block.name is None:
        return "(no name)"
    return printable(block.name) if block.is_current else f"(old) {printable(block.name)}"


# Lines


def _title(view: View, clock: str, width: int) -> Text:
    what = "shmplane top" if view.plane is None else f"shmplane top {printable(view.plane)}"
    said = f"{'paused  ' if view.paused else ''}{clock if width >= _ROOM_FOR_CLOCK else ''}"
    title = Text(what, _HEAD)
    title.truncate(max(1, width - cell_len(said) - 1), overflow="ellipsis", pad=True)
    return title.append(f" {said}", _DIM)


def _foot(view: View, width: int) -> Text:
    parts = ["q quit", f"s sort: {view.sorted_by}{' (reversed)' if view.reverse else ''}", "r reverse", "space pause"]
    parts += ["enter shows it"] if view.plane is None else ["esc all planes"] if view.chosen else []
    while len(parts) > 2 and cell_len("  ".join(parts)) > width:
        parts.pop()
    return Text("  ".join(parts), _DIM)


def _table(columns: Sequence[_Column], rows: Sequence[Sequence[str]], width: int) -> list[Text]:
    """A head and a line a row; the last column takes what is left."""
    cells = [[column.head for column in columns], *rows]
    widths = [max(cell_len(row[index]) for row in cells) for index in range(len(columns))]
    kept = _kept(columns, widths, width)
    lines = []
    for row in cells:
        line = Text()
        for index in kept:
            cell, room = Text(row[index]), widths[index]
            is_last = index == kept[-1]
            if not is_last or not columns[index].left:
                cell.align("left" if columns[index].left else "right", room)
            line.append_text(cell).append("" if is_last else " " * _GAP)
        lines.append(line)
    lines[0].stylize(_HEAD)
    return lines


def _kept(columns: Sequence[_Column], widths: Sequence[int], width: int) -> list[int]:
    """Which columns have room; the one of rank 0 may be cut down to a few letters if it is the last."""
    kept = list(range(len(columns)))
    least = [min(cells, 12) if column.rank == 0 and column.left else cells
             for column, cells in zip(columns, widths, strict=True)]  # fmt: skip
    while len(kept) > 1 and sum(least[index] for index in kept) + _GAP * (len(kept) - 1) > width:
        kept.remove(max(kept, key=lambda index: (columns[index].rank, index)))
    return kept


def _flowing(head: str, parts: Iterable[str], width: int) -> list[Text]:
    """Parts in as many lines as they need, behind a head."""
    indent, lines, line = 8, [], Text(f"{head:<8}", _DIM)
    for part in parts:
        if line.cell_len > indent and line.cell_len + _GAP + cell_len(part) > width:
            lines.append(line)
            line = Text(" " * indent)
        line.append(("" if line.cell_len <= indent else " " * _GAP) + part, "none")
    return [*lines, line]


def _wrapped(text: str, width: int, style: str) -> list[Text]:
    import textwrap

    return [Text(line, style) for line in textwrap.wrap(text, width)]


def _fit(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _rate(name: str, rate: float) -> str:
    if name == "copied":
        return f"copied {nbytes(rate)}/s"
    if name == "waited":
        return f"waiting for the lock {seconds(rate) if rate else '0 s'}/s"
    return f"{name} {f'{rate:.1f}' if rate < 9.95 else count(round(rate))}/s"
