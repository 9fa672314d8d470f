"""How the demo speaks: what a step found is a field of ``--json``, and is shown by its name with rich.

A name tells the unit: ``put_nbytes`` is shown as ``put 256 MiB``, ``open_seconds`` as ``open 2.09 ms``. What rich has rendered
goes out through ``Output``, which knows closed pipes and terminals that are no UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...observe import nbytes, seconds
from ..output import Output, color_system, printable

__all__ = ["Report", "table"]

_WIDTH = 80
_SHOWN = 8
Shown = str | dict[str, Any] | RenderableType
_UNITS: dict[str, Callable[[Any], str]] = {"nbytes": nbytes, "seconds": seconds}


class Report:
    """Collects ``fields`` and, unless ``quiet``, prints; ``holds`` is False once a promise was seen broken."""

    def __init__(self, out: Output, *, quiet: bool) -> None:
        self._out, self._quiet, self._steps = out, quiet, 0
        width = min(out.width, _WIDTH)
        self._console = Console(width=width, color_system=color_system(), highlight=False, markup=False, emoji=False)
        self.fields: dict[str, Any] = {}
        self.holds: bool = True

    def title(self, text: str) -> None:
        self._print(_text(text, "bold"))

    def step(self, title: str, /, *shown: Shown, **fields: Any) -> None:
        """What happens, and below it sentences, facts by name, tables."""
        self._steps += 1
        self._print(Text("\n").append(_text(f"{self._steps}  {title}", "bold")))
        self.show(*shown, **fields)

    def show(self, *shown: Shown, **fields: Any) -> None:
        self.fields |= fields
        for each in shown:
            made = _facts(each) if isinstance(each, dict) else _text(each) if isinstance(each, str) else each
            self._print(Padding(made, (0, 0, 0, 3), expand=False))

    def promise(self, promised: str, kept: bool, /, **fields: Any) -> None:
        """Show what was promised as a fact, or as broken."""
        self.holds = self.holds and kept
        self.show(promised if kept else f"PROBLEM: not so: {promised}", **fields)

    def _print(self, shown: RenderableType) -> None:
        if not self._quiet:
            with self._console.capture() as rendered:
                self._console.print(shown)
            self._out.lines(line.rstrip() for line in rendered.get().removesuffix("\n").split("\n"))
            self._out.flush()


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Facts of several things: the first is a word, the others are figures. Of many the first are shown."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
    for index, name in enumerate(rows[0] if rows else ()):
        made.add_column(_text(_label(name)), justify="right" if index else "left", no_wrap=True)
    for row in rows[:_SHOWN]:
        made.add_row(*(_text(_told(name, value)) for name, value in row.items()))
    if len(rows) > _SHOWN:
        made.add_row(f"... and {len(rows) - _SHOWN} more")
    return made


def _facts(facts: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", width=15, no_wrap=True)
    for name, value in facts.items():
        grid.add_row(_text(_label(name) or name), _text(_told(name, value)))
    return grid


def _label(name: str) -> str:
    stem, _, unit = name.rpartition("_")
    return (stem if unit in _UNITS else name).replace("_", " ")


def _told(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_label(part)} {_told(part, of)}".lstrip() for part, of in value.items())
    if isinstance(value, list):
        return ", then ".join(_told(name, one) for one in value)
    return _UNITS.get(name.rpartition("_")[2], str)(value)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text) or " ", "bold red" if text.startswith("PROBLEM") else style, overflow="ellipsis")
