"""Where a command's data and messages go: stdout and stderr, either of which may be closed, a pipe, or no UTF-8.

A terminal gets a bar for what takes a while, where the library for it is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, TextIO

__all__ = ["Output", "SCHEMA_VERSION", "color_system", "printable", "progress", "utf_8"]

#: of every ``--json`` object; a field may come, none goes without a new number
SCHEMA_VERSION = 1
_WIDTH = 80


class Output:
    """One command's output. On a terminal lines are cut to its width; in a pipe or a file nothing is.

    Attributes:
        width: where prose is wrapped; 80 where there is no terminal.
    """

    def __init__(self) -> None:
        self.width: int = _width()
        self._is_cut = _is_terminal(sys.stdout)

    def line(self, text: str = "") -> None:
        """One line of data."""
        _write(sys.stdout, text + "\n")

    def cut(self, text: str) -> None:
        """One line of data, cut to the width of a terminal."""
        self.line(_clip(text, self.width) if self._is_cut else text)

    def lines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.line(text)

    def json(self, **fields: Any) -> None:
        """One object with a ``schema_version``."""
        import json

        self.line(json.dumps({"schema_version": SCHEMA_VERSION, **fields}, indent=2, ensure_ascii=True))

    def message(self, text: str) -> None:
        """A message for whoever sits before it; never mixed with the data. Wrapped for a terminal, else one line."""
        text = f"shmplane: {text}"
        with suppress(OSError, ValueError):
            if _is_terminal(sys.stderr):
                import textwrap

                text = textwrap.fill(text, 79, break_on_hyphens=False, break_long_words=False)
            _write(sys.stderr, text + "\n")
            self._flush(sys.stderr)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], *, left: str = "") -> None:
        """Columns, aligned to the right but for those whose heads are in ``left``; the last one gives way."""
        cells = [list(head), *([printable(cell) for cell in row] for row in rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
        flush_left = set(left.split())
        for row in cells:
            parts = [
                cell.ljust(width) if name in flush_left else cell.rjust(width)
                for cell, width, name in zip(row, widths, head, strict=True)
            ]
            self.cut("  ".join(parts).rstrip())

    def flush(self) -> None:
        """``BrokenPipeError`` when nobody reads any more."""
        self._flush(sys.stdout)

    def _flush(self, stream: TextIO | None) -> None:
        if stream is not None and not stream.closed:
            stream.flush()

    def abandon(self) -> None:
        """Drop what is still in the buffer, so that the interpreter does not trip over it at its end."""
        with suppress(OSError):
            sys.stdout.close()


def _clip(text: str, width: int) -> str:
    """At most ``width`` characters, with an ellipsis for what is missing."""
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(text: str) -> str:
    """Text from shared memory without what a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def utf_8(argument: str) -> str:
    """An argument of the command line in a locale that is not UTF-8, when its bytes are; else as it is."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None or stream.closed:
        return
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))


def _width() -> int:
    said = os.environ.get("COLUMNS", "")
    if said.isdigit() and int(said) > 0:
        return max(40, int(said))
    try:
        return max(40, os.get_terminal_size(1).columns)
    except OSError:
        return _WIDTH


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], object] | None]:
    """What is called with the bytes done and all of them, to draw a bar on stderr that goes away at the end; else None."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress
    except ImportError:
        yield None
        return
    with Progress(console=Console(stderr=True, color_system=color_system()), transient=True) as bar:
        task = bar.add_task(escape(printable(title)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def color_system() -> Literal["auto"] | None:
    """For a rich console. With NO_COLOR rich alone would still write bold and dim."""
    return None if os.environ.get("NO_COLOR") else "auto"
