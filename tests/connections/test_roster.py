"""The roster decides: every case by hand, without threads, clocks or connections."""

from __future__ import annotations

import gc
import math

from shmplane.connections.backoff import BACKOFF_LIMIT
from shmplane.connections.housekeeping import YIELD_EVERY, due, sweep
from shmplane.connections.records import MemberRef, Plan, Waiter
from shmplane.connections.roster import PARALLEL_CONNECTS, Roster
from shmplane.connections.settings import Settings

PLACE = (None, -1, None)


class Thing:
    """A connection that does nothing."""


def roster_with(*, idle: int = 0, now: float = 0.0, **options) -> Roster:
    options = {"connect": Thing, "max_size": 4, **options}
    roster = Roster(Settings(**options), dropped=lambda _: None, chance=lambda: 0.0)
    plan = roster.start(now)
    for _ in range(plan.connect):
        roster.opened(Thing(), now, 0.0)
    while len(roster.idle) < idle:
        waiter = ask(roster, now)
        roster.opened(Thing(), now, 0.0)
        give_back(roster, roster.receive(waiter), now)
        for member in list(roster.idle)[1:]:
            assert member.conn is not None
        if len(roster.idle) < idle:
            held = [roster.take(now, PLACE) for _ in range(len(roster.idle))]
            waiter = ask(roster, now)
            roster.opened(Thing(), now, 0.0)
            for conn in [*held, roster.receive(waiter)]:
                give_back(roster, conn, now)
    return roster


def ask(roster: Roster, now: float = 0.0) -> Waiter:
    waiter = Waiter(None, now, PLACE)
    roster.queue(waiter, now)
    return waiter


def give_back(roster: Roster, conn: Thing, now: float = 0.0) -> Plan:
    return Plan() if roster.give(roster.members[id(conn)], conn, now) else roster.plan(now)


def test_the_connection_used_last_is_handed_out_first() -> None:
    roster = roster_with(idle=2)
    first, second = roster.take(1, PLACE), roster.take(1, PLACE)
    give_back(roster, second, 2)
    give_back(roster, first, 3)
    assert roster.take(4, PLACE) is first


def test_who_came_first_is_served_first() -> None:
    roster = roster_with(max_size=1)
    one = ask(roster)
    roster.opened(Thing(), 0, 0)
    conn = roster.receive(one)
    waiters = [ask(roster, now) for now in (1, 2, 3)]
    for waiter in waiters:
        assert give_back(roster, conn, 5).woken == [waiter]
        assert roster.receive(waiter) is conn


def test_a_connection_goes_to_a_waiter_and_is_never_idle_in_between() -> None:
    roster = roster_with(idle=1, max_size=1)
    conn = roster.take(0, PLACE)
    waiter = ask(roster)
    give_back(roster, conn, 1)
    assert roster.take(1, PLACE) is None
    assert roster.receive(waiter) is conn


def test_as_many_connects_are_planned_as_there_are_waiters_without_one() -> None:
    roster = roster_with(max_size=3)
    plans = [ask_plan(roster, 0).connect for _ in range(5)]
    assert plans == [1, 1, 1, 0, 0]


def test_not_too_many_connects_are_under_way_at_once() -> None:
    roster = roster_with(max_size=100)
    for _ in range(50):
        ask(roster)
    assert roster.connecting == PARALLEL_CONNECTS
    assert roster.opened(Thing(), 0, 0).connect == 1


def test_a_failed_connect_is_tried_again_later_and_later() -> None:
    roster = roster_with()
    ask(roster)
    now, pauses = 0.0, []
    for _ in range(12):
        assert roster.failed(OSError("no"), now).connect == 0
        pauses.append(round(roster.backoff.retry_at - now, 6))
        now = roster.backoff.retry_at
        assert due(roster, now - 1e-9) <= now
        assert sweep(roster, now).connect == 1
    assert pauses == sorted(pauses)
    assert pauses[-1] <= BACKOFF_LIMIT * 1.5
    assert isinstance(roster.backoff.error, OSError)


def test_a_connect_that_works_ends_the_back_off() -> None:
    roster = roster_with()
    ask(roster)
    roster.failed(OSError("no"), 0)
    assert sweep(roster, roster.backoff.retry_at).connect == 1
    roster.opened(Thing(), 9, 0)
    assert (roster.backoff.failures, roster.backoff.error) == (0, None)


def test_an_expired_connection_is_not_handed_out_but_closed() -> None:
    roster = roster_with(idle=1, max_lifetime=10)
    assert roster.take(11, PLACE) is None
    assert len(ask_plan(roster, 11).close) == 1


def ask_plan(roster: Roster, now: float) -> Plan:
    return roster.queue(Waiter(None, now, PLACE), now)


def test_a_connection_that_comes_back_too_old_is_closed() -> None:
    roster = roster_with(idle=1, max_lifetime=10)
    conn = roster.take(1, PLACE)
    assert len(give_back(roster, conn, 11).close) == 1
    assert roster.idle == []


def test_a_slot_is_free_when_its_connection_was_closed_and_not_before() -> None:
    roster = roster_with(idle=1, max_size=1)
    conn = roster.take(0, PLACE)
    ask(roster)
    plan = roster.discard(roster.members[id(conn)], 1)
    assert (len(plan.close), plan.connect, roster.size) == (1, 0, 1)
    assert roster.was_closed(1).connect == 1


def test_idle_connections_above_the_least_are_closed_after_a_while() -> None:
    roster = roster_with(idle=3, min_size=1, max_idle=5)
    assert sweep(roster, 4).close == []
    assert due(roster, 4) == 5
    assert len(sweep(roster, 5).close) == 2
    assert len(roster.idle) == 1


