"""Eviction: each policy beside its model, and chains that hold whatever happened."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bench.traces import ListGhosts, ListGroups, ListRows
from shmplane.errors import PlaneCorrupt
from shmplane.manifest.policies import POLICIES, QUEUES, STEPS, Queues, queues_of
from tests.manifest.policies.models import MODELS, Item, Model

ROWS = 12
LIMIT = 4_000
rows_st = st.integers(0, ROWS - 1)
sizes = st.one_of(st.integers(1, 8), st.integers(1, LIMIT))
costs = st.one_of(st.just(0), st.integers(1, 10**6))


class Pair:
    """A policy over lists, and its model."""

    def __init__(self, policy: str, rows: int = ROWS, *, limit: int = LIMIT) -> None:
        self.rows, self.groups, self.ghosts = ListRows(rows), ListGroups(policy, limit), ListGhosts(1 << 12)
        self.queues: Queues = queues_of(self.rows, self.groups, self.ghosts, 0, now=itertools.count(1).__next__)
        self.model: Model = MODELS[policy](limit, itertools.count(1).__next__)

    def admit(self, row: int, nbytes: int = 1, cost: int = 0, *, key_hash: int | None = None) -> None:
        key_hash = row if key_hash is None else key_hash
        self.rows.nbytes[row], self.rows.cost[row] = nbytes, cost
        self.queues.admit(row, key_hash)
        self.model.admit(row, Item(nbytes, cost, key_hash))

    def hit(self, row: int) -> None:
        self.queues.hit(row)
        self.model.hit(row)

    def members(self) -> set[int]:
        return {row for row, queue in enumerate(self.rows.queue) if queue}

    def check(self) -> None:
        check_chains(self.rows, self.groups)
        assert self.members() == set(self.model.items)


def check_chains(rows: ListRows, groups: ListGroups) -> None:
    seen: list[int] = []
    small = 0
    for queue in range(QUEUES):
        younger, link = 0, groups.heads[queue][0]
        while link:
            row = link - 1
            assert rows.queue[row] == queue + 1
            assert rows.before[row] == younger
            assert row not in seen
            seen.append(row)
            small += rows.nbytes[row] * (queue == 0)
            younger, link = link, rows.after[row]
        assert groups.tails[queue][0] == younger
    assert {row for row, queue in enumerate(rows.queue) if queue} == set(seen)
    assert groups.used_nbytes[0] == sum(rows.nbytes[row] for row in seen)
    if groups.policy[0] == list(POLICIES).index("s3fifo"):
        assert groups.small_nbytes[0] == small


class PolicyMachine(RuleBasedStateMachine):
    policy = ""

    @initialize()
    def begin(self) -> None:
        self.pair = Pair(self.policy)

    @rule(row=rows_st, nbytes=sizes, cost=costs)
    def admit(self, row: int, nbytes: int, cost: int) -> None:
        if row not in self.pair.members():
            self.pair.admit(row, nbytes, cost)

    @precondition(lambda self: self.pair.members())
    @rule(data=st.data())
    def hit(self, data: st.DataObject) -> None:
        self.pair.hit(data.draw(st.sampled_from(sorted(self.pair.members()))))

    @rule(leased=st.one_of(st.just(set()), st.sets(rows_st)))
    def evict(self, leased: set[int]) -> None:
        pair = self.pair
        if pair.model.none_may_go(leased):
            return
        expected = pair.model.victim(leased)
        found = pair.queues.victim(lambda row: row not in leased)
        assert found == expected
        if found is not None:
            pair.queues.evicted(found, found)
            pair.model.evicted(found)

    @precondition(lambda self: self.pair.members())
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(sorted(self.pair.members())))
        self.pair.queues.forget(row)
        self.pair.model.forget(row)

    @invariant()
    def chains_hold(self) -> None:
        if hasattr(self, "pair"):
            self.pair.check()


class S3FifoMachine(PolicyMachine):
    policy = "s3fifo"


class LruMachine(PolicyMachine):
    policy = "lru"


class LfuMachine(PolicyMachine):
    policy = "lfu"


class FifoMachine(PolicyMachine):
    policy = "fifo"


class SieveMachine(PolicyMachine):
    policy = "sieve"


TestS3FifoDecidesAsItsModel = S3FifoMachine.TestCase
TestLruDecidesAsItsModel = LruMachine.TestCase
TestLfuDecidesAsItsModel = LfuMachine.TestCase
TestFifoDecidesAsItsModel = FifoMachine.TestCase
TestSieveDecidesAsItsModel = SieveMachine.TestCase
for machine in (S3FifoMachine, LruMachine, LfuMachine, FifoMachine, SieveMachine):
    machine.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)

every_policy = pytest.mark.parametrize("policy", POLICIES)


@every_policy
def test_a_call_looks_at_a_bounded_number_of_items(policy: str) -> None:
    pair = Pair(policy, 1_000, limit=10)
    for row in range(1_000):
        pair.admit(row)
        pair.hit(row)
    asked: list[int] = []

    def none_may_go(row: int) -> bool:
        asked.append(row)
        return False

    assert pair.queues.victim(none_may_go) is None
    assert 0 < len(asked) <= 2 * STEPS
    check_chains(pair.rows, pair.groups)


@every_policy
def test_where_everything_was_used_one_call_is_enough(policy: str) -> None:
    pair = Pair(policy, 1_000, limit=10)
    for row in range(1_000):
        pair.admit(row)
    for row in range(1_000):
        pair.hit(row)
    assert pair.queues.victim(lambda row: True) is not None


@every_policy
def test_the_only_item_that_may_go_is_found_among_a_thousand(policy: str) -> None:
    pair = Pair(policy, 1_000, limit=10)
    for row in range(1_000):
        pair.admit(row)
    calls = range(1_000 // STEPS + 2)
    found = {pair.queues.victim(lambda row: row == 567) for _ in calls}
    assert 567 in found


@every_policy
def test_rebuilt_queues_have_every_row_once_whatever_the_words_said(policy: str) -> None:
    pair = Pair(policy)
    for row in range(ROWS):
        pair.admit(row, nbytes=row + 1)
    for row in range(0, ROWS, 3):
        pair.hit(row)
    for row in range(4):
        pair.queues.victim(lambda row: row % 2 == 1)
    pair.rows.before[3] = pair.rows.after[5] = 7
    for queue in range(QUEUES):
        pair.groups.heads[queue][0] = 99
    pair.groups.used_nbytes[0] = 12345
    pair.rows.queue[11] = 0  # freed meanwhile
    pair.queues.rebuild(range(11))
    check_chains(pair.rows, pair.groups)
    left = set()
    while (victim := pair.queues.victim(lambda row: True)) is not None:
        pair.queues.evicted(victim, victim)
        left.add(victim)
    assert left == set(range(11))


@every_policy
def test_chains_that_were_written_over_are_refused_or_left(policy: str) -> None:
    pair = Pair(policy)
    for row in range(3):
        pair.admit(row)
    for queue in range(QUEUES):
        if pair.groups.tails[queue][0]:
            pair.groups.tails[queue][0] = 999
    with pytest.raises(PlaneCorrupt):
        pair.queues.victim(lambda row: True)


def test_what_is_evicted_and_comes_back_is_kept_beside_a_scan() -> None:
    pair = Pair("s3fifo", 100, limit=10)
    queues, groups = pair.queues, pair.groups

    def make_room() -> None:
        while groups.used_nbytes[0] + 1 > 10:
            victim = queues.victim(lambda row: True)
            assert victim is not None
            queues.evicted(victim, victim)

    for row in [*range(11), 0]:  # 0 goes, and comes again
        make_room()
        pair.rows.nbytes[row] = 1
        queues.admit(row, row)
    for row in range(20, 90):  # read once each
        make_room()
        pair.rows.nbytes[row] = 1
        queues.admit(row, row)
    assert pair.rows.queue[0]


def test_what_is_dear_for_its_size_stays_longer() -> None:
    pair = Pair("s3fifo", 8, limit=8)
    for row, (nbytes, cost) in enumerate([(2, 10), (1, 1_000_000), (2, 10), (2, 10)]):
        pair.admit(row, nbytes, cost)
        pair.hit(row)
    gone = []
    for _ in range(3):
        victim = pair.queues.victim(lambda row: True)
        assert victim is not None
        pair.queues.evicted(victim, victim)
        gone.append(victim)
    assert 1 not in gone


def test_a_hit_of_what_was_hit_stores_nothing() -> None:
    stored: list[int] = []

    class Counted(list[int]):
        def __setitem__(self, row, word):
            stored.append(row)
            super().__setitem__(row, word)

    pair = Pair("s3fifo")
    pair.admit(0)
    pair.rows.seen = Counted(pair.rows.seen)
    for _ in range(3):
        pair.queues.hit(0)
    assert stored == [0]
