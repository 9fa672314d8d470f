"""Rates, as scenarios: never more is granted than the terms allow, nobody dead stands in line, terms change as a whole.

What is granted to a process that dies, or is interrupted, right then may count as used; a period is far longer than a sweep.
"""

from __future__ import annotations

from typing import Any

from tests.support.crashing import Scenario, World
from tests.support.inside import as_good_as_new, processes_in_line, rate_waiters
from tests.support.thrown import is_thrown

SLOW_S = 36_000.0
OLD, NEW = (10.0, SLOW_S, 10.0), (20.0, 2 * SLOW_S, 20.0)
NAME = "used"


def _rate(world: World) -> Any:
    return world.plane.rate(NAME, *OLD)


def _begin_anew(world: World) -> None:
    world.scratch["rate"] = _rate(world)  # kept, so that the terms stay
    as_good_as_new(world.plane, NAME)


def _left(*allowed: float) -> Any:
    """So many units can be had afterwards; when it was finished, the last of them. Nobody stands in line."""

    def check(world: World, finished: bool) -> list[str]:
        left = round(world.scratch["rate"].available, 2)
        problems = [] if left in (allowed[-1:] if finished else allowed) else [f"{left} units, finished={finished}"]
        return problems + _line(world)

    return check


def _line(world: World) -> list[str]:
    world.plane.gc()
    lines = processes_in_line(world.plane, f"r:{NAME}") + rate_waiters(world.plane, NAME)
    return [f"{lines} in line"] if lines else []


def _checked(call: Any) -> Any:
    """The call; when a handler raised in it, this process does not stand in line any more."""

    def operate(world: World, context: Any) -> Any:
        try:
            return call(world, context)
        except BaseException as error:
            if is_thrown(error) and rate_waiters(world.plane, NAME):
                raise AssertionError("after an interrupt somebody stands in line") from error
            raise

    return operate


def _granted(world: World) -> Any:
    return _rate(world).acquire(5)


def _resize(world: World, rate: Any) -> None:
    rate.resize(*NEW)


def _terms_are_whole(world: World, finished: bool) -> list[str]:
    rate = world.scratch["rate"]
    found = rate.limit, rate.per, rate.burst
    left = round(rate.available, 1)
    rate.resize(*OLD)
    fits = (found, left) in ([(NEW, 15.0)] if finished else [(OLD, 5.0), (NEW, 15.0)])
    return [] if fits else [f"terms {found} with {left} units, finished={finished}"]


def _owe_five(world: World) -> None:
    _begin_anew(world)
    world.scratch["rate"].acquire(5)


def _fast(world: World) -> Any:
    """A rate that gives a unit in five milliseconds."""
    return world.plane.rate("fast", 200, per=1.0, burst=5)


def _run_dry(world: World) -> Any:
    rate = _fast(world)
    rate.acquire(5)
    return rate


def _keep_fast(world: World) -> None:
    world.scratch["rate"] = _fast(world)


def _wait_for_units(world: World, rate: Any) -> None:
    try:
        rate.acquire(2)
    except BaseException as error:
        if is_thrown(error) and rate_waiters(world.plane, "fast"):
            raise AssertionError("after an interrupt somebody stands in line") from error
        raise


def _others_go_on(world: World, finished: bool) -> list[str]:
    world.scratch["rate"].acquire(5, timeout=20)
    lines = processes_in_line(world.plane, "r:fast")
    return [f"{lines} in line"] if lines else []


def _open_new(world: World, context: Any) -> None:
    world.plane.rate("new", 1e6, per=1.0).acquire(3)


def _new_terms_are_taken(world: World, finished: bool) -> list[str]:
    """The dead one does not use it any more."""
    rate = world.plane.rate("new", 2e6, per=1.0)
    problems = [] if rate.limit == 2e6 and rate.acquire(3, timeout=5).amount == 3 else ["a rate of a dead process"]
    del rate
    world.plane.gc()
    world.plane.rate("new", 1e6, per=1.0)
    return problems


RATE_SCENARIOS = [
    Scenario("grant units", _checked(lambda world, rate: rate.acquire(3)), begin=_rate, arrange=_begin_anew,
             inspect=_left(10, 7)),
    Scenario("try to be granted units", _checked(lambda world, rate: rate.try_acquire(3)), begin=_rate, arrange=_begin_anew,
             inspect=_left(10, 7)),
    Scenario("wait for units", _wait_for_units, begin=_run_dry, arrange=_keep_fast, inspect=_others_go_on),
    Scenario("give units back", lambda world, grant: grant.settle(2), begin=_granted, arrange=_begin_anew,
             inspect=_left(5, 8)),
    Scenario("take more units on", lambda world, grant: grant.settle(7), begin=_granted, arrange=_begin_anew,
             inspect=_left(5, 3)),
    Scenario("resize a rate", _resize, begin=_rate, arrange=_owe_five, inspect=_terms_are_whole),
    Scenario("open a rate", _open_new, inspect=_new_terms_are_taken),
]  # fmt: skip