def test_idle_connections_are_checked_now_and_then_one_at_a_time() -> None:
    roster = roster_with(idle=2, check=bool, max_idle=10)
    (member,) = sweep(roster, 5).check
    assert len(roster.idle) == 1
    assert sweep(roster, 5).check != [member]
    roster.checked(member, 6)
    assert roster.idle[0] is member or roster.idle == [member]


def test_a_connection_held_too_long_is_reported_once() -> None:
    roster = roster_with(idle=1, leak_after=3)
    conn = roster.take(0, PLACE)
    assert sweep(roster, 2).leaks == []
    assert len(sweep(roster, 3).leaks) == 1
    assert sweep(roster, 9).leaks == []
    give_back(roster, conn, 9)
    roster.take(10, PLACE)
    assert len(sweep(roster, 13).leaks) == 1


def test_a_waiter_that_gives_up_passes_on_what_it_was_handed() -> None:
    roster = roster_with(max_size=1)
    first, second = ask(roster), ask(roster)
    roster.opened(Thing(), 0, 0)
    assert roster.abandon(first, 1).woken == [second]


def test_after_a_failed_check_a_waiter_goes_to_the_front() -> None:
    roster = roster_with(max_size=1)
    ask(roster)
    early = Waiter(None, 0, PLACE)
    roster.queue(early, 1, first=True)
    assert roster.opened(Thing(), 1, 0).woken == [early]


def test_draining_closes_the_idle_now_and_the_others_as_they_return() -> None:
    roster = roster_with(idle=2, min_size=2)
    conn = roster.take(0, PLACE)
    assert len(roster.drain(1).close) == 1
    assert len(give_back(roster, conn, 2).close) == 1
    assert roster.was_closed(2).connect == 1


def test_a_smaller_size_takes_effect_as_connections_return() -> None:
    roster = roster_with(idle=3)
    conns = [roster.take(0, PLACE) for _ in range(3)]
    roster.resize(1, 1)
    closed = [len(give_back(roster, conn, 2).close) for conn in conns]
    assert closed == [1, 1, 0]


def test_nothing_is_handed_out_while_paused() -> None:
    roster = roster_with(idle=1)
    roster.pause()
    assert roster.take(0, PLACE) is None
    waiter = ask(roster)
    assert not waiter.done
    assert roster.resume(1).woken == [waiter]


def test_a_closed_roster_refuses_its_waiters_and_closes_what_returns() -> None:
    roster = roster_with(idle=1, max_size=1)
    conn = roster.take(0, PLACE)
    waiter = ask(roster)
    assert roster.shut(1).woken == [waiter]
    assert waiter.refused
    assert len(give_back(roster, conn, 2).close) == 1
    assert roster.was_closed(3).connect == 0


def test_a_connect_that_ends_after_the_close_is_closed() -> None:
    roster = roster_with()
    ask(roster)
    roster.shut(1)
    assert len(roster.opened(Thing(), 2, 0).close) == 1


def test_a_dropped_connection_gives_its_slot_back_once() -> None:
    roster = roster_with(idle=1, max_size=1)
    conn = roster.take(0, PLACE)
    waiting = ask(roster)
    ref = roster.members[id(conn)].ref
    assert isinstance(ref, MemberRef)
    del conn
    gc.collect()
    assert roster.was_dropped(ref, 1).connect == 1
    assert roster.was_dropped(ref, 1).connect == 0
    assert (roster.size, waiting.done) == (1, False)


def test_without_a_permit_nothing_is_opened_until_one_comes() -> None:
    roster = roster_with()
    ask(roster)
    assert roster.unpermitted(0).connect == 0
    assert roster.seeks_permit
    assert roster.permitted(1)
    assert (roster.connecting, roster.size) == (1, 1)


def test_a_permit_that_nobody_needs_any_more_is_not_used() -> None:
    roster = roster_with()
    waiter = ask(roster)
    roster.unpermitted(0)
    roster.abandon(waiter, 0)
    assert not roster.permitted(1)
    assert roster.size == 0


def test_idle_connections_make_way_for_other_processes() -> None:
    roster = roster_with(idle=3, min_size=3)
    assert len(sweep(roster, 1, elsewhere=2).close) == 2


def test_a_busy_process_gives_one_connection_up_now_and_then() -> None:
    roster = roster_with(idle=1, max_size=1)
    conn = roster.take(0, PLACE)
    ask(roster)
    sweep(roster, 1, elsewhere=1)
    plan = give_back(roster, conn, 1)
    assert (len(plan.close), plan.woken) == (1, [])
    roster.was_closed(1)
    roster.opened(Thing(), 1, 0)
    sweep(roster, 1 + YIELD_EVERY / 2, elsewhere=1)
    assert roster.owed == 0


def test_what_was_just_opened_serves_somebody_before_it_makes_way() -> None:
    roster = roster_with(max_size=1)
    waiter = ask(roster)
    sweep(roster, 1, elsewhere=1)
    assert roster.opened(Thing(), 1, 0).woken == [waiter]
    later = ask(roster, 2)
    sweep(roster, 2, elsewhere=1)
    assert len(give_back(roster, roster.receive(waiter), 3).close) == 1
    roster.was_closed(3)
    assert roster.opened(Thing(), 4, 0).woken == [later]


def test_nothing_is_due_in_an_empty_pool_for_a_long_time() -> None:
    roster = Roster(Settings(connect=Thing, max_idle=None, max_lifetime=None), dropped=lambda _: None)
    assert due(roster, 5) == math.inf
