"""What the compiled core does, as scenarios in a process that has used it before: so the stores are the core's.

They run without it as well, and are then what other scenarios are.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest

import shmplane
from tests.support.crashing import Names, Scenario, World
from tests.support.inside import (
    let_somebody_wait,
    let_somebody_watch,
    look_for_the_dead_later,
    nobody_drains,
    stand_in_line,
)

ONE, TWO, THREE = b"1" * 900, b"2" * 910, b"3" * 3_000
#: each has a segment for itself, which fits the other one as well; the last without the GIL
LARGE, OTHER, HUGE = b"L" * 90_000, b"O" * 88_000, b"H" * 300_000


def _use_first(world: World) -> None:
    """Both sizes are put once, so that the core knows where their slabs lie."""
    for value in (ONE, THREE):
        world.plane["kept/warming"] = value
        world.plane["kept/warming"] = value
    del world.plane["kept/warming"]
    for value in (LARGE, HUGE):  # two segments of each size are warm, and mapped here
        for _ in range(3):
            world.plane["kept/warming"], world.plane["kept/warmed"] = value, value
        world.plane.delete("kept/warming")
        world.plane.delete("kept/warmed")
    look_for_the_dead_later(world.plane)


def _begin(*names: str, then: Callable[[World], Any] = lambda world: None) -> Callable[[World], Any]:
    """In the victim: have the core know everything, hold ``names``, and do ``then``."""

    def begin(world: World) -> Any:
        _use_first(world)
        if names:
            nobody_drains(pytest.MonkeyPatch())  # in this process, which is killed: so all are left to the call
        held = [world.plane[name] for name in names]
        then(world)
        look_for_the_dead_later(world.plane)
        return held

    return begin


def _set(name: str, value: bytes) -> Callable[[World, Any], None]:
    return lambda world, context: world.plane.__setitem__(name, value)


def _put(name: str, value: bytes) -> Callable[[World, Any], Any]:
    """It returns a block, so there is a lease as well."""
    return lambda world, context: world.plane.put(name, value)


def _build(name: str, nbytes: int) -> Callable[[World, Any], Any]:
    """Reserved and published by the core, and written by others in between."""

    def operate(world: World, context: Any) -> None:
        with world.plane.create(name, (nbytes,), "u1") as builder:
            builder.array[:] = ord("L")

    return operate


def _delete(name: str) -> Callable[[World, Any], None]:
    return lambda world, context: world.plane.delete(name)


def _let_go_and(act: Callable[[World, Any], Any]) -> Callable[[World, Any], Any]:
    """Leases that have just ended are given back by the call that comes next."""

    def operate(world: World, context: Any) -> Any:
        context.clear()
        gc.collect()
        return act(world, context)

    return operate


def _remember_and_let_go(world: World) -> None:
    """The block is known, and nobody here leases it."""
    world.plane["target"]
    gc.collect()
    world.plane.gc()


def _get(world: World, context: Any) -> Any:
    return world.plane["target"]


def _set_many(world: World, context: Any) -> None:
    """Cells are cut from a slab, and rows are taken that nobody had."""
    for name in MANY:
        world.plane[name] = ONE


def _some(found: Names) -> bool:
    return all(MANY.get(name) == value for name, value in found.items())


MANY = {f"many/{number}": ONE for number in range(6)}


def _holding_versions(world: World) -> list[Any]:
    """More leases than a put leaves to others."""
    _use_first(world)
    nobody_drains(pytest.MonkeyPatch())  # in this process, which is killed: so all are left to the call
    held = [world.plane.put("target", ONE) for _ in range(70)]
    look_for_the_dead_later(world.plane)
    return held


def _bring_and_take(world: World) -> None:
    world.plane["new"] = TWO
    world.plane.delete("new")


def _use_permits(taken: int) -> Callable[[World], Any]:
    """In the victim: its part of a semaphore is known, and so many permits are taken."""

    def begin(world: World) -> Any:
        semaphore = world.plane.semaphore("used", PERMITS)
        for _ in range(taken + 1):
            semaphore.acquire()
        semaphore.release()
        look_for_the_dead_later(world.plane)
        return [semaphore]

    return begin


def _acquire(world: World, context: Any) -> None:
    context[0].acquire()


def _release(world: World, context: Any) -> None:
    context[0].release()


def _use_both_ways(world: World, context: Any) -> None:
    with context[0]:
        assert context[0].try_acquire()
        context[0].release()


def _hold_too(world: World) -> Any:
    """As ``_use_permits``, with a lease that is given back by whoever comes next."""
    held = world.plane["target"]
    begun = [*_use_permits(0)(world), held]
    nobody_drains(pytest.MonkeyPatch())  # in this process, which is killed
    return begun


def _let_go_and_acquire(world: World, context: Any) -> None:
    context.pop()
    gc.collect()
    context[0].acquire()


def _know(world: World) -> Any:
    """In the victim: its part is known."""
    semaphore = world.plane.semaphore("used", PERMITS)
    assert not semaphore.try_acquire()
    look_for_the_dead_later(world.plane)
    return [semaphore]


def _hold_all(world: World) -> None:
    for _ in range(PERMITS):
        world.plane.semaphore("used", PERMITS).acquire()


def _wait_in_vain(world: World, context: Any) -> None:
    with contextlib.suppress(shmplane.LockTimeout):
        context[0].acquire(0.001)


def _give_all_back(world: World, finished: bool) -> list[str]:
    for _ in range(PERMITS):
        world.plane.semaphore("used", PERMITS).release()
    return _all_permits_are_free(world, finished)


def _others_wait(world: World) -> Any:
    """In the victim, which holds all: somebody else is in line."""
    begun = _use_permits(PERMITS - 1)(world)
    assert begun[0].try_acquire()
    let_somebody_wait(world.plane, "s:used")
    look_for_the_dead_later(world.plane)
    return begun


def _waiting_too(world: World) -> Any:
    """In the victim, which holds all: another thread of it is in line."""
    begun = _use_permits(PERMITS - 1)(world)
    assert begun[0].try_acquire()
    begun.append(stand_in_line(begun[0]))
    look_for_the_dead_later(world.plane)
    return begun


def _give_and_take(world: World, context: Any) -> None:
    context[0].release()
    assert context[1]()


def _all_permits_are_free(world: World, finished: bool) -> list[str]:
    """All can be had, one more cannot."""
    semaphore = world.plane.semaphore("used", PERMITS)
    got = [semaphore.try_acquire() for _ in range(PERMITS + 1)]
    for taken in got:
        if taken:
            semaphore.release()
    return [] if got == [True] * PERMITS + [False] else [f"permits that could be had: {got}"]


PERMITS = 3


def _permits(name: str, operate: Callable[[World, Any], Any], begin: Callable[[World], Any], **more: Any) -> Scenario:
    how: dict[str, Any] = {"inspect": _all_permits_are_free} | more
    return Scenario(f"core: {name}", operate, {"target": ONE}, None, begin=begin, **how)


def _scenario(
    name: str,
    operate: Callable[[World, Any], Any],
    before: Names,
    after: Names | None,
    begin: Callable[[World], Any],
    between: Callable[[Names], bool] = lambda found: False,
) -> Scenario:
    return Scenario(f"core: {name}", operate, before, after, between, begin)


NATIVE_SCENARIOS = [
    _scenario("put over a name", _set("target", TWO), {"target": ONE}, {"target": TWO}, _begin()),
    _scenario("put another size over a name", _set("target", THREE), {"target": ONE}, {"target": THREE}, _begin()),
    _scenario("put a new name", _set("new", ONE), {}, {"new": ONE}, _begin()),
    _scenario("put a name that was deleted", _set("new", ONE), {}, {"new": ONE}, _begin(then=_bring_and_take)),
    _scenario(
        "put over a name that somebody waits for",
        _set("target", TWO),
        {"target": ONE},
        {"target": TWO},
        _begin(then=lambda world: let_somebody_watch(world.plane, "target")),
    ),
    _scenario("put many names", _set_many, {}, MANY, _begin(), _some),
    _scenario("put over what is held", _set("target", TWO), {"target": ONE}, {"target": TWO}, _begin("target")),
    _scenario("put a block over a name", _put("target", TWO), {"target": ONE}, {"target": TWO}, _begin()),
    _scenario("put a block under a new name", _put("new", ONE), {}, {"new": ONE}, _begin()),
    _scenario(
        "let go of much and put a block",
        _let_go_and(_put("target", TWO)),
        {"target": ONE},
        {"target": TWO},
        _holding_versions,
    ),
    _scenario("delete", _delete("target"), {"target": ONE}, {}, _begin()),
    _scenario("delete what is held", _delete("target"), {"target": ONE}, {}, _begin("target")),
    _scenario(
        "let go and delete",
        _let_go_and(_delete("target")),
        {"target": ONE, "other": TWO},
        {"other": TWO},
        _begin("target", "other"),
    ),
    _scenario(
        "let go of what was deleted, and delete another",
        _let_go_and(_delete("other")),
        {"target": ONE, "other": TWO},
        {},
        _begin("target", "other", then=lambda world: world.plane.delete("target")),
        lambda found: found == {"other": TWO},
    ),
    _scenario("put large over a name", _set("target", OTHER), {"target": LARGE}, {"target": OTHER}, _begin()),
    _scenario("put larger over a name", _set("target", HUGE), {"target": LARGE}, {"target": HUGE}, _begin()),
    _scenario("put large over what is small", _set("target", LARGE), {"target": ONE}, {"target": LARGE}, _begin()),
    _scenario("put small over what is large", _set("target", ONE), {"target": LARGE}, {"target": ONE}, _begin()),
    _scenario("put a new name, large", _set("new", LARGE), {}, {"new": LARGE}, _begin()),
    _scenario(
        "put large over what is held", _set("target", OTHER), {"target": LARGE}, {"target": OTHER}, _begin("target")
    ),
    _scenario("put a large block over a name", _put("target", OTHER), {"target": LARGE}, {"target": OTHER}, _begin()),
    _scenario("build a large array", _build("new", len(LARGE)), {}, {"new": LARGE}, _begin()),
    _scenario("delete what is large", _delete("target"), {"target": LARGE}, {}, _begin()),
    _scenario(
        "let go of what is large and was deleted, and put large",
        _let_go_and(_set("other", OTHER)),
        {"target": LARGE, "other": TWO},
        {"other": OTHER},
        _begin("target", then=lambda world: world.plane.delete("target")),
        lambda found: found == {"other": TWO},
    ),
    _scenario("get anew", _get, {"target": ONE}, None, _begin(then=_remember_and_let_go)),
    _scenario(
        "let go and get anew",
        _let_go_and(_get),
        {"target": ONE, "other": TWO},
        None,
        _begin("other", then=_remember_and_let_go),
    ),
    _permits("acquire a permit", _acquire, _use_permits(0)),
    _permits("acquire one more permit", _acquire, _use_permits(1)),
    _permits("release a permit", _release, _use_permits(1)),
    _permits("release one of two permits", _release, _use_permits(2)),
    _permits("acquire and release permits in turn", _use_both_ways, _use_permits(0)),
    _permits(
        "stand in line",
        _wait_in_vain,
        _know,
        arrange=_hold_all,
        inspect=_give_all_back,
    ),
    _permits("hand a permit over", _release, _others_wait),
    _permits("give a permit to another thread in line", _give_and_take, _waiting_too),
    _permits("let go and acquire a permit", _let_go_and_acquire, _hold_too),
]
