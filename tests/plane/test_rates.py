"""Rates over all processes: limits, order, deadlines, what is settled, and what ended processes leave."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.inside import count_calls, look_once_more, processes_in_line, rate_waiters, say_wishes_once_more
from tests.support.lines import until
from tests.support.processes import Child

SLOW_S = 3600.0  #: a period in which nothing comes back while a test runs


def slow(plane: shmplane.Plane, name: str = "api", limit: float = 10) -> shmplane.RateLimiter:
    """A rate whose burst is all there is."""
    return plane.rate(name, limit, SLOW_S)


def grant_in_turn(plane: Any, name: str, amount: float) -> Iterator[Any]:
    """A child that waits in line, and says when it was granted."""
    rate = plane.rate(name, 10, SLOW_S)
    yield "ready"
    rate.acquire(amount)
    yield time.monotonic()


# One process


def test_as_many_units_as_the_burst_are_granted_at_once_and_no_more(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grants = [rate.try_acquire() for _ in range(11)]
    assert [grant is not None for grant in grants] == [True] * 10 + [False]
    assert (rate.limit, rate.per, rate.burst) == (10, SLOW_S, 10)
    assert rate.available < 1


def test_units_come_back_with_time(plane: shmplane.Plane) -> None:
    rate = plane.rate("api", 100, per=1.0, burst=5)
    began = time.monotonic()
    grants = [rate.acquire(5) for _ in range(4)]
    assert time.monotonic() - began >= 0.15
    assert [grant.amount for grant in grants] == [5] * 4


@pytest.mark.parametrize("jump", [-86_400.0 * 365, 86_400.0 * 365])
def test_a_wall_clock_that_jumps_grants_and_delays_nothing(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    rate, items, now = plane.rate("used", 2, per=3600.0), plane.queue("jobs"), time.time
    assert rate.try_acquire(2)
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    monkeypatch.setattr(time, "time_ns", lambda: int((now() + jump) * 1e9))
    assert rate.try_acquire() is None
    assert plane.rate("other", 1, per=3600.0).acquire(timeout=0).amount == 1
    with pytest.raises(queue.Empty):
        items.get(0.01)
    items.put(1)
    assert items.get(5) == 1


def test_two_rates_of_one_provider_are_taken_one_after_the_other(plane: shmplane.Plane) -> None:
    requests, tokens = slow(plane, "requests", 3), slow(plane, "tokens", 1000)
    for _ in range(3):
        assert requests.try_acquire()
        assert tokens.try_acquire(300)
    assert requests.try_acquire() is None
    assert tokens.try_acquire(300) is None


def test_a_rate_below_one_unit_in_its_period_grants_one(plane: shmplane.Plane) -> None:
    rate = plane.rate("rare", 0.5, SLOW_S)
    assert rate.burst == 1
    assert rate.try_acquire()
    assert rate.try_acquire(0.01) is None


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf"), 10.5, 11, np.int64(-3)])
def test_an_amount_that_can_never_be_granted_is_refused(plane: shmplane.Plane, amount: float) -> None:
    rate = slow(plane)
    with pytest.raises(ValueError, match=r"finite number above 0|can never be granted"):
        rate.try_acquire(amount)
    with pytest.raises(ValueError, match=r"finite number above 0|can never be granted"):
        rate.acquire(amount)
    with pytest.raises(ValueError, match=r"finite number above 0|can never be granted"):
        asyncio.run(rate.acquire_async(amount))
    assert rate.available == 10


@pytest.mark.parametrize("amount", [True, "1", None, 1j])
def test_an_amount_that_is_no_number_is_refused(plane: shmplane.Plane, amount: Any) -> None:
    with pytest.raises(TypeError, match="amount is a number"):
        slow(plane).acquire(amount)


def test_amounts_may_be_numpy_numbers(plane: shmplane.Plane) -> None:
    rate: Any = slow(plane)
    assert rate.acquire(np.int64(3)).amount == 3
    assert rate.acquire(np.float32(0.5)).amount == 0.5


@pytest.mark.parametrize(
    "terms",
    [
        (0,),
        (-1,),
        (float("nan"),),
        (1, 0),
        (1, 60, 0),
        (float("inf"),),
        (1e-9, 60, 1e9),
        (10**400,),
        (1, 10**400),
        (1, 60, 10**400),
        (1e300, 1e-300),
        (1e-300, 1e300),
    ],
)
def test_impossible_terms_are_refused(plane: shmplane.Plane, terms: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"finite number above 0|more than a year"):
        plane.rate("api", *terms)


def test_other_terms_than_are_in_use_are_a_mismatch_also_when_nothing_was_granted(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    with pytest.raises(shmplane.PlaneMismatch, match=r"10 units .* asked for 20") as caught:
        plane.rate("api", 20, SLOW_S)
    assert caught.value.facts["found"][0] == 10
    assert rate.limit == 10


def test_a_rate_that_nobody_uses_any_more_takes_new_terms(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    kept = rate.try_acquire(10)
    del rate
    gc.collect()
    rate = plane.rate("api", 20, SLOW_S)
    assert (rate.limit, rate.try_acquire(20)) == (20, None), "what was granted is still to be paid for"
    assert rate.try_acquire(10)
    assert kept is not None
    kept.settle(0)
    assert rate.available < 1, "what was granted under other terms is not given back"


def test_a_resize_is_for_everybody_and_at_once(plane: shmplane.Plane) -> None:
    rate, other = slow(plane), slow(plane)
    rate.acquire(10)
    waiting = threading.Thread(target=other.acquire, args=(5,))
    waiting.start()
    until(lambda: rate_waiters(plane, "api") == 1)
    rate.resize(1_000_000, 1.0)
    waiting.join(10)
    assert not waiting.is_alive()
    assert (other.limit, other.per, other.burst) == (1_000_000, 1.0, 1_000_000)
    other.resize(5)
    assert (rate.limit, rate.per, rate.burst) == (5, 1.0, 5)


def test_a_burst_of_its_own_stays_when_the_limit_changes(plane: shmplane.Plane) -> None:
    rate = plane.rate("api", 10, SLOW_S, burst=3)
    rate.resize(100)
    assert (rate.limit, rate.per, rate.burst) == (100, SLOW_S, 3)


def test_who_waits_for_more_than_a_smaller_burst_is_told_so(plane: shmplane.Plane) -> None:
    rate, errors = slow(plane), []
    rate.acquire(10)

    def wait() -> None:
        try:
            rate.acquire(8)
        except ValueError as error:
            errors.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: rate_waiters(plane, "api") == 1)
    rate.resize(4)
    waiting.join(10)
    assert "at most 4 units at once" in errors[0]


# Deadlines


def test_a_wait_that_cannot_end_in_time_fails_at_once_and_says_how_long_it_would_take(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    rate.acquire(10)
    with pytest.raises(shmplane.LockTimeout, match="cannot grant 5 units within 600 s") as caught:
        rate.acquire(5, timeout=600)
    assert 1700 < caught.value.facts["needed"] <= 1800
    with pytest.raises(shmplane.LockTimeout):
        asyncio.run(rate.acquire_async(5, timeout=600))
    with pytest.raises(shmplane.LockTimeout):
        rate.acquire(1, timeout=0)
    assert rate_waiters(plane, "api") == 0


def test_what_others_wait_for_counts_before_a_deadline(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    rate.acquire(10)
    with Child(grant_in_turn, plane, "api", 10, method="fork") as child:
        child.next()
        child._tell("next")
        until(lambda: processes_in_line(plane, "r:api") == 1)
        with pytest.raises(shmplane.LockTimeout) as caught:
            rate.acquire(1, timeout=1000)
        assert caught.value.facts["needed"] > 1.05 * SLOW_S
    assert rate_waiters(plane, "api") == 0


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_an_impossible_timeout_is_refused(plane: shmplane.Plane, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        slow(plane).acquire(1, timeout)


# Settling


def test_units_that_were_not_needed_go_to_those_who_wait(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grant = rate.acquire(10)
    waiting = threading.Thread(target=rate.acquire, args=(6,))
    waiting.start()
    until(lambda: rate_waiters(plane, "api") == 1)
    grant.settle(4)
    waiting.join(10)
    assert not waiting.is_alive()
    assert grant.settled == 4
    assert rate.available < 0.1


def test_what_cost_more_delays_those_who_come(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    rate.acquire(1).settle(20)
    with pytest.raises(shmplane.LockTimeout) as caught:
        rate.acquire(1, timeout=1)
    assert caught.value.facts["needed"] > 1.05 * SLOW_S


def test_a_cost_that_nobody_could_wait_for_is_refused_and_changes_nothing(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grant = rate.acquire(1)
    with pytest.raises(ValueError, match="more than a year"):
        grant.settle(1e300)
    assert grant.settled is None
    assert rate.try_acquire(9)
    grant.settle(1)


def test_a_grant_is_settled_once(plane: shmplane.Plane) -> None:
    grant = slow(plane).acquire(5)
    grant.settle(0)
    with pytest.raises(RuntimeError, match="settled already, at 0 units"):
        grant.settle(0)
    assert slow(plane).available > 9.9


@pytest.mark.parametrize("actual", [-1, float("nan"), float("inf")])
def test_an_impossible_cost_is_refused_and_can_be_said_right_afterwards(plane: shmplane.Plane, actual: float) -> None:
    grant = slow(plane).acquire(5)
    with pytest.raises(ValueError, match="actual is a finite number of 0 or more"):
        grant.settle(actual)
    grant.settle(5)


# Order


def test_waiters_are_served_in_the_order_in_which_they_came_also_when_the_first_wants_most(
    plane: shmplane.Plane,
) -> None:
    rate = plane.rate("api", 200, per=1.0, burst=20)
    rate.acquire(20)
    order: list[int] = []

    def wait(number: int, amount: float) -> None:
        rate.acquire(amount)
        order.append(number)

    threads = [threading.Thread(target=wait, args=pair) for pair in [(0, 20), (1, 1), (2, 10), (3, 1)]]
    for number, thread in enumerate(threads):
        thread.start()
        until(lambda: rate_waiters(plane, "api") + len(order) == number + 1)  # noqa: B023
    for thread in threads:
        thread.join(20)
    assert order == [0, 1, 2, 3]


def test_nobody_overtakes_those_who_wait(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    first = rate.acquire(9)
    waiting = threading.Thread(target=rate.acquire, args=(5,))
    waiting.start()
    until(lambda: rate_waiters(plane, "api") == 1)
    assert rate.try_acquire(1) is None, "one unit is there, and somebody waits for five"
    first.settle(0)
    waiting.join(10)
    assert not waiting.is_alive()


def test_processes_wait_in_one_line(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grants = [rate.acquire(5), rate.acquire(5)]
    with (
        Child(grant_in_turn, plane, "api", 5, method="fork") as first,
        Child(grant_in_turn, plane, "api", 2, method="fork") as second,
    ):
        for count, child in enumerate((first, second), start=1):
            child.next()
            child._tell("next")
            until(lambda: processes_in_line(plane, "r:api") == count)  # noqa: B023
        grants[0].settle(2)
        assert processes_in_line(plane, "r:api") == 2, "the second one wants two, and the first one comes first"
        grants[1].settle(1)
        for child in (first, second):
            child._receive("yielded", None)


# Asyncio


def test_tasks_wait_without_threads_of_their_own(plane: shmplane.Plane) -> None:
    rate = plane.rate("api", 1000, per=1.0, burst=10)

    async def run() -> list[shmplane.Grant]:
        return await asyncio.gather(*(rate.acquire_async(5) for _ in range(20)))

    began = time.monotonic()
    assert len(asyncio.run(run())) == 20
    assert time.monotonic() - began >= 0.089


def test_a_cancelled_wait_leaves_its_place(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grant = rate.acquire(10)

    async def run() -> None:
        first, second = asyncio.create_task(rate.acquire_async(10)), asyncio.create_task(rate.acquire_async(1))
        await asyncio.to_thread(until, lambda: rate_waiters(plane, "api") == 2)
        first.cancel()
        grant.settle(9)
        await second
        assert first.cancelled()

    asyncio.run(run())
    assert rate_waiters(plane, "api") == 0


# Ends


def test_a_killed_waiter_holds_up_nobody(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grant = rate.acquire(10)
    with Child(grant_in_turn, plane, "api", 10, method="fork") as child:
        child.next()
        child._tell("next")
        until(lambda: processes_in_line(plane, "r:api") == 1)
        child.kill()
    grant.settle(5)
    assert rate.acquire(5, timeout=20).amount == 5


def test_a_stopped_waiter_is_passed_over_and_comes_first_when_it_goes_on(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grant = rate.acquire(10)
    with Child(grant_in_turn, plane, "api", 4, method="fork") as child:
        child.next()
        child._tell("next")
        until(lambda: processes_in_line(plane, "r:api") == 1)
        child.stop()
        waiting = threading.Thread(target=rate.acquire, args=(5,))
        waiting.start()
        until(lambda: rate_waiters(plane, "api") == 1)
        grant.settle(1)
        waiting.join(20)
        assert not waiting.is_alive()
        child.go_on()
        child._receive("yielded", None)


def test_a_killed_user_of_other_terms_is_no_mismatch(plane: shmplane.Plane) -> None:
    with Child(grant_in_turn, plane, "api", 1, method="fork") as child:
        child.next()
        with pytest.raises(shmplane.PlaneMismatch):
            plane.rate("api", 20, SLOW_S)
        child.kill()
    assert plane.rate("api", 20, SLOW_S).limit == 20


def test_closing_the_plane_object_ends_its_waits(plane: shmplane.Plane) -> None:
    errors: list[Exception] = []
    with shmplane.Plane(plane.name, root=plane.root) as other:
        rate = slow(other)
        rate.acquire(10)

        def wait() -> None:
            try:
                rate.acquire(10)
            except shmplane.ClosedError as error:
                errors.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: rate_waiters(plane, "api") == 1)
    waiting.join(20)
    assert len(errors) == 1
    with pytest.raises(shmplane.ClosedError):
        rate.try_acquire()


def test_a_destroyed_plane_ends_waits_and_refuses_all_else(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grant = rate.acquire(10)
    threading.Timer(0.05, plane.destroy).start()
    with pytest.raises(shmplane.ClosedError):
        rate.acquire(10)
    with pytest.raises(shmplane.ClosedError):
        grant.settle(1)


def test_a_forked_child_goes_on_with_its_parents_limiter(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    rate.acquire(4)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if rate.try_acquire(6) and rate.try_acquire() is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert rate.try_acquire() is None


def test_what_a_signal_handler_raises_ends_a_wait_without_a_trace(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    rate.acquire(10)

    def interrupt() -> None:
        until(lambda: rate_waiters(plane, "api") == 1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        rate.acquire(10)
    assert rate_waiters(plane, "api") == 0
    assert processes_in_line(plane, "r:api") == 0


def test_a_plane_shows_the_rates_that_somebody_waits_for(plane: shmplane.Plane) -> None:
    rate = slow(plane)
    grant = rate.acquire(10)
    waiting = threading.Thread(target=rate.acquire, args=(5,))
    waiting.start()
    until(lambda: rate_waiters(plane, "api") == 1)
    (info,) = plane.stats().semaphores
    assert (info.kind, info.name, info.held, info.waiters) == ("rate", "api", 0, (os.getpid(),))
    grant.settle(0)
    waiting.join(10)
    assert plane.stats().semaphores == ()


def test_who_waits_behind_many_costs_no_look_at_each_of_them(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = slow(plane)
    rate.acquire(10)

    async def run() -> None:
        tasks = [asyncio.create_task(rate.acquire_async()) for _ in range(30)]
        await asyncio.to_thread(until, lambda: rate_waiters(plane, "api") == 30)
        # No task looks by itself meanwhile: the loop stands still.
        found, decoded = count_calls(monkeypatch, "ready_at"), count_calls(monkeypatch, "terms")
        look_once_more(plane, "api")
        assert len(found) == 1
        decoded.clear()
        say_wishes_once_more(plane, "api")
        assert len(decoded) == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert rate_waiters(plane, "api") == 0
