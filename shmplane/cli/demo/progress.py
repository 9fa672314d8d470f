"""A progress bar on stderr: redrawn in place on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Self, TextIO

__all__ = ["Bar"]

_REDRAW_S = 0.05
_LINE_S = 2.0
_CELLS = 30


class Bar:
    """Shows how far something is; ``update`` may be called as often as one likes, from any thread."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        self._what = what[:40]
        self._stream = stream if stream is not None else sys.stderr
        self._in_place = self._stream is not None and self._stream.isatty()
        self._next = time.monotonic() + (0 if self._in_place else _LINE_S)

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next and not (self._in_place and done >= total):
            return
        self._next = now + (_REDRAW_S if self._in_place else _LINE_S)
        share = min(1.0, done / total) if total else 1.0
        if self._in_place:
            full = round(share * _CELLS)
            self._write(f"\r{self._what}  [{'#' * full}{'.' * (_CELLS - full)}] {share:4.0%}")
        else:
            self._write(f"{self._what}: {share:.0%}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._in_place:
            self._write("\r" + " " * 79 + "\r")

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        # A closed stderr is no reason to fail: what is shown here is a courtesy.
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
