"""The arithmetic of rates: no window of time has more units than the terms allow, whatever is granted and given back when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane.manifest.cell_rate import (
    Paid,
    Terms,
    after_grant,
    after_new_terms,
    cost_ns,
    is_sound,
    ready_at,
    refundable_ns,
)

NS = 10**9
TERMS = st.builds(
    Terms,
    limit=st.sampled_from([0.5, 1.0, 3.0, 7.0, 90.0, 90_000.0, 1e9]),
    per=st.sampled_from([0.001, 1.0, 7.0, 60.0, 86_400.0]),
    burst=st.sampled_from([1.0, 2.5, 10.0, 90_000.0]),
).filter(is_sound)


class Rate:
    """A rate on a clock of its own, whose grants remember when they were made and what they have cost in the end."""

    def __init__(self, terms: Terms) -> None:
        self.terms, self.now, self.arrival, self.returned = terms, 10**15, 0, 0
        self.burst = cost_ns(terms, terms.burst)
        self.costs: list[tuple[int, int]] = []  #: when, and the ns that it cost in the end
        self.paid: list[tuple[int, Paid, int]] = []

    def ready_in(self, cost: int) -> int:
        return ready_at(self.arrival, self.now, ahead=0, cost=cost, burst=self.burst) - self.now

    def try_grant(self, amount: float) -> bool:
        cost = cost_ns(self.terms, amount)
        if self.ready_in(cost) > 0:
            return False
        self.arrival = after_grant(self.arrival, self.now, cost)
        self.paid.append((len(self.costs), Paid(self.arrival, self.returned, 1, self.terms), cost))
        self.costs.append((self.now, cost))
        return True

    def give_back(self, which: int, share: float) -> None:
        """One grant has needed less; what it is not refunded counts as used."""
        if not self.paid:
            return
        index, paid, cost = self.paid.pop(which % len(self.paid))
        refund = refundable_ns(paid, self.returned, self.now, int(cost * share))
        self.returned += refund
        self.arrival -= refund
        when, was = self.costs[index]
        self.costs[index] = when, was - refund

    def most_too_much(self) -> int:
        """Of all windows, the ns by which that one which has most has more than it may; 0 or less: none has."""
        worst = 0
        for first, (begin, _) in enumerate(self.costs):
            total = 0
            for when, cost in self.costs[first:]:
                total += cost
                worst = max(worst, total - self.burst - (when - begin))
        return worst


@st.composite
def moves(draw: st.DrawFn) -> tuple[Terms, list[tuple[str, float]]]:
    terms = draw(TERMS)
    share = st.floats(0.0, 1.0)
    move = st.one_of(
        st.tuples(st.just("grant"), share), st.tuples(st.just("settle"), share), st.tuples(st.just("pass"), share)
    )
    return terms, draw(st.lists(move, max_size=40))


@given(moves())
def test_no_window_has_more_than_a_burst_and_what_its_time_allows(drawn: tuple[Terms, list[tuple[str, float]]]) -> None:
    terms, steps = drawn
    rate = Rate(terms)
    for number, (move, share) in enumerate(steps):
        match move:
            case "grant":
                rate.try_grant(max(share, 1e-3) * terms.burst)
            case "settle":
                rate.give_back(number * 7, share)
            case "pass":
                rate.now += int(share * 1.5 * rate.burst)
    assert rate.most_too_much() <= 0


@given(TERMS, st.floats(0.01, 1.0))
def test_what_is_ready_at_a_time_is_granted_then_and_not_a_nanosecond_before(terms: Terms, share: float) -> None:
    rate = Rate(terms)
    assert rate.try_grant(terms.burst)
    cost = cost_ns(terms, share * terms.burst)
    wait = rate.ready_in(cost)
    assert wait == cost
    rate.now += wait - 1
    assert rate.ready_in(cost) == 1
    rate.now += 1
    assert rate.try_grant(share * terms.burst)


@given(TERMS)
def test_a_full_burst_comes_back_after_its_time_and_no_more_than_that(terms: Terms) -> None:
    rate = Rate(terms)
    assert rate.try_grant(terms.burst)
    rate.now += 100 * rate.burst
    assert rate.try_grant(terms.burst)
    assert not rate.try_grant(terms.burst / 2)


def test_what_is_given_back_at_once_can_be_granted_again() -> None:
    rate = Rate(Terms(10, 1, 10))
    assert rate.try_grant(10)
    rate.give_back(0, 0.5)
    assert rate.try_grant(5)
    assert not rate.try_grant(0.001)


def test_nothing_is_given_back_by_a_rate_that_has_been_as_good_as_new_since() -> None:
    rate = Rate(Terms(10, 1, 10))
    assert rate.try_grant(10)
    rate.now += NS
    assert rate.try_grant(10)
    rate.give_back(0, 1.0)
    assert not rate.try_grant(0.001)


@given(TERMS, TERMS, st.floats(0.01, 1.0))
def test_new_terms_leave_as_many_units_to_be_paid_for(old: Terms, new: Terms, share: float) -> None:
    rate = Rate(old)
    assert rate.try_grant(share * old.burst)
    arrival = after_new_terms(rate.arrival, rate.now, old, new)
    owed, units = arrival - rate.now, share * old.burst
    never = cost_ns(new, 1e300)  # in 73 years, which later times count as
    assert arrival == never or units * (1 - 1e-9) <= owed * new.limit / new.per / NS
    assert owed <= cost_ns(new, units) * (1 + 1e-9) + cost_ns(new, 1e-9 * old.limit / old.per) + 2


@pytest.mark.parametrize(
    "terms", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (math.nan, 1, 1), (1, math.inf, 1), (-1, 1, 1), (1e-9, 86_400, 1e9)]
)
def test_terms_that_cannot_be_kept_are_told_apart(terms: tuple[float, float, float]) -> None:
    assert not is_sound(Terms(*terms))


def test_an_amount_of_any_size_has_a_cost_that_fits_a_word() -> None:
    assert after_grant(2**60, 2**60, cost_ns(Terms(1, 60, 1), 1e300)) < 2**63
