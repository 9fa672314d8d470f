"""The roster: who holds which connection, who waits, and what to do next. It decides; it does nothing.

Rule 1. No clock, no lock, no thread, no I/O: time and chance are arguments, what is to be done is returned
as a Plan. The pool holds its lock around every call and carries the plan out after it.
Rule 2. Waiters are served in the order they came; the idle connection used last is handed out first.
Rule 3. A slot (``size``) is taken when a connect is planned and given back when its connection *was* closed,
so that never more than ``max_size`` are open, not even for the length of a goodbye.
Rule 4. Idle connections and waiters do not coexist while the pool serves. ``needs_no_plan`` is true while giving a
connection back needs no decision: nobody waits, nothing is owed, nothing is above ``max_size``. Every change that could
make it false goes through ``plan``.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from random import random
from typing import Any

from .backoff import Backoff
from .records import BUSY, IDLE, OUT, Member, MemberRef, Plan, Taken, Waiter
from .settings import Limits, Settings
from .statistics import BOUNDS, Tally

__all__ = ["Roster"]

PARALLEL_CONNECTS = 16  #: most connects under way at once
LIFETIME_JITTER = 0.1  #: share of the lifetime that is left to chance, so that not all expire at once
QUICK = BOUNDS[0]

_since = attrgetter("since")


class Roster:
    """The state of one pool in one process."""

    __slots__ = (
        "_chance", "_dropped", "_noticed", "backoff", "closed", "connecting", "hopeless", "idle", "limits",
        "max_size", "members", "needs_no_plan", "overdue", "owed", "quick_seconds", "quick_uses", "serving",
        "size", "started", "starving", "tally", "until_empty", "until_ready", "waiters", "yielded_at",
    )  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        *,
        dropped: Callable[[Any], object],
        noticed: Callable[[Any], object] | None = None,
        chance: Callable[[], float] = random,
    ) -> None:
        self.limits: Limits = Limits.of(settings)
        self.max_size: int = settings.max_size
        self._dropped = dropped  #: called when a connection becomes garbage while it is out
        self._noticed = noticed  #: called as well, to warn
        self._chance = chance
        self.members: dict[int, Member] = {}  #: open and not closing, by id of the connection
        self.idle: list[Member] = []  #: oldest first
        self.overdue: list[Member] = []  #: met by ``take`` after they had expired
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.until_ready: list[Waiter] = []  #: callers of ``wait``
        self.until_empty: list[Waiter] = []  #: callers of ``close``
        self.size: int = 0  #: slots in use: open, connecting or closing
        self.connecting: int = 0
        self.serving: bool = True  #: neither paused nor closed
        self.closed: bool = False
        self.needs_no_plan: bool = True
        self.started: bool = False  #: used at least once, so min_size holds
        self.backoff: Backoff = Backoff(chance)
        self.starving: bool = False  #: the host's permits are all taken
        self.hopeless: bool = False  #: the last try failed for a reason that no waiting cures
        self.owed: int = 0  #: connections in use that should make way for other processes
        self.yielded_at: float = -math.inf
        self.tally: Tally = Tally()
        self.quick_uses: int = 0  #: the first bucket of the tally's ``use``, kept here for speed
        self.quick_seconds: float = 0.0

    # -- the hot path

    def take(self, now: float, taken: Taken) -> Any:
        """The idle connection that was used last, or None."""
        # Here and in ``give``, no call stands between stores that belong together: Ctrl-C comes after calls only.
        if not self.serving:
            return None
        idle = self.idle
        while idle:
            member = idle[-1]
            if member.expires > now:
                del idle[-1]
                member.state = OUT
                member.since = now
                member.taken = taken
                conn = member.conn
                member.conn = member.anchor
                return conn
            self.needs_no_plan = False
            del idle[-1]
            self.overdue.append(member)
        return None

    def give(self, member: Member, conn: Any, now: float) -> bool:
        """Take a connection back; False when ``plan`` has to say what follows."""
        used = now - member.since
        member.conn = conn
        member.state = IDLE
        member.since = now
        member.fresh = False
        if used <= QUICK:
            self.quick_uses += 1
            self.quick_seconds += used
            self.idle.append(member)
        else:
            self.idle.append(member)
            self.tally.used(used)
        return self.needs_no_plan and member.expires > now

    def pass_on(self, member: Member, conn: Any, now: float) -> Waiter | None:
        """Fast path: hand the connection to the longest waiter. None when anything else has to be decided."""
        is_due = self.idle or self.owed or self.overdue or member.expires <= now or self.has_surplus
        if is_due or not self.serving or not self.waiters:
            return None
        self.tally.used(now - member.since)
        waiter, _ = self.waiters.popitem(last=False)
        member.conn = conn
        member.since = now
        member.taken = waiter.taken
        member.fresh = False
        waiter.member, waiter.done = member, True
        self.tally.waited(now - waiter.since)
        self.needs_no_plan = not self.waiters
        return waiter

    # -- waiters

    def is_full(self) -> bool:
        """Whether one more waiter would be too many: beside those whom slots that nobody uses are going to serve."""
        if len(self.waiters) < self.limits.max_waiting or self.starving:
            # A starving pool has free slots, but the host has no permits for them.
            return len(self.waiters) >= self.limits.max_waiting
        in_use = sum(member.state == OUT for member in self.members.values())
        return len(self.waiters) >= self.limits.max_waiting + max(0, self.max_size - in_use)

    def queue(self, waiter: Waiter, now: float, *, first: bool = False) -> Plan:
        """Add a waiter: last, or first when its connection failed the check."""
        self.started = True
        if self.hopeless:
            self.backoff.retry_at = -math.inf  # ask again at once, to raise what is the case now
        self.waiters[waiter] = None
        if first:
            self.waiters.move_to_end(waiter, last=False)
        if self.serving and self.size >= self.max_size and not (self.idle or self.overdue or self.has_surplus):
            # All are in use: nothing follows but that the next one given back is this one's or an earlier one's.
            self.needs_no_plan = False
            return Plan()
        return self.plan(now)

    def abandon(self, waiter: Waiter, now: float) -> Plan:
        """A waiter gave up. What it was handed in the meantime goes to the next one."""
        if waiter.member is not None:
            member, waiter.member = waiter.member, None
            self.give(member, member.conn, now)
        else:
            self.waiters.pop(waiter, None)
        return self.plan(now)

    def receive(self, waiter: Waiter) -> Any:
        """The connection of a waiter that was served; from now on only the caller holds it."""
        member, waiter.member = waiter.member, None
        if member is None:
            return None
        conn = member.conn
        member.conn = member.anchor
        return conn

    # -- connections

    def opened(self, conn: Any, now: float, took: float) -> Plan:
        """A planned connect succeeded after ``took`` seconds."""
        self.connecting -= 1
        self.hopeless = False
        self.backoff.succeeded()
        self.tally.connected(took)
        lifetime = self.limits.lifetime * (1 - LIFETIME_JITTER * self._chance())
        member = Member(conn, now, now + lifetime, self._dropped, self._noticed)
        self.members[member.key] = member
        self._rest(member)
        return self.plan(now)

    def failed(self, error: BaseException, now: float, *, is_hopeless: bool = False) -> Plan:
        """A planned connect failed: give its slot back, wait a little longer than the last time."""
        self.connecting -= 1
        self.size -= 1
        self.tally.connect_errors += 1
        self.backoff.failed(error, now)
        return self.gave_up(error, now) if is_hopeless else self.plan(now)

    def gave_up(self, error: BaseException, now: float) -> Plan:
        """No connection can be had for a reason that no waiting cures: who waits hears of it at once."""
        plan = Plan()
        self._refuse([*self.waiters, *self.until_ready], plan, error)
        self.hopeless = True
        self.starving = False
        return self.plan(now, plan)

    def _refuse(self, waiters: list[Waiter], plan: Plan, error: BaseException | None = None) -> None:
        for waiter in waiters:
            waiter.error = error
            waiter.refused = waiter.done = True
        plan.woken += waiters
        self.waiters.clear()
        self.until_ready.clear()

    def settle(self, member: Member, now: float, *, fit: bool) -> Plan:
        """A connection came back and the pool worked on it: use it again, or close it."""
        if fit:
            self.give(member, member.conn, now)
            return self.plan(now)
        self.tally.used(now - member.since)
        return self.discard(member, now)

    def discard(self, member: Member, now: float) -> Plan:
        """Close a member that is out or busy, because it is broken."""
        self.tally.discarded += 1
        plan = Plan()
        self.plan_close(member, plan)
        return self.plan(now, plan)

    def checked(self, member: Member, now: float) -> Plan:
        """A keep-alive check succeeded: back to where it was among the idle."""
        member.checked = now
        self._rest(member)
        return self.plan(now)

    def was_closed(self, now: float) -> Plan:
        """A connection that a plan said to close is closed; its slot is free."""
        self.size -= 1
        self.tally.closed += 1
        return self.plan(now)

    def was_dropped(self, ref: MemberRef, now: float) -> Plan:
        """A connection became garbage while it was out; its slot is free."""
        member = self.members.get(ref.key)
        # The key may belong to a newer connection at the same address by now.
        if member is not None and member.ref is ref:
            del self.members[ref.key]
            self.tally.dropped += 1
            self.size -= 1
        return self.plan(now)

    # -- the permits of the host

    def unpermitted(self, now: float) -> Plan:
        """A planned connect got no permit: nothing is opened until one comes."""
        self.connecting -= 1
        self.size -= 1
        self.starving = True
        return self.plan(now)

    def permitted(self, now: float) -> bool:
        """A permit came; True when a connect is to use it, which has its slot then."""
        self.starving = False
        if not self._wanted(now):
            return False
        self.connecting += 1
        self.size += 1
        return True

    @property
    def seeks_permit(self) -> bool:
        """Whether somebody waits for a connection that only a permit can bring."""
        return self.starving and not self.closed and bool(self.waiters or self.until_ready)

    # -- orders of the owner

    def start(self, now: float) -> Plan:
        """From now on keep ``min_size`` open."""
        self.started = True
        return self.plan(now)

    def drain(self, now: float) -> Plan:
        """Replace every connection: idle ones now, the others when they return."""
        for member in self.members.values():
            member.expires = -math.inf
        plan = Plan()
        self.plan_close_of_idle(plan, lambda _: True)
        return self.plan(now, plan)

    def resize(self, max_size: int, now: float) -> Plan:
        """Change the limit; idle connections above it are closed, others when they return."""
        self.max_size = max_size
        return self.plan(now)

    def pause(self) -> None:
        """Hand out nothing until ``resume``."""
        self.serving = self.needs_no_plan = False

    def resume(self, now: float) -> Plan:
        """Hand out again."""
        self.serving = not self.closed
        return self.plan(now)

    def shut(self, now: float) -> Plan:
        """Hand out nothing any more: refuse the waiters, close what is idle or comes back."""
        self.closed = True
        self.serving = self.needs_no_plan = False
        plan = Plan()
        self._refuse([*self.waiters, *self.until_ready], plan)
        return self.plan(now, plan)

    # -- decisions

    @property
    def is_ready(self) -> bool:
        """Whether ``min_size`` connections are open."""
        return len(self.members) >= self.limits.min_size

    @property
    def has_surplus(self) -> bool:
        """Whether more are open or connecting, those being closed aside, than ``resize`` allows."""
        return len(self.members) + self.connecting > self.max_size

    def plan(self, now: float, plan: Plan | None = None, *, refused: int = 0) -> Plan:
        """What follows from the state as it is: hand out, close, open, wake."""
        plan = Plan() if plan is None else plan
        for member in self.overdue:
            self.plan_close(member, plan)
        self.overdue.clear()
        if self.closed:
            self.plan_close_of_idle(plan, lambda _: True)
        self._hand_out(plan, now)
        while self.idle and self.has_surplus:
            self.plan_close(self.idle.pop(0), plan)
        self._open(plan, now, refused)
        self._wake_watchers(plan)
        self.needs_no_plan = self.serving and not (self.waiters or self.owed or self.has_surplus)
        return plan

    def _hand_out(self, plan: Plan, now: float) -> None:
        # What was just opened serves somebody first, or two processes would only hand permits to each other.
        while self.owed and self.idle and not self.idle[-1].fresh:
            self.plan_close(self.idle.pop(), plan)
            self.owed -= 1
            self.yielded_at = now
        while self.serving and self.waiters and self.idle and not self.has_surplus:
            member = self.idle.pop()
            # What was just opened is handed out however short its life is.
            if member.expires <= now and not member.fresh:
                self.plan_close(member, plan)
                continue
            waiter, _ = self.waiters.popitem(last=False)
            member.state = OUT
            member.since = now
            member.taken = waiter.taken
            waiter.member, waiter.done = member, True
            self.tally.waited(now - waiter.since)
            plan.woken.append(waiter)
        if self.idle and self.idle[-1].expires <= now and not self.idle[-1].fresh:
            self.plan_close(self.idle.pop(), plan)

    def _wanted(self, now: float, refused: int = 0) -> int:
        if not self.serving or self.starving or now < self.backoff.retry_at:
            return 0
        need = len(self.waiters) + refused - self.connecting
        floor = self.limits.min_size - self.size if self.started else 0
        room = min(self.max_size - self.size, PARALLEL_CONNECTS - self.connecting)
        return max(0, min(max(need, floor), room))

    def _open(self, plan: Plan, now: float, refused: int) -> None:
        count = self._wanted(now, refused)
        plan.connect += count
        self.connecting += count
        self.size += count

    def _wake_watchers(self, plan: Plan) -> None:
        for watchers, is_so in ((self.until_ready, self.is_ready), (self.until_empty, self.size == 0)):
            if watchers and is_so:
                for waiter in watchers:
                    waiter.done = True
                plan.woken += watchers
                watchers.clear()

    def _rest(self, member: Member) -> None:
        member.state = IDLE
        if self.idle and self.idle[-1].since > member.since:
            insort(self.idle, member, key=_since)
        else:
            self.idle.append(member)

    def plan_close(self, member: Member, plan: Plan) -> None:
        """Let a member be closed."""
        member.state = BUSY
        self.members.pop(member.key, None)
        plan.close.append(member)

    def plan_close_of_idle(self, plan: Plan, which: Callable[[Member], bool]) -> None:
        """Let the idle members be closed of which this is true."""
        for member in [member for member in self.idle if which(member)]:
            self.idle.remove(member)
            self.plan_close(member, plan)
