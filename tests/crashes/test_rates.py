"""Rates under death and what handlers raise: at stores and at bytecodes."""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

import shmplane
from tests.crashes.groups import SOME_STORES, problems_of, some_points, sweeps
from tests.crashes.rate_scenarios import RATE_SCENARIOS
from tests.support.processes import Child

NAMES = [one.name for one in RATE_SCENARIOS]
SAMPLES = {"bytecodes": 12, "interrupts": 8, "deadlines": 4, "calls": 4}


def test_a_rate_grants_no_more_than_its_terms_allow_and_holds_up_nobody(plane_root: Path) -> None:
    found = {"stores": sweeps("stores", NAMES, plane_root, sample=SOME_STORES, of="rate")}
    for results in (found | some_points(SAMPLES, NAMES, plane_root, of="rate")).values():
        assert not problems_of(results)
        assert all(result.points for result in results)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["stores", "bytecodes", "interrupts", "deadlines", "calls"])
def test_a_rate_is_right_after_death_and_what_handlers_raise_at_every_point(plane_root: Path, kind: str) -> None:
    assert not problems_of(sweeps(kind, NAMES, plane_root, of="rate", deadline=1700))


# Among others

LIMIT, PER_S, BURST = 200.0, 1.0, 12.0


def test_no_window_of_time_has_more_than_its_share_while_workers_are_killed_and_stopped(
    plane: shmplane.Plane, tmp_path: Path
) -> None:
    """Each worker says when it began to ask and when it had its grant; what lies within a window for sure is counted."""
    witness, dice = tmp_path / "grants", random.Random(7)
    witness.touch()
    rate = plane.rate("used", LIMIT, PER_S, BURST)
    stop = plane.mutable("stop", (), "u1")
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Child(_work, plane, str(witness), number, method="fork")) for number in range(6)]
        for worker in workers:
            worker._tell("finish")
        for number in range(8):
            time.sleep(0.06)
            index = dice.randrange(len(workers))
            workers[index].kill()
            workers[index] = stack.enter_context(Child(_work, plane, str(witness), 10 + number, method="fork"))
            workers[index]._tell("finish")
            stopped = workers[(index + 1) % len(workers)]
            stopped.stop()
            time.sleep(0.06)
            stopped.go_on()
        stop[()] = 1
        for worker in workers:
            worker._receive("returned", 30)
    grants = [tuple(map(float, line.split())) for line in witness.read_text().splitlines()]
    assert len(grants) > 20
    assert _most_too_much(grants) <= 0
    assert rate.acquire(1, timeout=20).amount == 1
    del stop


def _work(plane: Any, witness: str, seed: int) -> None:
    rate, stop, dice = plane.rate("used", LIMIT, PER_S, BURST), plane.mutable("stop", (), "u1"), random.Random(seed)
    said = os.open(witness, os.O_WRONLY | os.O_APPEND)
    while not stop[()]:
        amount = dice.choice((1, 1, 2, 6))
        began = time.monotonic()
        grant = rate.acquire(amount)
        had = time.monotonic()
        used = dice.randint(0, amount)
        os.write(said, f"{began:.9f} {had:.9f} {used or amount}\n".encode())
        if used:
            grant.settle(used)
    os.close(said)


def _most_too_much(grants: list[tuple[float, ...]]) -> float:
    """By how many units the worst window has too much."""
    worst = 0.0
    for start, *_ in grants:
        units = 0.0
        for had, amount in sorted((had, amount) for began, had, amount in grants if began >= start):
            units += amount
            worst = max(worst, units - BURST - LIMIT / PER_S * (had - start) - 1e-3)
    return worst
