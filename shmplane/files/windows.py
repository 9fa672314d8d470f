"""Windows over a file that is larger than memory: one after the other, and what was left behind is given back.

Residency. While a window is looked at, the process has at most that window mapped. What lies behind is unmapped; where the
file is larger than half of the memory, or was opened as ``sequential``, it is dropped from the kernel's cache as well, so
that other data stays there. A smaller file stays cached for the next pass.

Nothing is read ahead by ``MADV_WILLNEED``: the kernel's own read-ahead takes larger pages, and a cold walk is twice as fast
(measured: 256 MB in 0.13 s and 0.26 s).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..system import DataFile, Mapping, drop_cached, drop_pages

__all__ = ["Walk", "walk"]


class Walk(NamedTuple):
    """How a file is walked through."""

    path: str
    file: DataFile
    mapping: Mapping
    window_nbytes: int
    step: int
    private: bool
    drops_cached: bool


def walk(plan: Walk, show: Callable[[int, int], memoryview]) -> Iterator[memoryview]:
    """Each window as ``show(offset, nbytes)`` gives it; the last may be shorter."""
    position = 0
    try:
        while position < plan.file.nbytes:
            end = min(position + plan.window_nbytes, plan.file.nbytes)
            window = show(position, end - position)
            yield window
            del window
            if end == plan.file.nbytes:
                break
            _leave(plan, position, position + plan.step)
            position += plan.step
    finally:
        # Also when the loop was left in the middle.
        _leave(plan, position, min(position + plan.window_nbytes, plan.file.nbytes))


def _leave(plan: Walk, start: int, end: int) -> None:
    if start >= end:
        return
    drop_pages(plan.mapping, at=start, nbytes=end - start, private=plan.private)
    if plan.drops_cached:
        drop_cached(plan.path, plan.file, at=start, nbytes=end - start)
