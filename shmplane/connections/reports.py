"""What a pool says to people: who holds connections, why none came, what was dropped, and in a notebook a small page."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..errors import PoolClosed, PoolTimeout, TooManyWaiters
from ..system import logger_of
from .records import OUT, Member, Taken, place_of

if TYPE_CHECKING:
    from threading import RLock

    from ..observe import Health
    from .roster import Roster
    from .statistics import PoolStatistics

__all__ = ["ShowsItself", "closed_error", "full_error", "holders_of", "leak", "log", "timeout_error", "warn_dropped"]

log: logging.Logger = logger_of("shmplane.connections")

MOST_HOLDERS_SHOWN = 10


def describe(member: Member, now: float) -> str:
    """Where the connection was taken, by which thread and how long ago."""
    file, line, function = place_of(member.taken)
    return f"{file}:{line} in {function}{_thread(member.taken[2])}, for {round(now - member.since, 3):g} s"


def holders_of(roster: Roster, now: float) -> tuple[str, ...]:
    """Everyone who has a connection, the longest holder first; the caller holds the roster's lock."""
    out = sorted((m for m in roster.members.values() if m.state == OUT), key=lambda member: member.since)
    return tuple(describe(member, now) for member in out)


def timeout_error(name: str, roster: Roster, waited: float, now: float) -> PoolTimeout:
    """No connection came in time; says who has them."""
    holders = holders_of(roster, now)
    error = roster.backoff.error
    message = f"pool {name!r}: no connection within {round(max(0.0, waited), 3):g} s; {_shares(roster, len(holders))}"
    message += _why(roster, error)
    if holders:
        shown = [*holders[:MOST_HOLDERS_SHOWN], *(["..."] if len(holders) > MOST_HOLDERS_SHOWN else [])]
        message += " Held by: " + "; ".join(shown)
    timeout = PoolTimeout(message, pool=name, waited=waited, holders=holders, max_size=roster.max_size)
    timeout.__cause__ = error
    return timeout


def closed_error(name: str) -> PoolClosed:
    """The pool was closed."""
    return PoolClosed(f"pool {name!r} is closed; make a new one", pool=name)


def full_error(name: str, roster: Roster) -> TooManyWaiters:
    """The queue is at its limit."""
    waiting = len(roster.waiters)
    return TooManyWaiters(
        f"pool {name!r}: {waiting} callers wait already (max_waiting={roster.limits.max_waiting:g}). "
        f"Try again later, or raise max_size= or max_waiting=.",
        pool=name,
        waiting=waiting,
        holders=(),
    )


def leak(name: str, member: Member, now: float) -> None:
    """Log that a connection is held too long, and by whom."""
    log.warning("pool %r: a connection is held too long: %s", name, describe(member, now))


def warn_dropped(name: str, taken: Taken) -> None:
    """Say where the connection that became garbage without a release had been taken."""
    file, line, function = place_of(taken)
    message = (
        f"a connection of pool {name!r} that {function} took at {file}:{line} was dropped without release; "
        f"use `with pool.connection()`"
    )
    warnings.warn_explicit(message, ResourceWarning, file, line)


def _thread(ident: int | None) -> str:
    if ident is None:
        return ""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return f", thread {names.get(ident, f'{ident} (ended)')}"


def _shares(roster: Roster, used: int) -> str:
    shares = f"{used} of {roster.max_size} in use, {roster.connecting} connecting, {len(roster.waiters)} waiting."
    return shares + (" The pool is paused." if not roster.serving else "")


def _why(roster: Roster, error: BaseException | None) -> str:
    if error is not None:
        return f" The last connect failed: {type(error).__name__}: {error}."
    if roster.starving:
        return " The host limit is reached: other processes have the rest."
    if math.isfinite(roster.limits.leak_after):
        return " Raise max_size=, or hold connections for a shorter time."
    return " Raise max_size=, hold connections for a shorter time, or find leaks with leak_after=."


class ShowsItself:
    """The part of a pool that is for people."""

    name: str
    _lock: RLock
    _roster: Roster

    if TYPE_CHECKING:

        def stats(self) -> PoolStatistics: ...
        def health(self) -> Health: ...

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if stats.is_closed else f"{stats.used} used, {stats.idle} idle, {stats.waiting} waiting"
        return f"<{type(self).__name__} {self.name!r}: {state}, at most {stats.max_size}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from .display import html_of_pool

        stats, health = self.stats(), self.health()
        with self._lock:
            holders = holders_of(self._roster, monotonic())
        return {"text/plain": repr(self), "text/html": html_of_pool(type(self).__name__, stats, health, holders)}
