"""The roster against any order of events: rules that hold after each of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from shmplane.connections.housekeeping import due, sweep
from shmplane.connections.records import BUSY, IDLE, OUT, Member, MemberRef, Plan, Waiter
from shmplane.connections.roster import PARALLEL_CONNECTS, Roster
from shmplane.connections.settings import Settings

PLACE = (None, -1, None)


class Thing:
    """A connection that does nothing."""


class RosterMachine(RuleBasedStateMachine):
    """Plays the shell: carries plans out in any order, at any time, well or badly."""

    waiters = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        options: dict[str, Any] = {
            "min_size": 1,
            "max_size": 3,
            "max_lifetime": 50.0,
            "max_idle": 20.0,
            "leak_after": 10.0,
        }
        given = Settings(
            connect=Thing, check=bool, host_limit=5, plane=SimpleNamespace(_host_permits=None), name="p", **options
        )
        self.roster = Roster(given, dropped=lambda _: None, chance=lambda: 0.5)
        self.to_connect = 0
        self.to_close: list[Member] = []
        self.to_check: list[Member] = []
        self.out: list[Thing] = []
        self.queued: list[Waiter] = []
        self.limit = 3
        self.slack = 0

    def follow(self, plan: Plan) -> None:
        self.to_connect += plan.connect
        self.to_close += plan.close
        self.to_check += plan.check
        for waiter in plan.woken:
            assert waiter.done
            if waiter.refused:
                self.queued.remove(waiter)
                continue
            # First come, first served: nobody who came earlier is still waiting.
            if waiter in self.queued:
                assert waiter is self.queued[0]
                self.queued.remove(waiter)
        served = [waiter for waiter in plan.woken if not waiter.refused]
        for waiter in served:
            conn = self.roster.receive(waiter)
            assert conn is not None
            assert conn not in self.out
            self.out.append(conn)

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def someone_takes(self) -> None:
        conn = self.roster.take(self.now, PLACE)
        if conn is not None:
            assert not self.queued, "overtook a waiter"
            assert conn not in self.out
            self.out.append(conn)

    @rule(target=waiters)
    def someone_waits(self) -> Waiter:
        waiter = Waiter(None, self.now, PLACE)
        if not self.roster.closed:
            self.queued.append(waiter)
            self.follow(self.roster.queue(waiter, self.now))
        return waiter

    @rule(waiter=consumes(waiters))
    def someone_gives_up(self, waiter: Waiter) -> None:
        if waiter in self.queued:
            self.queued.remove(waiter)
            self.follow(self.roster.abandon(waiter, self.now))

    @rule(data=st.data(), how=st.sampled_from(["give", "settle", "broken", "drop"]))
    def someone_returns(self, data, how: str) -> None:
        if not self.out:
            return
        conn = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        member = self.roster.members[id(conn)]
        if how == "give":
            calm = self.roster.give(member, conn, self.now)
            self.follow(Plan() if calm else self.roster.plan(self.now))
        elif how == "drop":
            assert isinstance(member.ref, MemberRef)
            self.follow(self.roster.was_dropped(member.ref, self.now))
        else:
            member.conn, member.state = conn, BUSY
            self.follow(self.roster.settle(member, self.now, fit=how == "settle"))

    @rule(outcome=st.sampled_from(["ok", "ok", "fails", "no permit"]))
    def a_connect_ends(self, outcome: str) -> None:
        if not self.to_connect:
            return
        self.to_connect -= 1
        if outcome == "ok":
            self.follow(self.roster.opened(Thing(), self.now, 0.1))
        elif outcome == "fails":
            self.follow(self.roster.failed(OSError("no"), self.now))
        else:
            self.follow(self.roster.unpermitted(self.now))

    @rule()
    def a_permit_comes(self) -> None:
        if self.roster.starving and self.roster.permitted(self.now):
            self.to_connect += 1

    @rule()
    def a_close_ends(self) -> None:
        if self.to_close:
            self.to_close.pop()
            self.follow(self.roster.was_closed(self.now))

    @rule(passed=st.booleans())
    def a_check_ends(self, passed: bool) -> None:
        if self.to_check:
            member = self.to_check.pop()
            self.follow((self.roster.checked if passed else self.roster.discard)(member, self.now))

    @rule(elsewhere=st.integers(0, 2))
    def the_keeper_sweeps(self, elsewhere: int) -> None:
        self.follow(sweep(self.roster, self.now, elsewhere))
        assert due(self.roster, self.now) >= self.now or self.roster.idle or self.to_check

    @rule(size=st.integers(1, 5))
    def the_owner_resizes(self, size: int) -> None:
        self.limit = size
        self.slack = max(self.slack, self.roster.size)
        self.follow(self.roster.resize(size, self.now))

    @rule()
    def the_owner_drains(self) -> None:
        self.follow(self.roster.drain(self.now))

    @rule()
    def the_owner_pauses(self) -> None:
        self.roster.pause()

    @rule()
    def the_owner_resumes(self) -> None:
        self.follow(self.roster.resume(self.now))

    @rule(really=st.integers(0, 20))
    def the_owner_closes(self, really: int) -> None:
        if really == 0:
            self.follow(self.roster.shut(self.now))

    @invariant()
    def every_slot_is_accounted_for(self) -> None:
        open_ = len(self.roster.members)
        assert self.roster.size == open_ + self.to_connect + len(self.to_close)
        assert self.roster.connecting == self.to_connect

    @invariant()
    def every_connection_is_in_one_place(self) -> None:
        idle = {id(member.conn) for member in self.roster.idle}
        out = {id(conn) for conn in self.out}
        overdue = {member.key for member in self.roster.overdue}
        busy = {member.key for member in self.to_check}
        assert len(idle) == len(self.roster.idle)
        assert not idle & out
        assert idle | out | busy | overdue == set(self.roster.members)
        states = {key: member.state for key, member in self.roster.members.items()}
        assert all(states[key] == OUT for key in out)
        assert all(states[key] == IDLE for key in idle)

    @invariant()
    def the_size_is_kept(self) -> None:
        self.slack = min(self.slack, self.roster.size)
        assert self.roster.size <= max(self.limit, self.slack)
        assert self.roster.connecting <= PARALLEL_CONNECTS

    @invariant()
    def nobody_waits_beside_an_idle_connection(self) -> None:
        if self.roster.serving:
            assert not (self.roster.idle and self.roster.waiters)

    @invariant()
    def the_queue_is_ours(self) -> None:
        assert list(self.roster.waiters) == self.queued

    @invariant()
    def the_counts_add_up(self) -> None:
        tally = self.roster.tally
        done = tally.closed + tally.dropped
        assert sum(tally.connect) == done + len(self.roster.members) + len(self.to_close)

    def teardown(self) -> None:
        """Whatever happened: when all is carried out and everyone has left, nothing is left."""
        for waiter in list(self.queued):
            self.someone_gives_up_now(waiter)
        for conn in list(self.out):
            self.out.remove(conn)
            self.roster.give(self.roster.members[id(conn)], conn, self.now)
            self.follow(self.roster.plan(self.now))
        self.follow(self.roster.shut(self.now))
        while self.to_connect or self.to_close or self.to_check:
            while self.to_connect:
                self.a_connect_ends_well()
            while self.to_check:
                self.follow(self.roster.checked(self.to_check.pop(), self.now))
            while self.to_close:
                self.to_close.pop()
                self.follow(self.roster.was_closed(self.now))
        assert (self.roster.size, self.roster.connecting, self.roster.members) == (0, 0, {})

    def someone_gives_up_now(self, waiter: Waiter) -> None:
        if waiter in self.queued:
            self.queued.remove(waiter)
            self.follow(self.roster.abandon(waiter, self.now))

    def a_connect_ends_well(self) -> None:
        self.to_connect -= 1
        self.follow(self.roster.opened(Thing(), self.now, 0.1))


TestRoster = RosterMachine.TestCase
# A busy machine is no reason to fail; the rules are.
TestRoster.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.sweep
def test_the_roster_keeps_its_rules_for_thousands_of_histories() -> None:
    run_state_machine_as_test(RosterMachine, settings=settings(TestRoster.settings, max_examples=4000))
