"""What both pools have in common: how they are made, pickled and forked, and what they tell."""

from __future__ import annotations

import itertools
import sys
import weakref
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import fields
from threading import Lock, RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from shmplane.connections import forks
from shmplane.connections.health import Health, judge
from shmplane.connections.holders import closed_error, describe, log, warn_dropped
from shmplane.connections.member import OUT, Member, MemberRef
from shmplane.connections.metering import HostMeter, meter_of, publish_at_exit, statistics_of_words, words_of
from shmplane.connections.permits import HostPermits, permits_of
from shmplane.connections.roster import Roster
from shmplane.connections.settings import Settings
from shmplane.connections.statistics import PoolStatistics, statistics_of
from shmplane.errors import ShmplaneError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Front"]

T = TypeVar("T")

_numbers = itertools.count(1)


class Front(ABC, Generic[T]):
    """A pool without its way of waiting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name: str = settings.name or f"pool-{next(_numbers)}"
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        """Start empty: at first, and again in a forked child."""
        self._lock = RLock()
        self._drops: deque[MemberRef] = deque()
        self._roster = Roster(self._settings, dropped=_drop_handler(self))
        self._joining = Lock()  #: held while this pool's part in the plane is made, which must be one
        self._permits: HostPermits | None = None
        self._is_blind: bool = False  #: said so already: the plane cannot be asked who waits elsewhere
        self._meter: HostMeter | None = None
        self._published: list[int] = []
        self._inherited: dict[int, Callable[[], Any]] = {}

    # -- what users may ask of both

    def stats(self) -> PoolStatistics:
        """The pool at this moment, and its counts so far."""
        with self._lock:
            return statistics_of(self.name, self._roster)

    def host_stats(self) -> PoolStatistics:
        """``stats`` summed over the pools of this name in all processes that use the plane, also those that have ended.

        Other processes' figures are up to a second old. Without a ``plane`` or a ``name``: the same as ``stats``.
        """
        meter = self._open_meter()
        if meter is None:
            return self.stats()
        meter.publish(words_of(self.stats()))
        return statistics_of_words(self.name, meter.total())

    def health(self) -> Health:
        """Whether the pool is well, and what to do if not."""
        return judge(self.stats(), self._roster.backoff.error)

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if stats.is_closed else f"{stats.used} used, {stats.idle} idle, {stats.waiting} waiting"
        return f"<{type(self).__name__} {self.name!r}: {state}, at most {stats.max_size}>"

    def __reduce__(self) -> tuple[Any, ...]:
        settings = self._settings
        return _rebuild, (
            type(self),
            {field.name: getattr(settings, field.name) for field in fields(settings)},
        )

    @classmethod
    def _of(cls, settings: Settings) -> Self:
        pool = cls.__new__(cls)
        Front.__init__(pool, settings)
        return pool

    # -- for the shells

    def _member_of(self, conn: Any) -> Member:
        """The member of a connection that a user gives back."""
        member = self._roster.members.get(id(conn))
        if member is None or member.ref() is not conn:
            raise ValueError(
                f"pool {self.name!r} did not hand out {conn!r}, or it was released already: "
                f"release each connection once, to the pool it came from"
            )
        return member

    def _is_inherited(self, conn: Any) -> bool:
        ref = self._inherited.get(id(conn))
        return ref is not None and ref() is conn

    def _open_permits(self) -> HostPermits | None:
        settings = self._settings
        if settings.host_limit is None or self._permits is not None:
            return self._permits
        with self._joining:
            # Two parts would each know of their own permits only, and those of the lost one never came back.
            if self._permits is None:
                self._permits = permits_of(settings.plane, self.name, settings.host_limit)
            return self._permits

    def _refuse_if_hopeless(self) -> None:
        """Raise at once what no waiting cures: the pool is closed, the host has another limit, the plane is gone."""
        if self._roster.closed:
            raise closed_error(self.name)
        try:
            permits = self._open_permits()
            if permits is not None:
                permits.waiting_elsewhere()
        except ShmplaneError as error:
            if not error.retryable:
                raise

    def _waiting_elsewhere(self) -> int:
        permits = self._permits
        if permits is None or self._roster.closed:
            return 0
        try:
            return permits.waiting_elsewhere()
        except Exception as error:  # noqa: BLE001  the housekeeping goes on without the plane
            if not self._is_blind:
                log.warning("pool %r: cannot see who waits elsewhere: %r", self.name, error)
            self._is_blind = True
            return 0

    def _open_meter(self) -> HostMeter | None:
        settings = self._settings
        if self._meter is None and settings.plane is not None and settings.name is not None:
            with self._joining:
                if self._meter is None:
                    self._meter = meter_of(settings.plane, settings.name)
            publish_at_exit(self)
        return self._meter

    def _publish(self) -> None:
        """Say to all processes what was counted so far; never raises."""
        try:
            meter = self._open_meter()
            if meter is None:
                return
            words = words_of(self.stats())
            if words != self._published:
                meter.publish(words)
                self._published = words
            if self._roster.closed and not self._roster.size:
                meter.close()
        except Exception as error:  # noqa: BLE001  a pool works without its plane's figures
            log.debug("pool %r: its counts reach no other process: %r", self.name, error)

    def _give_permit_back(self) -> None:
        if self._permits is not None:
            self._permits.release()

    def _report_leaks(self, members: list[Member]) -> None:
        for member in members:
            log.warning("pool %r: a connection is held too long: %s", self.name, describe(member, monotonic()))

    @abstractmethod
    def _settle_drops(self) -> None:
        """Give the slots of dropped connections back, now or soon; never waits."""

    def _on_drop(self, ref: MemberRef) -> None:
        member = self._roster.members.get(ref.key)
        if member is None or member.ref is not ref or sys.is_finalizing():
            return
        taken = member.taken
        self._drops.append(ref)
        self._settle_drops()
        # Last: a warning that was turned into an error must not cost the slot.
        warn_dropped(self.name, taken)

    def _after_fork_in_child(self) -> None:
        members = list(self._roster.members.values())
        inherited = {member.key: member.ref for member in members if member.state == OUT}
        closed, permits = self._roster.closed, self._permits
        found = [member.conn if member.conn is not None else member.ref() for member in members]
        forks.immortalise([conn for conn in found if conn is not None] + [m for m in (permits,) if m is not None])
        self._begin()
        self._inherited = inherited
        if closed:
            self._roster.shut(monotonic())


def _drop_handler(pool: Front[Any]) -> Callable[[MemberRef], None]:
    ref = weakref.ref(pool)

    # Weak, or the members would keep their pool alive.
    def dropped(member: MemberRef) -> None:
        pool = ref()
        if pool is not None:
            pool._on_drop(member)

    return dropped


def _rebuild(kind: type[Front[Any]], given: dict[str, Any]) -> Front[Any]:
    return kind._of(Settings(**given))
