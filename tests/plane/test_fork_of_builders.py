"""A fork at any bytecode of writing straight into shared memory: what the child does to its arrays stays its own.

The fork is made where the bytecode stands, by the thread that writes. So it stands for a fork by another thread at that
moment, and for one by a signal handler, whose child goes on with the call.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.forked import Forked, run_forked
from tests.support.inside import nobody_looks_for_the_dead
from tests.support.processes import run_in_child
from tests.support.tracing import Bytecodes
from tests.support.waiting import wait_for

NBYTES = 70_000
OURS, THEIRS = 1, 99

Step = Callable[[Any], object]


class _Builder:
    """``plane.create``."""

    def __init__(self, plane: shmplane.Plane) -> None:
        self.made = plane.create("x", (NBYTES,), "u1")
        self.array = self.made.array
        self.publish: Callable[[], object] = self.made.publish
        self.end: Callable[[], object] = self.made.discard


class _Buffer:
    """``plane.buffer``."""

    def __init__(self, plane: shmplane.Plane) -> None:
        import numpy as np

        self.made = plane.buffer(NBYTES)
        self.array = np.frombuffer(self.made, "u1")
        self.publish = lambda: self.made.publish("x", dtype="u1", shape=(NBYTES,))
        self.end = self.made.close


KINDS: dict[str, Callable[[shmplane.Plane], Any]] = {"create": _Builder, "buffer": _Buffer}
STEPS: dict[str, Step] = {"publish": lambda writing: writing.publish(), "end": lambda writing: writing.end()}


def _fork_at_bytecodes(root: str, kind: str, step: str, every: int, first: int, goes_on: bool, is_mapped: bool) -> int:
    """Fork at every ``every``-th bytecode of a step; how many there were. The child writes to its array."""
    forks, parent, writer = 0, os.getpid(), get_ident()
    with shmplane.Plane("plane", root=root, capacity="8MiB", max_processes=8) as plane:
        plane["x"] = bytes(NBYTES)  # warm memory, so that what a block had can be had by the next one
        del plane["x"]
        plane.gc()
        if is_mapped:
            with plane.buffer(NBYTES):
                pass
        writing = KINDS[kind](plane)
        writing.array[:] = OURS

        def fork() -> None:
            nonlocal forks
            # From Python 3.12 on the bytecodes of other threads are counted as well.
            if (bytecodes.count - first) % every or os.getpid() != parent or get_ident() != writer:
                return
            forks += 1
            pid = os.fork()
            if pid:
                assert wait_for(pid) == 0
            elif not goes_on:
                writing.array[:] = THEIRS
                os._exit(0)

        bytecodes = Bytecodes(each=fork)
        bytecodes.arm(-1)
        try:
            with nobody_looks_for_the_dead():  # the forks are many, and no part of what is tried here
                STEPS[step](writing)
                bytecodes.disarm()
        except shmplane.ClosedError:
            if os.getpid() == parent:
                raise
        finally:
            if os.getpid() != parent:
                writing.array[:] = THEIRS
                with contextlib.suppress(shmplane.ShmplaneError):
                    _check_own_block(plane)
                os._exit(0)
        _check(plane, writing.array, published=step == "publish")
        plane.destroy()
    return forks


def _check_own_block(plane: shmplane.Plane) -> None:
    """What a child puts into memory that is warm is what another process gets."""
    name = f"of {os.getpid()}"
    plane[name] = b"c" * NBYTES
    with shmplane.Plane(plane.name, root=plane.root) as other:
        assert bytes(other[name]) == b"c" * NBYTES
    del plane[name]


def _check(plane: shmplane.Plane, array: Any, *, published: bool) -> None:
    if published:
        assert bytes(plane["x"]) == bytes([OURS]) * NBYTES
        array[:] = 5
        assert bytes(plane["x"]) == bytes([OURS]) * NBYTES
    else:
        assert not plane.names()
    plane["y"] = bytes(NBYTES)
    array[:] = 6
    assert bytes(plane["y"]) == bytes(NBYTES)
    plane.gc()
    plane.gc()
    assert not faults_of(plane)


@pytest.mark.parametrize("goes_on", [False, True], ids=["the child writes", "the child goes on"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_at_some_bytecodes_of_publishing_changes_no_block(
    plane_root: Path, kind: str, step: str, goes_on: bool
) -> None:
    is_mapped = goes_on == (kind == "create")
    forks = run_in_child(_fork_at_bytecodes, str(plane_root), kind, step, 33, 3, goes_on, is_mapped, deadline=200)
    assert forks > 20


@pytest.mark.sweep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_mapped", [False, True], ids=["not mapped", "mapped"])
@pytest.mark.parametrize("goes_on", [False, True], ids=["the child writes", "the child goes on"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_at_every_bytecode_of_publishing_changes_no_block(
    plane_root: Path, kind: str, step: str, goes_on: bool, is_mapped: bool
) -> None:
    forks = run_in_child(_fork_at_bytecodes, str(plane_root), kind, step, 1, 0, goes_on, is_mapped, deadline=500)
    print(f"{forks} forks at bytecodes of {kind}, {step}")
    assert forks > 400


def test_an_array_kept_from_a_builder_that_is_garbage_reaches_no_other_block(plane: shmplane.Plane) -> None:
    """Without a publish or a discard the memory is not given back while somebody can write to it."""
    plane["x"] = bytes(NBYTES)
    del plane["x"]
    plane.gc()
    array = plane.create("x", (NBYTES,), "u1").array
    gc.collect()
    plane.gc()
    plane["y"] = bytes(NBYTES)
    array[:] = THEIRS
    assert bytes(plane["y"]) == bytes(NBYTES)
    del array
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == 1
    assert not faults_of(plane)


def test_what_a_child_wrote_to_its_copy_is_there_in_its_own_child(plane: shmplane.Plane) -> None:
    builder = plane.create("built", (NBYTES,), "u1")
    array = builder.array
    array[:] = OURS

    def act() -> None:
        array[:] = THEIRS
        run_forked(lambda: _assert_all(array, THEIRS))

    Forked(act).wait()
    _assert_all(array, OURS)
    builder.discard()


def _assert_all(array: Any, value: int) -> None:
    assert set(bytes(array)) == {value}
