"""How the demo speaks: steps, facts and tables with rich, and the same as fields for ``--json``.

What rich has rendered goes out through ``Output``, which knows closed pipes and terminals that are no UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress import wrap_file
from rich.table import Table
from rich.text import Text

from ..output import printable

if TYPE_CHECKING:
    from ..output import Output

__all__ = ["Report", "beside", "reading", "table"]

_WIDTH = 80


class Report:
    """Collects ``fields`` and, unless ``quiet``, prints; ``holds`` is False once a promise was seen broken."""

    def __init__(self, out: Output, *, quiet: bool) -> None:
        self._out, self._quiet, self._steps = out, quiet, 0
        self._console = _console(width=min(out.width, _WIDTH))
        self.fields: dict[str, Any] = {}
        self.holds: bool = True

    def promise(self, kept: bool, /, **fields: Any) -> None:
        self.fields |= fields
        self.holds = self.holds and kept

    def title(self, text: str) -> None:
        self._print(_text(text, "bold"))

    def step(self, text: str) -> None:
        self._steps += 1
        self._print(Text("\n").append(_text(f"{self._steps}  {text}", "bold")))

    def show(self, *shown: str | dict[str, str] | RenderableType, indent: int = 3) -> None:
        """Below the step: sentences, facts by name, tables."""
        for each in shown:
            made = _facts(each) if isinstance(each, dict) else _text(each) if isinstance(each, str) else each
            self._print(Padding(made, (0, 0, 0, indent), expand=False))

    def _print(self, shown: RenderableType) -> None:
        if not self._quiet:
            with self._console.capture() as rendered:
                self._console.print(shown)
            self._out.lines(line.rstrip() for line in rendered.get().removesuffix("\n").split("\n"))
            self._out.flush()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> Table:
    """The first column is of words, the others are of figures."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), width=width, header_style="underline")
    for head in heads:
        is_first = not made.columns
        made.add_column(
            _text(head), justify="left" if is_first else "right", ratio=(width and int(is_first)) or None, no_wrap=True
        )
    for row in rows:
        made.add_row(*map(_text, row))
    return made


def beside(tables: Sequence[Table]) -> RenderableType:
    """As many in a line as there is room for."""
    return Columns(tables, padding=(0, 2))


def _facts(facts: dict[str, str]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", width=15, no_wrap=True)
    for name, text in facts.items():
        grid.add_row(_text(name), _text(text))
    return grid


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text) or " ", "bold red" if text.startswith("PROBLEM") else style, overflow="ellipsis")


def reading(file: BinaryIO, nbytes: int, what: str) -> AbstractContextManager[BinaryIO]:
    """The file, under a bar on stderr that goes away at the end; silent where that is no terminal."""
    console, text = _console(stderr=True), f"reading {escape(printable(what))}"
    return wrap_file(file, nbytes, description=text, console=console, transient=True, disable=not console.is_terminal)


def _console(**options: Any) -> Console:
    # With NO_COLOR rich alone would still write bold and dim.
    if os.environ.get("NO_COLOR"):
        options["color_system"] = None
    return Console(highlight=False, markup=False, emoji=False, **options)
