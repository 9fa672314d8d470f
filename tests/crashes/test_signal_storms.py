"""Real signals at random moments of all kinds of calls: what their handlers raise comes out, itself, and leaves nothing.

A cross check of the sweeps, which choose the moment.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.inside import claims_in_line, watching_processes
from tests.support.processes import run_in_child
from tests.support.thrown import Thrower

NAMES = ["a", "b", "c", "d"]
OURS = (shmplane.BlockNotFound, shmplane.Conflict, shmplane.UnsupportedValue)


def _acts(plane: shmplane.Plane, dice: random.Random) -> list[Callable[[], object]]:
    name = dice.choice(NAMES)
    table = {"x": [1.0, 2.0], "y": ["one", "two"]}

    def put_and_get() -> None:
        value = bytes([dice.randrange(256)]) * dice.choice([1, 5_000, 90_000])
        plane[name] = value
        view = plane.get(name)
        assert view is None or isinstance(view, (memoryview, np.ndarray, dict))

    def edit() -> None:
        plane["array"] = np.arange(20_000.0)
        with plane.edit("array") as draft:
            draft.array[dice.randrange(20_000)] = -1.0

    def append() -> None:
        if dice.random() < 0.1 or "table" not in plane:
            plane.append("table", table)
        plane.get("table")

    def build() -> None:
        with plane.create(name, (70_000,), "u1") as builder:
            builder.array[:] = 7

    def take_turns() -> None:
        with plane.lock("gpu"), plane.semaphore("slots", 3):
            pass
        lock = plane.lock("gpu")
        if lock.try_acquire():
            lock.release()

    def wait() -> None:
        try:
            plane.wait("never", timeout=0.0005)
        except TimeoutError as error:
            if getattr(error, "was_thrown", False):
                raise

    def read() -> None:
        with plane.attach(name) as block:
            bytes(block.buffer())
        list(plane), plane.blocks(), plane.stats()
        plane["json"] = {"a": [1, 2]}
        assert plane.get("json", {"a": [1, 2]}) == {"a": [1, 2]}

    def move() -> None:
        plane.rename(name, dice.choice(NAMES))
        plane.delete(dice.choice(NAMES))
        plane.put(None, b"x" * 300, linger=0.0)

    return [put_and_get, edit, append, build, take_turns, wait, read, move]


def _round(thrower: Thrower, act: Callable[[], object], seconds: float) -> BaseException | None:
    """Do it with a signal on its way; what came out."""
    came: BaseException | None = None
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            act()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for _ in range(2):  # a look for signals: it may be pending
                pass
    except BaseException as error:
        came = error
    return came


def _storm(root: str, kind: str, seconds: float) -> tuple[int, int]:
    dice, swallowed = random.Random(kind), []
    sys.unraisablehook = lambda what: swallowed.append(what.object)
    plane = shmplane.Plane("plane", root=root, capacity="32MiB", max_blocks=256, max_processes=4)
    plane["kept"] = np.full(50_000, 7, "u1")
    kept = plane["kept"]
    for act in _acts(plane, dice) * 3:  # undisturbed: importlib swallows errors of its own kinds, whoever raised them
        with contextlib.suppress(*OURS):
            act()
    thrower = Thrower(kind, plane.stats)
    signal.signal(signal.SIGALRM, thrower.handler)
    rounds = came = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rounds += 1
        before = len(thrower.thrown)
        error = _round(thrower, dice.choice(_acts(plane, dice)), dice.uniform(5e-6, 1.5e-3))
        if len(thrower.thrown) > before:
            last = thrower.thrown[-1]
            assert error is last, (
                f"{error!r} came, swallowed in {swallowed}: {''.join(traceback.format_exception(last))}"
            )
            came += 1
            thrower.forget()
        elif error is not None and not isinstance(error, OURS):
            raise error
        del error
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert swallowed == []
    assert (kept == 7).all()
    _nothing_is_left(plane, kept)
    return rounds, came


def _nothing_is_left(plane: shmplane.Plane, kept: Any) -> None:
    assert plane.lock("gpu").available == 1
    assert plane.semaphore("slots", 3).available == 3
    assert watching_processes(plane) == claims_in_line(plane, "l:gpu") == 0
    for name in plane:
        del plane[name]
    gc.collect()
    for _ in range(3):
        plane.gc()
    assert not faults_of(plane)
    stats = plane.stats()
    assert (stats.blocks, stats.leases, stats.processes) == (1, 1, 1)  # the view's
    del kept
    plane.destroy()


@pytest.mark.usefixtures("plane_root")
@pytest.mark.parametrize("kind", ["deadlines", "errors", "values", "keys", "calls"])
def test_a_storm_of_signals_reaches_its_callers_and_leaves_nothing(kind: str) -> None:
    rounds, came = run_in_child(_storm, os.environ["SHMPLANE_ROOT"], kind, 1.5, deadline=120)

    assert rounds > 50
    assert came > 5


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("plane_root")
@pytest.mark.parametrize("kind", ["deadlines", "errors", "values", "keys", "calls"])
def test_a_long_storm_of_signals(kind: str) -> None:
    rounds, came = run_in_child(_storm, os.environ["SHMPLANE_ROOT"], kind, 60.0, deadline=600)
    print(f"{kind}: {came} exceptions of handlers in {rounds} calls")
    assert came > 1000
