"""A plane root for this test process alone.

Tests run beside other tests, other users' planes and other checkouts. Every pytest process (each xdist worker
is one) gets a directory of its own and points ``SHMPLANE_ROOT`` to it, so that what lies in it can only come
from its tests. A locked file says that the owner lives; what a killed run left is removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Final

SHARED_MEMORY: Final = Path("/dev/shm")
PREFIX: Final = "shmplane-tests-"

#: Part of every plane name of this run in the default root, so that the guard knows its own.
RUN: Final = f"t{os.getpid():x}{secrets.token_hex(3)}"

_owner: int | None = None


def make_session_root() -> Path:
    """Make this process's root and let ``SHMPLANE_ROOT`` point to it."""
    global _owner  # noqa: PLW0603 - the lock must live as long as the process
    _remove_roots_of_killed_runs()
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=SHARED_MEMORY))
    _owner = os.open(root / ".owner", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(_owner, fcntl.LOCK_EX)
    os.environ["SHMPLANE_ROOT"] = str(root)
    return root


def remove_session_root(root: Path) -> None:
    """Remove the root with whatever is left in it."""
    shutil.rmtree(root, ignore_errors=True)
    if _owner is not None:
        os.close(_owner)


def _remove_roots_of_killed_runs() -> None:
    for root in SHARED_MEMORY.glob(f"{PREFIX}*"):
        try:
            with (root / ".owner").open("rb") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)
        except OSError:  # alive, being made, or someone else's
            continue
