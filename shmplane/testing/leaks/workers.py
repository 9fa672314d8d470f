"""Child processes under memray: each has a capture of its own, which is ended before the process is.

Children that start anew come here through a ``sitecustomize`` that stands first on their path; children that
``multiprocessing`` forks, through its own hook. A tracker that is not left before the process ends has reported nothing.
"""

from __future__ import annotations

import os
from multiprocessing import util
from pathlib import Path
from typing import Any

__all__ = ["follow"]

_VARIABLE = "SHMPLANE_LEAK_CAPTURES"
_STARTUP = """\
import importlib, os, sys

here = os.path.dirname(__file__)
sys.path.remove(here)
this = sys.modules.pop("sitecustomize")
try:
    importlib.import_module("sitecustomize")  # the user's own, if there is one
except ImportError:
    pass
sys.modules["sitecustomize"] = this  # where the import that runs this looks for it at its end
try:
    from shmplane.testing.leaks.workers import begin

    begin()
except ImportError:
    pass  # another Python than ours, without memray
"""


class _Workers:
    """Somebody whom the hook of ``multiprocessing`` belongs to; it is held weakly there."""


_workers = _Workers()


def follow(captures: Path, tracker: Any) -> None:
    """From here on the children of this process are tracked too, and theirs.

    Args:
        tracker: of this process.
    """
    startup = captures / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(_STARTUP)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(startup) if before is None else f"{startup}{os.pathsep}{before}"
    os.environ[_VARIABLE] = str(captures)
    _follow_forks(tracker)


def begin() -> None:
    """Track this process until it ends."""
    captures = os.environ.get(_VARIABLE)
    if captures is None:
        return
    import memray

    tracker = memray.Tracker(Path(captures) / f"worker-{os.getpid()}.bin")
    tracker.__enter__()
    util.Finalize(None, tracker.__exit__, args=(None, None, None), exitpriority=-1000)
    _follow_forks(tracker)


def _follow_forks(tracker: Any) -> None:
    """In a forked child the parent's tracker is left, and one of its own begun."""

    def begin_again(_: object) -> None:
        tracker.__exit__(None, None, None)
        begin()

    util.register_after_fork(_workers, begin_again)
