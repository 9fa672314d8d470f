"""Permits, waits and mutable arrays under death and Ctrl-C: at stores, at bytecodes, and at random.

The default run takes a sample of both; CI takes every store, ``pytest -m sweep`` all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmplane
from tests.crashes.groups import SOME_STORES
from tests.crashes.sweep import points_of
from tests.support import thrown
from tests.support.crashing import Scenario, World
from tests.support.forked import Forked
from tests.support.inside import (
    change,
    claims_in_line,
    do_without_the_core,
    header_of,
    permits_of,
    processes_in_line,
    watching_processes,
)
from tests.support.lines import Witness, until
from tests.support.processes import Child, run_in_child
from tests.support.thrown import is_thrown
from tests.support.tracing import STORES, Bytecodes, wrap_columns
from tests.support.waiting import HANG_S

PERMITS = 2
NEVER = 2**62
ZEROS = bytes(800)


# Scenarios


def _semaphore(world: World) -> Any:
    return world.plane.semaphore("used", PERMITS)


def _all_permits_are_free(world: World, finished: bool) -> list[str]:
    """Both can be had, a third cannot, and nobody stands in line."""
    semaphore = _semaphore(world)
    got = [semaphore.try_acquire() for _ in range(PERMITS + 1)]
    for taken in got:
        if taken:
            semaphore.release()
    lines = processes_in_line(world.plane, "s:used") + claims_in_line(world.plane, "s:used")
    problems = [] if got == [True] * PERMITS + [False] else [f"permits that could be had: {got}"]
    return problems + ([f"{lines} in line"] if lines else [])


def _hold_all(world: World) -> None:
    for _ in range(PERMITS):
        _semaphore(world).acquire(1)


def _give_all_back(world: World, finished: bool) -> list[str]:
    for _ in range(PERMITS):
        _semaphore(world).release()
    return _all_permits_are_free(world, finished)


def _has_nothing(semaphore: Any, world: World, held: int) -> None:
    """After an interrupted call: the process has what the call left it, and no place in the line."""
    found = PERMITS - held - semaphore.available
    if found or processes_in_line(world.plane, "s:used") or claims_in_line(world.plane, "s:used"):
        raise AssertionError(f"after an interrupt {found} permits and {claims_in_line(world.plane, 's:used')} claims")


def _acquire(world: World, semaphore: Any) -> Any:
    try:
        semaphore.acquire()
    except BaseException as error:
        if is_thrown(error):
            _has_nothing(semaphore, world, 0)
        raise


def _try_acquire(world: World, semaphore: Any) -> Any:
    try:
        semaphore.try_acquire()
    except BaseException as error:
        if is_thrown(error):
            _has_nothing(semaphore, world, 0)
        raise


def _time_out(world: World, semaphore: Any) -> Any:
    try:
        semaphore.acquire(0.001)
    except BaseException as error:
        if isinstance(error, shmplane.LockTimeout) and not is_thrown(error):
            _has_nothing(semaphore, world, PERMITS)
            return
        if is_thrown(error):
            _has_nothing(semaphore, world, PERMITS)
        raise


def _release(world: World, semaphore: Any) -> Any:
    semaphore.release()


def _acquired(world: World) -> Any:
    semaphore = _semaphore(world)
    semaphore.acquire()
    return semaphore


def _without_the_core(begin: Callable[[World], Any]) -> Callable[[World], Any]:
    """What the core does at once, in Python: also release, of which no bytecode is ours else."""

    def begin_without(world: World) -> Any:
        context = begin(world)
        do_without_the_core(world.plane)
        return context

    return begin_without


def _resize_and_back(world: World, semaphore: Any) -> None:
    semaphore.resize(PERMITS + 1)
    semaphore.resize(PERMITS)


def _set_size(world: World, finished: bool) -> list[str]:
    _semaphore(world).resize(PERMITS)
    return _all_permits_are_free(world, finished)


def _open_new(world: World, context: Any) -> None:
    for name in ("one", "two"):
        world.plane.lock(name).acquire()


def _new_ones_are_free(world: World, finished: bool) -> list[str]:
    problems = []
    for name in ("one", "two"):
        lock = world.plane.lock(name)
        if not lock.try_acquire():
            problems.append(f"lock {name} of a dead process is held")
        else:
            lock.release()
    return problems + _all_permits_are_free(world, finished)


def _wait_in_vain(world: World, context: Any) -> None:
    try:
        world.plane.wait("target", timeout=0.001)
    except TimeoutError as error:
        if is_thrown(error):
            raise


def _nobody_watches(world: World, finished: bool) -> list[str]:
    found = watching_processes(world.plane)
    return [f"{found} processes watch"] if found else []


def _others_can_load(world: World, finished: bool) -> list[str]:
    was_there = "target" in world.plane
    if bytes(world.plane.get_or_put("target", bytes, 800)) != ZEROS:
        return ["get_or_put has another value than was put"]
    if not was_there:
        del world.plane["target"]
    return []


def _load_in_task(load: Any) -> Any:
    """In a loop of its own, without what ``asyncio.run`` does with signals."""

    def operate(world: World, context: Any) -> Any:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(world.plane.get_or_put_async("target", load, 800))
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
            loop.close()
            # On a busy machine one may still be on its way out, with the value in its hands.
            for thread in threading.enumerate():
                if thread.name == "shmplane-load":
                    thread.join(5)

    return operate


async def _zeros(nbytes: int) -> bytes:
    return bytes(nbytes)


def _make_mutable(world: World, context: Any) -> Any:
    return world.plane.mutable("target", (100,), "f8")


SCENARIOS = [
    Scenario("acquire", _acquire, begin=_semaphore, inspect=_all_permits_are_free),
    Scenario("try to acquire", _try_acquire, begin=_semaphore, inspect=_all_permits_are_free),
    Scenario("acquire without the core", _acquire, begin=_without_the_core(_semaphore), inspect=_all_permits_are_free),
    Scenario(
        "try to acquire without the core",
        _try_acquire,
        begin=_without_the_core(_semaphore),
        inspect=_all_permits_are_free,
    ),
    Scenario("release", _release, begin=_without_the_core(_acquired), inspect=_all_permits_are_free),
    Scenario("wait for a permit in vain", _time_out, begin=_semaphore, arrange=_hold_all, inspect=_give_all_back),
    Scenario("resize a semaphore", _resize_and_back, begin=_semaphore, inspect=_set_size),
    Scenario("open locks", _open_new, inspect=_new_ones_are_free),
    Scenario("wait for a version in vain", _wait_in_vain, inspect=_nobody_watches),
    Scenario(
        "wait for a version",
        lambda world, context: world.plane.wait("target").close(),
        {"target": b"x"},
        inspect=_nobody_watches,
    ),
    Scenario(
        "get or put",
        lambda world, context: world.plane.get_or_put("target", bytes, 800),
        {},
        {"target": ZEROS},
        inspect=_others_can_load,
    ),
    Scenario("get or put in a task", _load_in_task(_zeros), {}, {"target": ZEROS}, inspect=_others_can_load),
    Scenario("get or put in a thread of a task", _load_in_task(bytes), {}, {"target": ZEROS}, inspect=_others_can_load),
    Scenario("make a mutable array", _make_mutable, {}, {"target": ZEROS}),
]


def run_sweeps(root: str, names: list[str], kind: str, sample: int | None) -> list[tuple[str, int, list[str]]]:
    """Points of each scenario, all or a regular sample: its name, how many, what was wrong."""
    if kind == "stores":
        wrap_columns()
    return [(one.name, *_sweep(root, one, kind, sample)) for one in SCENARIOS if one.name in names]


def _sweep(root: str, scenario: Scenario, kind: str, sample: int | None) -> tuple[int, list[str]]:
    interrupts = kind if kind in thrown.KINDS else None
    trigger = STORES if kind == "stores" else Bytecodes(interrupt=interrupts is not None)
    world = World(root)
    if sys.version_info >= (3, 12):
        gc.unfreeze()  # the library's functions are found among the objects that are not frozen
    try:
        world.run(scenario, trigger, NEVER, interrupts=interrupts)  # the first one has other things to do
        whole = world.run(scenario, trigger, NEVER, interrupts=interrupts)
        problems = [f"{scenario.name}, not disturbed: {problem}" for problem in whole.problems]
        points = points_of(whole.points, sample)
        for at in points:
            outcome = world.run(scenario, trigger, at, interrupts=interrupts)
            problems += [f"{scenario.name}, {kind} {at} of {whole.points}: {problem}" for problem in outcome.problems]
        return len(points), problems
    finally:
        world.close()


def check_sweeps(root: Path, names: list[str], kind: str, sample: int | None, *, deadline: float = 280) -> None:
    """In a process of their own, which is small, and a fork of it quick, where the runner of tests is large."""
    found = run_in_child(run_sweeps, str(root), names, kind, sample, method="spawn", deadline=deadline)
    assert [name for name, _, _ in found] == names
    for name, points, problems in found:
        print(f"{name}: {kind}, {points} points")
        assert points > 1
        assert not problems, "\n".join(problems[:5])


NAMES = [scenario.name for scenario in SCENARIOS]


@pytest.mark.parametrize("sample", [SOME_STORES, pytest.param(None, id="every", marks=pytest.mark.sweep)])
def test_death_at_any_store_gives_everything_back(plane_root: Path, sample: int | None) -> None:
    check_sweeps(plane_root, NAMES, "stores", sample)


@pytest.mark.parametrize(("kind", "sample"), [("bytecodes", 8), ("interrupts", 8), ("deadlines", 4), ("calls", 4)])
def test_death_and_what_handlers_raise_at_some_bytecodes(plane_root: Path, kind: str, sample: int) -> None:
    check_sweeps(plane_root, NAMES, kind, sample)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["bytecodes", *thrown.KINDS])
def test_death_and_what_handlers_raise_at_every_bytecode(plane_root: Path, name: str, kind: str) -> None:
    check_sweeps(plane_root, [name], kind, None, deadline=1700)


# Among others


def test_kills_at_every_store_among_others_never_let_too_many_in(plane_root: Path, tmp_path: Path) -> None:
    counted, lines = run_in_child(_victims_among_workers, str(plane_root), tmp_path, method="fork", deadline=100)
    assert counted > 10
    assert "too many" not in lines
    assert lines.count("survivor") > 100


def _victims_among_workers(root: str, directory: Path) -> tuple[int, list[str]]:
    """Victims die at the n-th store of taking and giving back in turn with two others who go on all the time."""
    wrap_columns()
    witness = Witness(directory, PERMITS)
    plane = shmplane.Plane("among", root=root, capacity="8MiB", max_processes=16)
    semaphore = plane.semaphore("used", PERMITS)
    stop = plane.mutable("stop", (), "u1")
    survivors = [Forked(functools.partial(_go_on, semaphore, witness, stop)) for _ in range(3)]
    counted, at = 0, 0
    while True:
        at += 1
        status, _ = Forked(functools.partial(_die_at, semaphore, witness, at)).end(20)
        assert status is not None, f"the victim of store {at} hung"
        if os.waitstatus_to_exitcode(status) == 0:
            break
        counted += 1
    until(lambda: witness.lines().count("survivor") > 100, seconds=HANG_S)
    stop[()] = 1
    for survivor in survivors:
        survivor.wait(20)
    del stop
    plane.gc()
    assert semaphore.available == PERMITS
    plane.destroy()
    return counted, witness.lines()


def _go_on(semaphore: Any, witness: Witness, stop: Any) -> None:
    while not stop[()]:
        with semaphore, witness.holding():
            witness.write("survivor")
            time.sleep(0.0005)


def _die_at(semaphore: Any, witness: Witness, at: int) -> None:
    STORES.arm(at)
    for _ in range(2):
        with semaphore, witness.holding():
            time.sleep(0.0005)
    STORES.disarm()


@pytest.mark.parametrize("permits", [1, 3])
def test_random_kills_never_let_too_many_in_and_lose_nothing(
    plane: shmplane.Plane, tmp_path: Path, permits: int
) -> None:
    witness, dice = Witness(tmp_path, permits), random.Random(permits)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Child(_work, plane, witness, permits, method="fork")) for _ in range(5)]
        stop = plane.mutable("stop", (), "u1")
        for _ in range(25):
            time.sleep(0.05)
            index = dice.randrange(len(workers))
            workers[index].kill()
            workers[index] = stack.enter_context(Child(_work, plane, witness, permits, method="fork"))
        until(lambda: len(witness.lines()) > 100, seconds=HANG_S)
        stop[()] = 1
        for worker in workers:
            assert worker.result() >= 0
    lines = witness.lines()
    witness.close()
    assert "too many" not in lines
    assert len(lines) > 100
    plane.gc()
    assert plane.semaphore("used", permits).available == permits


def _work(plane: Any, witness: Witness, permits: int) -> int:
    semaphore, stop, turns = plane.semaphore("used", permits), plane.mutable("stop", (), "u1"), 0
    while not stop[()]:
        semaphore.acquire(20)
        with witness.holding():
            witness.write(os.getpid())
            time.sleep(0.0005)
        semaphore.release()
        turns += 1
    return turns


def test_permits_are_right_after_a_recovery(plane: shmplane.Plane) -> None:
    """A holder, a waiter, and the lock left dirty by a third process: nobody gets or loses anything."""
    semaphore = plane.semaphore("used", PERMITS)
    semaphore.acquire()
    with Child(_hold_and_give_back, plane, method="fork") as holder:
        assert holder.next() == "holding"
        with Child(_wait_and_hold, plane, method="fork") as waiter:
            until(lambda: processes_in_line(plane, "s:used") == 1)
            with Child(_leave_the_lock_dirty, plane, method="fork") as victim:
                victim.process.join(10)
            assert semaphore.available == 0
            assert not semaphore.try_acquire()
            assert header_of(plane).dirty[0] == 0
            assert holder.next() == "gave back"
            assert waiter.result() == 0
    semaphore.release()
    assert semaphore.available == PERMITS


def _hold_and_give_back(plane: Any) -> Iterator[str]:
    with plane.semaphore("used", PERMITS):
        yield "holding"
    yield "gave back"


def _wait_and_hold(plane: Any) -> int:
    semaphore = plane.semaphore("used", PERMITS)
    with semaphore:
        found: int = semaphore.available
    return found


def _leave_the_lock_dirty(plane: Any) -> None:
    change(plane, lambda tx: os._exit(1))


def test_an_interrupted_transaction_is_audited_against_what_is_known(plane: shmplane.Plane) -> None:
    """Ctrl-C between the shared word and the count of this process: the next call makes them agree."""
    semaphore = plane.semaphore("used", PERMITS)
    semaphore.acquire()

    def take_and_be_interrupted(tx: Any) -> None:
        part = permits_of(plane)[b"s:used"]
        assert tx.coordination.try_take(part.row, 1, 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change(plane, take_and_be_interrupted)
    assert semaphore.available == 1
    semaphore.release()
    assert semaphore.available == PERMITS
