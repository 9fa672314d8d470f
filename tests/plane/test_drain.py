"""What is garbage is given back by a thread that sleeps until it is wanted, and no signal's exception is lost by it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import shmplane
from tests.support.forked import run_forked
from tests.support.inside import attachment_of, leases_taken, references_with_callbacks
from tests.support.lines import until


def test_what_is_garbage_is_noticed_by_c_code_alone(plane: shmplane.Plane) -> None:
    """Python code in the callback of a weak reference would swallow what a signal handler raises in it."""
    plane["x"] = 1
    block = plane.attach("x")
    builder = plane.create("y", (100_000,), "u1")
    known = references_with_callbacks(plane)
    assert len(known) == 5
    assert all(isinstance(one.__callback__, types.BuiltinMethodType) for one in known)
    builder.discard()
    block.close()


def test_leases_end_in_a_process_that_does_nothing(plane: shmplane.Plane) -> None:
    plane["x"] = 1
    views = [plane.attach("x")]
    for _ in range(3):
        assert leases_taken(plane) == 1
        views.clear()
        until(lambda: not leases_taken(plane))
        views.append(plane.attach("x"))


def test_an_idle_process_with_views_sleeps(plane: shmplane.Plane) -> None:
    """Its thread waits for the bell, without looking now and then."""
    plane["x"] = bytes(100_000)
    view = plane["x"]
    attachment = attachment_of(plane)
    looked: list[float] = []

    def tidy() -> bool:
        looked.append(time.monotonic())
        return True

    attachment.tidy = tidy
    time.sleep(0.3)
    assert looked == []
    del view
    until(lambda: bool(looked))
    del attachment.tidy


def test_a_plane_object_that_is_dropped_leaves_by_itself(plane_root: Path) -> None:
    plane = shmplane.Plane("plane", root=str(plane_root))
    attachment = attachment_of(plane)
    del plane
    until(lambda: attachment.ended is not None)
    shmplane.Plane("plane", root=str(plane_root)).destroy()


def test_leases_end_in_a_forked_child_that_does_nothing(plane: shmplane.Plane) -> None:
    plane["x"] = bytes(100_000)
    views = [plane["x"]]

    def act() -> None:
        assert leases_taken(plane) == 1
        views.clear()
        until(lambda: not leases_taken(plane))

    for _ in range(3):
        run_forked(act)
        assert attachment_of(plane).timer.running
    views.clear()
    until(lambda: not leases_taken(plane))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python warns of threads from 3.12 on")
def test_a_fork_beside_nothing_but_the_library_warns_of_no_threads(plane_root: Path) -> None:
    text = """
import os, sys, warnings
import shmplane
warnings.simplefilter("error")
with shmplane.Plane.temporary() as plane:
    plane["x"] = "x" * 100
    for _ in range(20):
        plane["x"]
        block = plane.attach("x")
        del block
        pid = os.fork()
        if not pid:
            os._exit(0 if plane["x"] else 1)
        assert os.waitpid(pid, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", text], check=True, cwd=os.getcwd())


def test_leases_end_in_a_child_that_is_forked_just_after_the_bell_rang(plane: shmplane.Plane) -> None:
    """The thread is woken then and has not run yet: a queue in this state wakes nobody after the fork."""
    plane["x"] = bytes(100_000)

    def act() -> None:
        for _ in range(2):
            views = [plane["x"]]
            views.clear()
            until(lambda: not leases_taken(plane))

    for _ in range(5):
        until(lambda: not leases_taken(plane))
        time.sleep(0.03)
        views = [plane["x"]]
        views.clear()
        run_forked(act)


def test_a_child_that_cannot_be_woken_looks_by_itself(plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane["x"] = bytes(100_000)
    timer = attachment_of(plane).timer
    monkeypatch.setattr("shmplane.plane.process.drain._HEARING_S", 0.0)

    def act() -> None:
        for _ in range(2):
            views = [plane["x"]]
            views.clear()
            until(lambda: not leases_taken(plane))

    for _ in range(20):
        until(lambda: not leases_taken(plane))
        time.sleep(0.03)
        timer.ring(None)  # the fork comes at once
        run_forked(act)
