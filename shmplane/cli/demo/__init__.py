"""``shmplane demo``: the main job, on real data, with a killed worker in the middle.

``story`` tells it; ``data`` reads the input, ``questions`` says what is computed, ``workers`` are the processes that
do it, ``crash`` kills one of them, ``change`` edits and appends, ``report`` shows the results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exits import NOT_FOUND, Failed

if TYPE_CHECKING:
    from argparse import Namespace

    from ..output import Output

__all__ = ["demo"]


def demo(options: Namespace, out: Output) -> int:
    """Tell the story; the exit code says whether everything held that it promises."""
    try:
        from .story import tell
    except ModuleNotFoundError as error:
        needed = (error.name or "").partition(".")[0]
        if needed not in {"psutil", "rich"}:
            raise
        raise Failed(NOT_FOUND, f"the demo needs {needed}: pip install 'shmplane[demo]'") from error
    return tell(options, out)
