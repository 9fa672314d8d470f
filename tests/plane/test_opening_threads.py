"""Planes that are opened, closed and destroyed by many threads at once, with a thread switch every few bytecodes."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import shmplane
from tests.support.forked import run_forked
from tests.support.inside import header_of
from tests.support.processes import Child, run_in_child

SECONDS = 3.0
THREADS = 6
HELD = 8


def _use(root: str, rnd: random.Random) -> Any:
    """One thing that a thread may do; what it returns is held for a while."""
    name, what = f"p{rnd.randrange(2)}", rnd.random()
    if what < 0.5:
        with shmplane.Plane(name, root=root, max_blocks=256) as plane:
            plane["x"] = np.full(rnd.choice([10, 20_000]), rnd.randrange(100))
            return plane["x"]
    if what < 0.7:
        return shmplane.Plane(name, root=root, max_blocks=256).attach("x")
    if what < 0.85:
        with shmplane.Plane.temporary(root=root, capacity="1MiB", max_blocks=64, max_processes=4) as plane:
            plane["x"] = np.full(100, 1)
            return plane["x"]
    if what < 0.95:
        with shmplane.Scope() as scope:
            plane = scope.own(shmplane.Plane(name, root=root, max_blocks=256))
            assert plane.stats().processes == 1
        return None
    with shmplane.Plane(name, root=root, max_blocks=256) as plane:
        plane.destroy()
    return None


def _act(root: str, seed: int, failed: list[str]) -> None:
    rnd, held, deadline = random.Random(seed), list[Any](), time.monotonic() + SECONDS
    while time.monotonic() < deadline and not failed:
        try:
            # Destroyed by another thread while this one uses it.
            with contextlib.suppress(shmplane.ClosedError, shmplane.BlockNotFound):
                held.append(_use(root, rnd))
            if len(held) > HELD:
                value = held.pop(rnd.randrange(HELD))
                assert not isinstance(value, np.ndarray) or (value == value[0]).all()
        except BaseException:
            failed.append(traceback.format_exc())


def note_double_closes(failed: list[str]) -> None:
    """From here on, in this process: a number that is closed again may be another plane's lock the next time."""
    close = os.close

    def close_once(fd: int) -> None:
        try:
            close(fd)
        except OSError:
            failed.append(traceback.format_exc())
            raise

    os.close = close_once


def _open_at_once(root: str) -> None:
    sys.setswitchinterval(1e-6)
    failed: list[str] = []
    note_double_closes(failed)
    threads = [threading.Thread(target=_act, args=(root, seed, failed)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]
    gc.collect()
    with contextlib.ExitStack() as stack:
        for name in ("p0", "p1"):
            plane = stack.enter_context(shmplane.Plane(name, root=root, max_blocks=256))
            plane.gc()
            stats = plane.stats()
            assert (stats.leases, stats.processes) == (0, 1)
            plane.destroy()
    assert [name for _, names, files in os.walk(root) for name in (*names, *files)] == [f"shmplane-{os.geteuid()}"]


def test_threads_open_close_and_destroy_planes_at_once(plane_root: Path) -> None:
    run_forked(lambda: _open_at_once(str(plane_root)), 60)


def _open_what_was_destroyed(root: str) -> None:
    failed: list[str] = []
    note_double_closes(failed)
    with contextlib.suppress(shmplane.PlaneNotFound):
        shmplane.Plane("p", root=root, create=False)
    assert not failed, failed[0]


def test_a_joiner_that_finds_the_plane_destroyed_closes_what_it_opened_once(plane_root: Path) -> None:
    plane = shmplane.Plane("p", max_blocks=64, max_processes=4)
    with Child(_destroy_half, str(plane_root), "p") as child:
        child.result()
    run_in_child(_open_what_was_destroyed, str(plane_root))
    plane.close()
    assert os.listdir(plane_root / f"shmplane-{os.geteuid()}") == []


def _destroy_half(root: str, name: str) -> None:
    """As if it had been killed between the word that ends the plane and the removal of its files."""
    plane = shmplane.Plane(name, root=root, create=False)
    header_of(plane).destroyed[0] = 1
