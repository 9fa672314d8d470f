"""What pools count over all processes, as scenarios: nothing that was said is lost or counted twice.

A meter's counts only grow, so each check compares with what the sum was before the victim came.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from shmplane import Conflict
from tests.support.crashing import Scenario, World
from tests.support.inside import host_meter
from tests.support.tracing import kill_this_process

LEVELS, COUNTS = [1] * 3 + [0] * 13, [3, 5, 7]
WORDS = LEVELS + COUNTS

_before: dict[str, list[int]] = {}


def _total(world: World) -> list[int]:
    words: Sequence[int] = host_meter(world.plane, "counted").total()
    return list(words)[16 : 16 + len(COUNTS)]


def _remember(world: World) -> None:
    world.plane.gc()
    _before["counts"] = _total(world)


def _added(world: World) -> list[int]:
    world.plane.gc()
    return [now - then for now, then in zip(_total(world), _before["counts"], strict=True)]


def _publish(world: World, context: Any) -> Any:
    meter = host_meter(world.plane, "counted")
    meter.publish(WORDS)
    return meter


def _publish_and_close(world: World, context: Any) -> None:
    _publish(world, context).close()


def _publish_more(world: World, context: Any) -> None:
    context.publish(LEVELS + [2 * count for count in COUNTS])


def _leave_counts(world: World) -> None:
    """A process that counted, and was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            kept = _publish(world, None)  # noqa: F841 - a forgotten meter has no levels
        finally:
            kill_this_process()
    os.waitpid(pid, 0)


def _collect(world: World, context: Any) -> None:
    world.plane.gc()


def _some_of(most: int) -> Any:
    """Each word is there or not, when it was killed in the middle; and all of them at the end."""

    def check(world: World, finished: bool) -> list[str]:
        added = _added(world)
        steps = [{count * times for times in range(most + 1)} for count in COUNTS]
        fits = all(its in allowed for its, allowed in zip(added, steps, strict=True))
        if fits and (not finished or added == [most * count for count in COUNTS]):
            return []
        return [f"the counts grew by {added}, finished={finished}"]

    return check


def _all_once(world: World, finished: bool) -> list[str]:
    added = _added(world)
    return [] if added == COUNTS else [f"a dead process's counts {COUNTS} came as {added}, finished={finished}"]


def _conflicts(world: World) -> int:
    return world.plane.metrics().conflicts


def _remember_conflicts(world: World) -> None:
    world.plane.gc()
    _before["conflicts"] = [_conflicts(world)]


def _be_refused(world: World, context: Any) -> None:
    """What no part of the harness does by itself, counted by the plane's own meter."""
    with contextlib.suppress(Conflict):
        world.plane.put("kept/small", b"x", expected_version=10**6)


def _leave_conflicts(world: World) -> None:
    """A process that was refused, and killed."""
    pid = os.fork()
    if pid == 0:
        try:
            _be_refused(world, None)
        finally:
            kill_this_process()
    os.waitpid(pid, 0)


def _conflicts_grew_by(*allowed: int) -> Any:
    """The total is the same before and after the dead are reclaimed."""

    def check(world: World, finished: bool) -> list[str]:
        seen = _conflicts(world) - _before["conflicts"][0]
        world.plane.gc()
        grown = _conflicts(world) - _before["conflicts"][0]
        fits = seen == grown and grown in (allowed[-1:] if finished else allowed)
        return [] if fits else [f"{seen} conflicts were counted, and then {grown}, finished={finished}"]

    return check


METER_SCENARIOS = [
    Scenario("count in a meter", _publish, arrange=_remember, inspect=_some_of(1)),
    Scenario("count more in a meter", _publish_more, begin=lambda world: _publish(world, None), arrange=_remember,
             inspect=_some_of(2)),
    Scenario("count in a meter and close", _publish_and_close, arrange=_remember, inspect=_some_of(1)),
    Scenario("fold what a dead process counted", _collect, begin=_leave_counts, arrange=_remember, inspect=_all_once),
    Scenario("count a conflict", _be_refused, arrange=_remember_conflicts, inspect=_conflicts_grew_by(0, 1)),
    Scenario("fold what a dead process counted itself", _collect, begin=_leave_conflicts, arrange=_remember_conflicts,
             inspect=_conflicts_grew_by(1)),
]  # fmt: skip
