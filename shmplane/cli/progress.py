"""A bar for what takes a while: on a terminal, where the library for it is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from .output import printable

__all__ = ["color_system", "progress"]


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
