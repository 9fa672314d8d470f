"""Requirements of a test: skipped with the reason on a developer's machine, an error in CI."""

from __future__ import annotations

import functools
import os
import subprocess

import pytest

#: who runs the tests wants planes without the compiled core
_WITHOUT_CORE = os.environ.get("SHMPLANE_PURE", "0") not in {"", "0"}
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def require(met: bool, reason: str) -> None:
    """Skip the test unless ``met``; in CI fail, since there everything must run."""
    if met:
        return
    if IN_CI:
        pytest.fail(f"required in CI: {reason}", pytrace=False)
    pytest.skip(reason)


def is_root() -> bool:
    return os.geteuid() == 0


@functools.cache
def can_unshare_pids() -> bool:
    """Whether this machine lets us make PID namespaces."""
    try:
        made = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return made.returncode == 0


@functools.cache
def can_mount_tmpfs() -> bool:
    """Whether this machine lets us mount in a namespace of our own."""
    try:
        made = subprocess.run(
            ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return made.returncode == 0


def require_lock(kind: str) -> None:
    """Planes can be made with that kind of lock."""
    if kind == "word":
        require_core()


def require_core() -> None:
    """The compiled core has been built from the source that lies here: `python shmplane/core/build_hook.py`."""
    from shmplane.core import why_not

    if _WITHOUT_CORE:
        pytest.skip("planes without the compiled core were asked for by SHMPLANE_PURE")
    why = why_not()
    require(why is None, f"the compiled core: {why}")
