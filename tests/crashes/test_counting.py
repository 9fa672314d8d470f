"""What applications count in pages, under death and what signal handlers raise: nothing is lost, and nothing counted twice.

``pytest -m sweep tests/crashes/test_counting.py`` takes every store and every bytecode; the default run a sample.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmplane
from shmplane.counting import Book, Series, key_of, pages
from tests.crashes.sweep import NEVER, points_of
from tests.support.audit import faults_of
from tests.support.processes import run_in_child
from tests.support.thrown import Thrower
from tests.support.tracing import STORES, Bytecodes, _CountingColumn, kill_this_process, wrap_columns
from tests.support.waiting import wait_for

OLD, NEW = (key_of(Series("counter", "", "counted", name, (("x", "1"),), "Help.")) for name in ("old", "new"))
STEP = 0.5


def _inc(book: Book, key: str, amount: float) -> None:
    place = book.place(key)
    with place.page.lock:
        place.page.values[place.at] += amount


def _nothing(plane: shmplane.Plane) -> Any:
    return None


def _one_series(plane: shmplane.Plane) -> Book:
    book = Book(plane, 100)
    _inc(book, OLD, STEP)
    return book


def _leave_dead(plane: shmplane.Plane) -> Book:
    """Somebody else has counted and was killed; what is left is the victim's to fold."""
    pid = os.fork()
    if pid == 0:
        _one_series(plane)
        kill_this_process()
    os.waitpid(pid, 0)
    return Book(plane, 100)


def _begin_counting(plane: shmplane.Plane, book: Any) -> Book:
    return _one_series(plane)


def _count_more(plane: shmplane.Plane, book: Book) -> Book:
    _inc(book, OLD, STEP)
    _inc(book, NEW, STEP)
    return book


def _read(plane: shmplane.Plane, book: Book) -> Book:
    book.read("counted")
    return book


Operation = Callable[[shmplane.Plane, Any], Book]
#: what is done before, what is swept, and how many steps each has counted
SCENARIOS: dict[str, tuple[Callable[[shmplane.Plane], Any], Operation, int, int]] = {
    "the first series of a process": (_nothing, _begin_counting, 0, 1),
    "a change and another series": (_one_series, _count_more, 1, 2),
    "the totals of the dead": (_leave_dead, _read, 1, 0),
}


def _total(plane: shmplane.Plane) -> float:
    state = Book(plane, 100).read("counted")
    assert state is not None
    return sum(entry.value for entry in state.values())


def _victim(plane: shmplane.Plane, name: str, trigger: Any, at: int, kind: str) -> int:
    """In a child of its own; the number of points that there were."""
    begin, operate, _, _ = SCENARIOS[name]
    book = begin(plane)
    thrower = Thrower(kind if kind not in ("stores", "bytecodes") else "interrupts", plane.stats)
    signal.signal(signal.SIGINT, thrower.handler)
    kept = None
    try:
        trigger.arm(at)  # a first point may come while it is armed, where code is watched from the kind before
        kept = operate(plane, book)
    except BaseException as error:
        trigger.disarm()
        if not thrower.knows(error):
            raise
        # It goes on: the lock is free, and what it counts now is counted.
        _inc(book or Book(plane, 100), NEW, 1000 * STEP)
        Book(plane, 100).read("counted")
    count: int = trigger.disarm()
    del kept
    return count


def _sweep(root: str, kind: str, sample: int | None) -> tuple[int, int, list[str]]:
    if kind == "stores":
        wrap_columns()
        plain = pages.words_of
        pages.words_of = lambda memory, kind: _CountingColumn(plain(memory, kind))
    trigger = STORES if kind == "stores" else Bytecodes(interrupt=kind != "bytecodes")
    problems, points, kills = [], 0, 0
    with shmplane.Plane("counted", root=root, capacity=8 << 20, max_blocks=64, max_processes=8) as plane:
        _total(plane)
        for name, (_, _, before, during) in SCENARIOS.items():
            count = _run(plane, name, trigger, NEVER, kind)[1]
            count = _run(plane, name, trigger, NEVER, kind)[1]
            assert count
            for at in points_of(count, sample):
                then = _total(plane)
                status, _ = _run(plane, name, trigger, at, kind)
                points += 1
                if os.WIFSIGNALED(status):
                    kills += 1
                elif os.waitstatus_to_exitcode(status):
                    problems.append(f"{name} {at}: the victim ended with {os.waitstatus_to_exitcode(status)}")
                steps = (_total(plane) - then) / STEP % 1000
                if not before <= steps <= before + during:
                    problems.append(f"{name}, {kind} {at} of {count}: {steps} steps were counted")
                plane.gc()
                left = plane.names()
                if left != ["counted:totals"]:
                    problems.append(f"{name}, {kind} {at} of {count}: {left} are left")
                problems += [f"{name}, {kind} {at}: {fault}" for fault in faults_of(plane)]
        plane.destroy()
    gc.collect()
    return points, kills, problems


def _run(plane: shmplane.Plane, name: str, trigger: Any, at: int, kind: str) -> tuple[int, int]:
    """The victim's status and its points."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.close(read)
            os.write(write, _victim(plane, name, trigger, at, kind).to_bytes(8, "little"))
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(write)
    status = wait_for(pid)
    count = int.from_bytes(os.read(read, 8), "little")
    os.close(read)
    assert status is not None, f"{name} {at}: the victim hung"
    plane.gc()  # the lock of the list, when it died with it
    for _ in range(2):  # once for what it left, once for what that left to be deleted
        _total(plane)
    return status, count


def _sweeps(root: str, kinds: list[str], sample: int | None) -> list[tuple[int, int, list[str]]]:
    return [_sweep(root, kind, sample) for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "sample"),
    [
        (["bytecodes", "interrupts", "stores"], 6),
        *(
            pytest.param([kind], None, marks=pytest.mark.sweep)
            for kind in ("stores", "bytecodes", "interrupts", "calls")
        ),
    ],
)
def test_what_applications_count_is_neither_lost_nor_counted_twice(
    plane_root: Path, kinds: list[str], sample: int | None
) -> None:
    swept = run_in_child(
        _sweeps, str(plane_root), kinds, sample, method="spawn", deadline=7200 if sample is None else 280
    )
    for kind, (points, kills, problems) in zip(kinds, swept, strict=True):
        print(f"{kind}: {points} points, {kills} kills")
        assert points > 10
        assert bool(kills) == (kind in ("stores", "bytecodes"))
        assert problems == []
