"""A root of planes for one test run, so that what lies in it can only come from its tests.

A locked file in it says that its run lives. What a killed run left is removed by the next one.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

try:
    from filelock import FileLock, Timeout
except ModuleNotFoundError as error:
    if error.name != "filelock":
        raise
    raise ModuleNotFoundError(
        "the pytest plugin of shmplane needs filelock: pip install 'shmplane[testing]'", name="filelock"
    ) from error

from ..manifest import default_root

__all__ = ["RunRoot"]

PREFIX = "shmplane-run-"


class RunRoot:
    """A directory below the root that the user has set; removed, with all that is in it, by ``remove``."""

    path: Path

    def __init__(self) -> None:
        parent = Path(default_root())
        _remove_those_of_killed_runs(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._owner = FileLock(self.path / ".owner")
        self._owner.acquire(timeout=0)

    def remove(self) -> None:
        """Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._owner.release(force=True)


def _remove_those_of_killed_runs(parent: Path) -> None:
    for root in parent.glob(f"{PREFIX}*"):
        if not (root / ".owner").exists():
            continue  # it is being made
        try:
            with FileLock(root / ".owner", timeout=0):
                shutil.rmtree(root, ignore_errors=True)
        except (Timeout, OSError):  # it lives, or is somebody else's
            continue
