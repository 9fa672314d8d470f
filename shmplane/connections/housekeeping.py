"""What the roster decides when nobody asks: lifetimes, idle times, keep-alive, leaks, making way; pure.

Rule 1. ``due`` says when ``sweep`` is to be called again; whatever happens until then falls due later.
Rule 2. Idle connections make way for other processes' waiters at once. A process that has none idle gives
one in use up now and then, so that nobody starves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .records import BUSY, IDLE, OUT, Plan

if TYPE_CHECKING:
    from .roster import Roster

__all__ = ["due", "forget_idle", "sweep"]

YIELD_EVERY = 0.2  #: seconds between two connections in use that make way for other processes
LOOK_ELSEWHERE = 0.25  #: seconds between two looks at other processes' waiters
PUBLISH_EVERY = 0.5  #: seconds between two times that other processes are told what was counted


def sweep(roster: Roster, now: float, elsewhere: int = 0) -> Plan:
    """The housekeeping that is due: lifetimes, idle times, keep-alive, leaks, other processes."""
    plan = Plan()
    roster.plan_close_of_idle(plan, lambda member: member.expires <= now)
    oldest_to_keep = now - roster.limits.max_idle
    while roster.idle and roster.idle[0].since <= oldest_to_keep and len(roster.members) > roster.limits.min_size:
        roster.plan_close(roster.idle.pop(0), plan)
    _make_way(roster, plan, now, elsewhere)
    _keep_alive(roster, plan, now)
    for member in roster.members.values():
        if member.state == OUT and member.reported != member.since and now - member.since >= roster.limits.leak_after:
            member.reported = member.since
            roster.tally.leaked += 1
            plan.leaks.append(member)
    return roster.plan(now, plan)


def due(roster: Roster, now: float) -> float:
    """When ``sweep`` is to be called again. What happens until then falls due later than that."""
    members = roster.members.values()
    times = [
        now + roster.limits.max_idle,
        now + roster.limits.keep_alive,
        now + roster.limits.leak_after,
        now + roster.limits.lifetime * 0.9,
    ]
    times += [m.expires for m in members if m.state == IDLE or m.expires > now]
    times += [m.since + roster.limits.leak_after for m in members if m.state == OUT and m.reported != m.since]
    times += [m.checked + roster.limits.keep_alive for m in roster.idle]
    if roster.idle and len(roster.members) > roster.limits.min_size:
        times.append(roster.idle[0].since + roster.limits.max_idle)
    if roster.backoff.retry_at > now:
        times.append(roster.backoff.retry_at)
    if roster.limits.host_limited:
        times.append(now + LOOK_ELSEWHERE)
    if roster.limits.metered:
        times.append(now + PUBLISH_EVERY)
    return min(times)


def forget_idle(roster: Roster, now: float) -> None:
    """Serve nobody any more, and let the idle connections become garbage: nobody can close them."""
    roster.shut(now)
    for member in list(roster.members.values()):
        if member.state != OUT:
            del roster.members[member.key]
            roster.size -= 1
    roster.idle.clear()


def _make_way(roster: Roster, plan: Plan, now: float, elsewhere: int) -> None:
    if not elsewhere:
        roster.owed = 0
        # Nobody queues for permits: another try costs nothing and may fill up to min_size.
        roster.starving = roster.starving and bool(roster.waiters or roster.until_ready)
        return
    for _ in range(min(elsewhere, len(roster.idle))):
        roster.plan_close(roster.idle.pop(0), plan)
    if roster.members and not plan.close and now - roster.yielded_at >= YIELD_EVERY:
        roster.owed = 1


def _keep_alive(roster: Roster, plan: Plan, now: float) -> None:
    # One at a time: the others stay at hand meanwhile.
    for member in roster.idle:
        if member.checked + roster.limits.keep_alive <= now:
            roster.idle.remove(member)
            member.state = BUSY
            plan.check.append(member)
            return
