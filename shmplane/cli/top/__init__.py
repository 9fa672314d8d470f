"""``shmplane top``: planes, or one of them, live.

``view`` is what the user has chosen, and what a key does to it; ``screen`` draws a view, both pure; ``terminal`` has the
keys and the terminal's modes; ``loop`` looks, draws and waits, again and again.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..exits import BUSY, NOT_FOUND, Failed

if TYPE_CHECKING:
    from argparse import Namespace

    from ..output import Output

__all__ = ["top"]


def top(options: Namespace, _: Output) -> int:
    """Show it until the user quits."""
    if not _is_terminal():
        raise Failed(BUSY, "top draws on a terminal, and this is none; for programs and pipes: `shmplane ls --json`")
    try:
        from .loop import show
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise Failed(NOT_FOUND, "top draws with rich: pip install 'shmplane[top]'") from error
    return show(options.plane, options.root, options.seconds)


def _is_terminal() -> bool:
    streams = (sys.stdin, sys.stdout)
    return os.environ.get("TERM") not in (None, "", "dumb") and all(
        stream is not None and not stream.closed and stream.isatty() for stream in streams
    )
