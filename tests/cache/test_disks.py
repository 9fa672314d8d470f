"""File systems that are full or read-only, mounted in a namespace of their own, so that nobody else sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shmplane import Cache, PlaneFull, PlaneSecurityError

SOURCE = """
import sys
sys.path[:0] = {path!r}
from tests.cache import test_disks
test_disks.{act}({root!r})
"""


def _in_a_namespace(act: Callable[[str], None], root: Path, mount: str) -> None:
    source = SOURCE.format(path=sys.path, act=act.__name__, root=str(root))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$2" -c "$3"', "sh", str(root), sys.executable, source],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("needs_root", "needs_mounts")
def test_on_a_full_file_system_items_make_room_or_it_is_said(tmp_path: Path) -> None:
    _in_a_namespace(on_a_full_file_system, tmp_path, 'mount -t tmpfs -o size=6m,mode=700 tmpfs "$1"')


def _fill(root: str, *, spare: int) -> None:
    found = os.statvfs(root)
    Path(root, "ballast").write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - spare)))


def on_a_full_file_system(root: str) -> None:
    with Cache(Path(root, "cache"), memory="16MiB", disk="1GiB") as cache:
        for number in range(30):
            cache[number] = np.full(100_000, number)
            assert cache[number][0] == number
        assert 2 <= len(cache) < 10
        for number in range(1500):
            cache["small", number] = b"s" * 6000
        assert cache.stats().disk.evictions > 500
        cache.clear()
        cache["old"], cache["large"] = b"o" * 3000, np.zeros(100_000)
        # Now somebody else takes all that is left.
        _fill(root, spare=0)
        with pytest.raises(PlaneFull, match="Free some room"):
            cache["new"] = np.zeros(200_000)
        assert "new" not in cache
        with pytest.raises(PlaneFull, match="Free some room"):
            cache.get_or_compute("computed", lambda: np.zeros(500_000))
        assert cache.get("computed") is None
        assert cache.get("missing") is None
        cache.clear()
        assert len(cache) == 0
        os.unlink(f"{root}/ballast")
        cache["again"] = np.ones(100_000)
        assert cache["again"].sum() == 100_000
    _fill(root, spare=4096)
    with pytest.raises(PlaneFull):
        Cache(Path(root, "another"), memory="16MiB", disk="1GiB")
    os.unlink(f"{root}/ballast")
    with Cache(Path(root, "another"), memory="16MiB", disk="1GiB") as cache:
        cache["x"] = 1


@pytest.mark.usefixtures("needs_root", "needs_mounts")
def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    _in_a_namespace(on_a_read_only_file_system, tmp_path, 'mount -t tmpfs -o size=32m,mode=700 tmpfs "$1"')


def on_a_read_only_file_system(root: str) -> None:
    with Cache(Path(root, "cache"), memory="16MiB", disk="1GiB") as cache:
        cache["x"] = 1
    Path(root, "empty").mkdir(mode=0o700)
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    for name in ("cache", "empty", "another"):
        with pytest.raises(PlaneSecurityError, match="may write"):
            Cache(Path(root, name), memory="16MiB", disk="1GiB")
    subprocess.run(["mount", "-o", "remount,rw", root], check=True)
    with Cache(Path(root, "cache"), memory="16MiB", disk="1GiB") as cache:
        assert cache["x"] == 1
