"""Rates in shared memory: their terms, whose turn it is, and what the dead leave."""

from __future__ import annotations

import pytest

from shmplane import PlaneCorrupt
from shmplane.manifest import NO_TICKET, Coordination, Manifest, Terms
from shmplane.manifest.rates import Rates
from tests.manifest.test_permits import process

TERMS = Terms(10.0, 1.0, 10.0)


class Process:
    """What the process of a slot sees."""

    def __init__(self, manifest: Manifest, slot: int) -> None:
        self.line: Coordination = process(manifest, slot)
        self.rates = Rates(manifest, self.line)
        self.row = self.rates.open(b"r:x", TERMS)
        self.rates.wish(self.row, 0)

    def stand_in_line(self, cost: int) -> int:
        ticket = self.line.new_ticket()
        self.line.show_ticket(self.row, ticket)
        self.rates.wish(self.row, cost)
        return ticket


@pytest.fixture
def processes(manifest: Manifest) -> list[Process]:
    return [Process(manifest, slot) for slot in range(4)]


def test_terms_are_what_was_written(processes: list[Process]) -> None:
    one = processes[0]
    assert one.rates.terms(one.row) == TERMS
    for limit in (20.0, 1 / 3, 40.0):
        one.rates.change_terms(one.row, Terms(limit, 60.0, 1.5))
        assert processes[1].rates.terms(one.row) == Terms(limit, 60.0, 1.5)


def test_terms_that_somebody_wrote_over_are_corrupt(processes: list[Process], manifest: Manifest) -> None:
    one = processes[0]
    for column in manifest.semaphores.limit:
        column[one.row] = 2**64 - 1
    with pytest.raises(PlaneCorrupt, match="wrote over"):
        one.rates.terms(one.row)


def test_a_rate_that_no_process_uses_takes_new_terms_and_still_owes_what_it_granted(processes: list[Process]) -> None:
    one = processes[0]
    one.rates.grant(one.row, TERMS, 10)
    assert one.rates.open(b"r:x", Terms(5.0, 1.0, 5.0)) == one.row
    assert one.rates.terms(one.row) == TERMS
    for each in processes:
        each.rates.forget(one.row)
    new = Terms(1000.0, 1.0, 1000.0)
    assert one.rates.open(b"r:x", new) == one.row
    assert one.rates.terms(one.row) == new
    assert 989 < one.rates.available(one.row, new) < 1000


def test_the_row_of_a_rate_goes_to_no_other_name_before_its_grants_are_paid_for(
    processes: list[Process], manifest: Manifest
) -> None:
    one = processes[0]
    one.rates.grant(one.row, TERMS, 10)
    for each in processes:
        each.rates.forget(one.row)
    assert one.line.is_used(one.row)
    for column in manifest.semaphores.arrival:
        column[one.row] = max(0, column[one.row] - 2 * 10**9)
    assert not one.line.is_used(one.row)


def test_who_stands_in_line_comes_before_who_does_not(processes: list[Process]) -> None:
    first, second, third, fourth = processes
    row, one, two = first.row, processes[2].stand_in_line(5), processes[1].stand_in_line(7)
    assert third.rates.is_first(row, one, 0)
    assert not second.rates.is_first(row, two, 0)
    assert not fourth.rates.is_first(row, NO_TICKET, 0)
    assert not third.rates.is_first(row, one, 1), "somebody of its own process comes before it"
    assert first.rates.wished(row) == 12


def test_who_does_not_look_for_a_second_is_passed_over_and_comes_first_when_it_goes_on(
    processes: list[Process], manifest: Manifest
) -> None:
    stopped, other = processes[1], processes[2]
    row, its, ticket = other.row, stopped.stand_in_line(5), other.stand_in_line(7)
    assert stopped.rates.is_first(row, its, 0)
    assert not other.rates.is_first(row, ticket, 0)
    manifest.semaphores.freed[row] -= 1_000_000_001
    assert other.rates.is_first(row, ticket, 0)
    assert processes[0].rates.wished(row) == 7
    stopped.line.show_ticket(row, its)
    assert not other.rates.is_first(row, ticket, 0)
    assert stopped.rates.is_first(row, its, 0)


def test_a_dead_process_leaves_the_line_and_the_next_one_is_woken(processes: list[Process], manifest: Manifest) -> None:
    one, dead, next_ = processes[0], processes[1], processes[2]
    dead.stand_in_line(5)
    ticket = next_.stand_in_line(7)
    one.line.woken.clear()
    assert one.line.clear(1) == 0, "no permit was held"
    assert one.line.woken == {2}
    assert next_.rates.is_first(one.row, ticket, 0)
    assert one.rates.wished(one.row) == 7
    assert manifest.wish_row(1)[one.row] == 0


def test_what_is_given_back_wakes_the_first_of_the_line(processes: list[Process]) -> None:
    one = processes[0]
    paid = one.rates.grant(one.row, TERMS, 10)
    processes[3].stand_in_line(5)
    processes[2].stand_in_line(5)
    one.line.woken.clear()
    one.rates.settle(one.row, paid, 10, 4)
    assert one.line.woken == {3}
    assert 5.9 < one.rates.available(one.row, TERMS) < 7


def test_what_cost_more_is_owed(processes: list[Process]) -> None:
    one = processes[0]
    paid = one.rates.grant(one.row, TERMS, 1)
    one.rates.settle(one.row, paid, 1, 20)
    assert one.rates.available(one.row, TERMS) == 0
    assert one.rates.ready_at(one.row, TERMS, 10, 0) > one.rates.ready_at(one.row, TERMS, 1, 0)


def test_a_process_that_joins_in_the_slot_of_another_wishes_for_nothing(
    processes: list[Process], manifest: Manifest
) -> None:
    manifest.wish_row(1)[processes[0].row] = 7
    manifest.processes.coordinates[1] = 0
    process(manifest, 1)
    assert manifest.wish_row(1)[processes[0].row] == 0
