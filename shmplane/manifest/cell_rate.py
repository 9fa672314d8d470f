"""The generic cell rate algorithm, as arithmetic on whole nanoseconds of the monotonic clock. Pure.

The state of a rate is one time, its *arrival*: when all that was granted will be paid for, at ``per / limit`` seconds a unit.
A grant moves it on by the cost of its units; it is allowed while the arrival then lies no further ahead than the cost of a
whole burst. So in any window of time at most ``burst + limit x time`` units are granted, and an arrival in the past says that
the rate is as good as new.

Giving back what was not used is allowed as far as the past could have been like that: a rate whose debt has gone meanwhile
has nothing to give back, or a window would have had more than a burst. What says so without a history: the arrival right
after the grant, less whatever anybody gave back since, is the least that the arrival has been from then on.

Costs are rounded up to 1 ns, so a rate is never faster than it says; below 1 us a unit it is slower, by up to 1 ns a grant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = [
    "Paid",
    "Terms",
    "after_grant",
    "after_new_terms",
    "cost_ns",
    "is_payable",
    "is_sound",
    "ready_at",
    "refundable_ns",
]

#: what a burst may cost at most: a year, which a word of nanoseconds has room for many times
LONGEST_BURST_S = 366 * 86_400.0
#: 73 years: above all times that occur, and more counts as this
_NEVER = 1 << 61


class Terms(NamedTuple):
    """At most ``limit`` units in ``per`` seconds, ``burst`` of them at once."""

    limit: float
    per: float
    burst: float


class Paid(NamedTuple):
    """What a grant has to know to be settled later: the rate's arrival right after it, and all it had got back by then.

    Attributes:
        era: how often the terms had changed; what is granted before such a change is not given back after it.
        terms: as they were.
    """

    arrival: int
    returned: int
    era: int
    terms: Terms


def is_sound(terms: Terms) -> bool:
    """Whether the terms are positive numbers, a burst is paid for within a year, and a unit in more than no time."""
    limit, per, burst = terms
    if not (0.0 < limit < math.inf and 0.0 < per < math.inf and 0.0 < burst < math.inf):
        return False
    # Both, since what is owed is counted in units and in time.
    if not (limit / per < math.inf and per / limit > 0.0):
        return False
    return burst * per / limit <= LONGEST_BURST_S


def cost_ns(terms: Terms, amount: float) -> int:
    """How far ``amount`` units move the arrival on."""
    limit, per, _ = terms
    cost = amount * per * 1e9 / limit
    return math.ceil(cost) if cost < _NEVER else _NEVER


def ready_at(arrival: int, now: int, *, ahead: int, cost: int, burst: int) -> int:
    """When units of that cost can be granted, those that cost ``ahead`` being granted first; ``now`` or before: at once."""
    return max(arrival, now) + ahead + cost - burst


def is_payable(terms: Terms, amount: float) -> bool:
    """Whether so many units are paid for within the time that a burst may take."""
    return amount * terms.per / terms.limit <= LONGEST_BURST_S


def after_grant(arrival: int, now: int, cost: int) -> int:
    """The arrival once units of that cost are granted."""
    return min(max(arrival, now) + cost, _NEVER)


def after_new_terms(arrival: int, now: int, old: Terms, new: Terms) -> int:
    """The arrival when the terms change: as many units are to be paid for as before, at the new price."""
    debt = max(0, arrival - now) * (old.limit / old.per) * (new.per / new.limit)
    return min(now + math.ceil(min(debt, float(_NEVER))), _NEVER)


def refundable_ns(paid: Paid, returned: int, now: int, unused: int) -> int:
    """How far the arrival may go back for units of the cost ``unused`` that a grant did not need.

    Args:
        returned: all that the rate has got back by now.
    """
    least_debt = paid.arrival - (returned - paid.returned) - now
    return max(0, min(unused, least_debt))
