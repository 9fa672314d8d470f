"""What both pools have in common: how they are made, pickled and forked, what they tell, and how they do what was decided.

The roster decides, under the pool's lock; the pool carries it out: it runs the user's callables through its engine
(``threads`` or ``tasks``) and books what came of them. Only taking, giving back, checking and resetting stand twice.

Rule 1. The lock is held for decisions only; no callable of the user runs under it.
Rule 2. What the user's callables raise is booked and logged; what a signal handler raises reaches the caller.
Rule 3. Garbage collection may run anywhere, also where this thread holds the lock. So a dropped connection is only noted,
by one call into C; whoever carries out a plan looks at the notes, and so does the housekeeping.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from copy import copy
from functools import partial
from threading import Lock, RLock
from time import monotonic
from typing import Any, TypeVar

from ..errors import PoolTimeout, ShmplaneError
from ..observe import Health
from ..system import immortalise, own
from . import forks, reports
from .host import HOST_THREAD, HostFigures, PermitSeeker, Share, permits_of
from .housekeeping import due, forget_idle, sweep
from .records import OUT, Member, MemberRef, Outcome, Plan, Taken, Waiter, gone
from .reports import ShowsItself
from .roster import Roster
from .settings import Configured, check_sizes
from .statistics import PoolStatistics, judge, statistics_of

__all__ = ["BasePool", "Decision"]

T = TypeVar("T")
Decision = Callable[[Roster, float], Plan]

SHORTEST_SLEEP = 0.02  #: seconds between two rounds of housekeeping, at least
LONGEST_SLEEP = 3600.0
CLOSE_GRACE = 10.0  #: seconds for a connection's goodbye, where it can be cut off: on an event loop

_numbers = itertools.count(1)


class BasePool(ShowsItself, Configured[T]):
    """A pool without its way of waiting."""

    _engine: Any  #: ``Threads`` or ``Tasks``

    def _start(self) -> None:
        self.name: str = self._settings.name or f"pool-{next(_numbers)}"
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        """Start empty: at first, and again in a forked child."""
        self._check, self._reset = self._settings.check, self._settings.reset
        self._lock = RLock()
        self._drops: deque[MemberRef] = deque()  #: to connections that became garbage while they were out
        known = weakref.ref(self)  # weak, or the members would keep their pool alive
        noticed: Callable[[MemberRef], object] = lambda ref: (pool := known()) and pool._on_drop(ref)  # noqa: E731
        self._roster = Roster(self._settings, dropped=self._drops.append, noticed=noticed)
        self._joining = Lock()  #: held while this pool's part in the plane is made, which must be one
        self._share: Share | None = None
        self._seeker: PermitSeeker | None = None
        self._elsewhere = 0  #: how many other processes waited for a permit when it was last looked at
        self._figures = HostFigures(self, self._settings)
        self._inherited: dict[int, Callable[[], Any]] = {}

    # -- what users may ask of both

    def stats(self) -> PoolStatistics:
        """The pool at this moment, and its counts so far."""
        forks.begin_again_if_forked()
        with self._lock:
            return statistics_of(self.name, self._roster)

    def host_stats(self) -> PoolStatistics:
        """``stats`` summed over the pools of this name in all processes that use the plane, also those that have ended.

        Other processes' figures are up to a second old. Without a ``plane`` or a ``name``: the same as ``stats``.
        """
        return self._figures.of_host()

    def health(self) -> Health:
        """Whether the pool is well, and what to do if not."""
        return judge(self.stats(), self._roster.backoff.error)

    def resize(self, max_size: int) -> None:
        """Change ``max_size``, up or down; connections above it are closed as they return."""
        check_sizes(self._roster.limits.min_size, max_size)
        self._engine.in_loop(lambda: self._decide(lambda roster, now: roster.resize(max_size, now)))

    def pause(self) -> None:
        """Hand out nothing until ``resume()``; callers wait, connections can be given back."""
        self._engine.in_loop(self._pause)

    def _pause(self) -> None:
        with self._lock:
            self._roster.pause()

    def resume(self) -> None:
        """Hand out connections again."""
        self._engine.in_loop(lambda: self._decide(Roster.resume))

    # -- which connection is meant

    def _member_of(self, conn: Any) -> Member:
        """The member of a connection that a user gives back."""
        member = self._roster.members.get(id(conn))
        if member is None or member.ref() is not conn:
            raise ValueError(
                f"pool {self.name!r} did not hand out {conn!r}, or it was released already: "
                f"release each connection once, to the pool it came from"
            )
        if member.state != OUT:
            raise ValueError(f"{conn!r} was released to pool {self.name!r} before: release it once")
        return member

    def _is_inherited(self, conn: Any) -> bool:
        ref = self._inherited.get(id(conn))
        return ref is not None and ref() is conn

    # -- deciding, and doing what was decided

    @abstractmethod
    def _decide(self, decision: Decision, *, begins: bool = False) -> Any:
        """Decide under the lock and carry it out; ``begins``: somebody will wait for what follows."""

    def _decide_here(self, decision: Decision, *, begins: bool = False) -> list[Any]:
        with self._lock:
            plan = decision(self._roster, monotonic())
        if begins:
            self._engine.keep()
        closing = self._carry_out(plan)
        if begins:
            self._seek_permit()
        return closing

    def _carry_out(self, plan: Plan, *, apart: bool = False) -> list[Any]:
        """Do what was decided: wake first, since that is quick, close last, since that is slow; what closes, as tasks."""
        self._book_drops()
        for waiter in plan.woken:
            self._engine.wake_waiter(waiter)
        for _ in range(plan.connect):
            self._connect()
        for member in plan.leaks:
            reports.leak(self.name, member, monotonic())
        for member in plan.check:
            self._keep_alive(member)
        return [self._close_member(member, apart=apart) for member in plan.close]

    def _book(self, decision: Decision) -> None:
        """Decide what follows from an outcome; never in the main thread of a pool for threads."""
        self._decide_here(decision)

    def _connect(self) -> None:
        if self._settings.host_limit is None:
            self._open(apart=True)
        else:
            self._engine.ask_host(lambda: self._open_share().try_take(), self._permit_tried)

    def _permit_tried(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._connect_failed(outcome.error)
        elif outcome.value:
            self._open(apart=False)
        else:
            self._book(Roster.unpermitted)
            self._seek_permit()

    def _open(self, *, apart: bool) -> None:
        """Open a connection whose slot, and permit, are taken."""
        started = monotonic()

        def connected(outcome: Outcome) -> None:
            conn, error = outcome
            if error is not None:
                self._open_failed(error)
            elif conn is None:
                self._open_failed(TypeError("connect returned None instead of a connection"))
            elif self._settings.configure is None:
                self._opened(conn, started)
            else:
                self._engine.run(partial(self._settings.configure, conn), partial(configured, conn))

        def configured(conn: Any, outcome: Outcome) -> None:
            if outcome.error is None:
                self._opened(conn, started)
            else:
                self._close_connection(conn, lambda _: None)
                self._open_failed(outcome.error)

        self._engine.run(self._settings.connect, connected, apart=apart)

    def _opened(self, conn: Any, started: float) -> None:
        def opened(roster: Roster, now: float) -> Plan:
            plan = roster.opened(conn, now, now - started)
            member = roster.members.get(id(conn))
            if self._share is not None and member is not None and isinstance(member.ref, MemberRef):
                self._share.refs[member.key] = member.ref
            return plan

        self._book(opened)

    def _open_failed(self, error: BaseException) -> None:
        self._give_permit_back()
        self._connect_failed(error, of_user=True)

    def _connect_failed(self, error: BaseException, *, of_user: bool = False) -> None:
        reports.log.warning("pool %r: connecting failed: %s", self.name, repr(error))
        # The plane is gone, or other processes use the name with another limit: no waiting cures that.
        is_hopeless = not of_user and isinstance(error, ShmplaneError) and not error.retryable
        self._book(lambda roster, now: roster.failed(error, now, is_hopeless=is_hopeless))
        self._engine.wake()  # the housekeeping tries again when the back-off is over

    def _keep_alive(self, member: Member) -> None:
        def booked(outcome: Outcome) -> None:
            if outcome.error is not None:
                reports.log.info("pool %r: an idle connection is gone: %s", self.name, repr(outcome.error))
            passed = outcome.error is None and outcome.value is not False
            self._book(lambda roster, now: (roster.checked if passed else roster.discard)(member, now))

        check = self._settings.check or (lambda _: True)
        self._engine.run(partial(check, member.conn), booked, apart=True, grace=CLOSE_GRACE)

    def _close_member(self, member: Member, *, apart: bool) -> Any:
        def booked(_: Outcome) -> None:
            self._give_permit_back()
            self._book(Roster.was_closed)

        conn, ref, member.conn = member.conn, member.ref, None
        member.ref, member.notice = gone, None  # what dies from now on was not dropped
        if self._share is not None and isinstance(ref, MemberRef):
            self._share.refs.pop(ref.key, None)
        return self._close_connection(conn, booked, apart=apart)

    def _close_connection(self, conn: Any, then: Callable[[Outcome], object], *, apart: bool = False) -> Any:
        def booked(outcome: Outcome) -> None:
            if outcome.error is not None:
                reports.log.warning("pool %r: closing a connection failed: %s", self.name, repr(outcome.error))
            then(outcome)

        close = partial(self._settings.close or self._engine.close, conn)
        return self._engine.run(close, booked, apart=apart, must_finish=True, grace=CLOSE_GRACE)

    def _end_use(
        self, member: Member, conn: Any, *, was: int, taken: Taken, then: Callable[[Member, float], Plan]
    ) -> Any:
        """Decide on a connection that came back, unless that was done before an interrupt.

        ``taken`` is what its user took it with: only here, under the lock, can it be said that nobody else has it by now.
        """

        def decide(roster: Roster, now: float) -> Plan:
            if member.state != was or member.taken is not taken or roster.members.get(member.key) is not member:
                return roster.plan(now)
            member.conn = conn
            return then(member, now)

        return self._decide(decide)

    def _book_drops(self) -> None:
        """Give the slots and permits of dropped connections back."""
        while self._drops:
            plans = []
            with self._lock:
                while self._drops:
                    ref = self._drops.popleft()
                    member = self._roster.members.get(ref.key)
                    if member is not None and member.ref is ref:
                        plans.append(self._roster.was_dropped(ref, monotonic()))
                        if self._share is not None:
                            self._share.refs.pop(ref.key, None)
            for plan in plans:
                self._give_permit_back()
                self._carry_out(plan)

    # -- housekeeping

    def _sweep(self) -> float | None:
        """Do the housekeeping that is due; seconds until the next round, None when there will be none."""
        if self._share is not None and not self._roster.closed:
            self._engine.tell_host(self._look_elsewhere)
        with self._lock:
            roster, now = self._roster, monotonic()
            plan = sweep(roster, now, self._elsewhere)
            next_round = due(roster, now)
            is_over = roster.closed and not roster.size
        self._carry_out(plan, apart=True)
        self._seek_permit()
        self._engine.tell_host(self._figures.publish)
        if is_over:
            return None
        return min(max(next_round - monotonic(), SHORTEST_SLEEP), LONGEST_SLEEP)

    def _say_goodbye(self) -> None:
        """The pool is closed: say who still has connections, or leave the permits to others."""
        with self._lock:
            left = reports.holders_of(self._roster, monotonic())
        if left:
            reports.log.warning("pool %r closed while in use by: %s", self.name, "; ".join(left))
        elif self._share is not None and self._roster.size == 0:
            self._share.end()
            self._share = None

    # -- what the plane has of it

    def _open_share(self) -> Share:
        """This pool's part in the permits; may have to wait for the plane."""
        with self._joining:
            # Two parts would each know of their own permits only, and those of the lost one never came back.
            if self._share is None:
                settings = self._settings
                share = Share(permits_of(settings.plane, self.name, settings.host_limit or 0))
                HOST_THREAD.watch(self, share.end)
                self._share = share
            return self._share

    def _give_permit_back(self) -> None:
        if self._share is not None:
            self._engine.tell_host(self._share.release)

    def _look_elsewhere(self) -> None:
        share = self._share
        try:
            self._elsewhere = 0 if share is None else share.waiting_elsewhere()
        except own(ShmplaneError) as error:
            reports.log.debug("pool %r: cannot see who waits elsewhere: %s", self.name, repr(error))
            self._elsewhere = 0

    def _seek_permit(self) -> None:
        if self._roster.seeks_permit and self._share is not None:
            with self._lock:
                if self._seeker is None:
                    self._seeker = PermitSeeker(
                        self._share,
                        wanted=self._wants_permit,
                        found=partial(self._engine.hand_over, self._permit_came),
                        failed=self._permits_are_gone,
                    )
            self._seeker.seek()

    # The seeker's thread calls these.

    def _wants_permit(self) -> bool:
        return self._roster.seeks_permit and not self._is_lost()

    def _permit_came(self) -> None:
        with self._lock:
            is_wanted = self._roster.permitted(monotonic())
        if is_wanted:
            self._open(apart=True)
        else:
            self._give_permit_back()

    def _permits_are_gone(self, error: BaseException) -> None:
        self._engine.hand_over(lambda: self._book(lambda roster, now: roster.gave_up(error, now)))

    # -- errors

    def _refuse_if_closed(self) -> None:
        if self._roster.closed:
            raise reports.closed_error(self.name)

    def _refusal(self, waiter: Waiter) -> BaseException:
        """Why no connection will come."""
        error = waiter.error
        if error is None:
            return reports.closed_error(self.name)
        own = copy(error)  # others raise it as well, each with a traceback of its own
        own.__cause__ = error
        return own

    def _timeout_error(self, waiter: Waiter) -> PoolTimeout:
        with self._lock:
            self._roster.tally.timeouts += 1
            now = monotonic()
            return reports.timeout_error(self.name, self._roster, now - waiter.since, now)

    # -- fork and garbage

    def _after_fork_in_child(self) -> None:
        """Forget the parent's connections, without a goodbye to anybody, and begin again."""
        members = list(self._roster.members.values())
        inherited = {**self._inherited, **{member.key: member.ref for member in members if member.state == OUT}}
        closed = self._roster.closed
        found = [member.ref() if member.conn is None else member.conn for member in members]
        immortalise([thing for thing in (*found, self._share) if thing is not None])
        self._begin()
        self._inherited = inherited
        if closed:
            self._roster.shut(monotonic())

    def _is_lost(self) -> bool:
        """Whether the event loop was closed, so that the pool cannot be used any more; threads are never lost."""
        return False

    def _forget_idle(self) -> None:
        """The event loop is closed: idle connections can be dropped, and nothing else."""
        with self._lock:
            forget_idle(self._roster, monotonic())

    def _on_drop(self, ref: MemberRef) -> Any:
        member = self._roster.members.get(ref.key)
        if member is not None and member.notice is ref and not sys.is_finalizing():
            self._engine.wake()
            # Last: a warning that was turned into an error must not cost the slot.
            reports.warn_dropped(self.name, member.taken)
