"""Real signals at random moments: a cross check of the sweeps, which choose the moment."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time

import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.processes import run_in_child


class Storm(BaseException):
    """What Ctrl-C raises, under a name that nobody else raises."""


def _call(plane: shmplane.Plane, number: int) -> None:
    name, value = f"n{number % 5}", bytes([number % 256]) * (number % 3 * 40_000 + 1)
    plane[name] = value
    view = plane[name]
    assert bytes(view) == value
    with plane.create(name, (70_000,), "u1") as builder:
        builder.array[:] = 7
    plane.put(None, value, linger=0.0)
    del view
    plane.rename(name, "other")
    del plane["other"]
    if number % 8 == 0:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def _storm(root: str, seconds: float) -> tuple[int, int]:
    """Calls, interrupted after 20 to 2,000 microseconds each; how many, and how many interrupts."""
    sys.unraisablehook = lambda *_: None
    chance = random.Random(1)
    plane = shmplane.Plane("plane", root=root, capacity=16 << 20, max_blocks=128, max_processes=8)

    _call(plane, 8)  # undisturbed: NumPy cannot be imported again when its import was interrupted

    armed = [False]

    def raise_storm(signum: int, frame: object) -> None:
        # Once each time that the timer is set, and not outside of the try below: a late one would leave its except.
        if armed[0]:
            armed[0] = False
            raise Storm

    signal.signal(signal.SIGALRM, raise_storm)
    calls, interrupts, pid = 0, 0, os.getpid()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        calls += 1
        try:
            try:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(20e-6, 2e-3))
                _call(plane, calls)
            finally:
                armed[0] = False
        except Storm:
            interrupts += 1
        except shmplane.BlockNotFound:
            pass  # a call before this one was interrupted
        finally:
            if os.getpid() != pid:
                os._exit(0)  # a child, interrupted at its start
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:  # children whose wait was interrupted
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    for name in plane:
        del plane[name]
    gc.collect()
    for _ in range(3):
        plane.gc()
    assert not faults_of(plane)
    stats = plane.stats()
    assert (stats.blocks, stats.leases, stats.processes) == (0, 0, 1)
    plane.destroy()
    return calls, interrupts


@pytest.mark.usefixtures("plane_root")
def test_a_storm_of_interrupts_leaves_nothing() -> None:
    calls, interrupts = run_in_child(_storm, os.environ["SHMPLANE_ROOT"], 3.0)

    assert calls > 100
    assert interrupts > 20
