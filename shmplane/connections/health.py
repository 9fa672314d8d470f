"""Is the pool well? Judged from its statistics alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..observe import Check, Health

if TYPE_CHECKING:
    from .statistics import PoolStatistics

__all__ = ["judge"]


def judge(stats: PoolStatistics, last_error: BaseException | None) -> Health:
    """Say how a pool is, and what to do about it."""
    return Health.of((_serving(stats), _connecting(stats, last_error), _queue(stats), _leaks(stats)))


def _serving(stats: PoolStatistics) -> Check:
    if stats.is_closed:
        return Check("serving", "fail", "the pool is closed", "make a new one")
    if stats.paused:
        return Check("serving", "warn", "the pool is paused", "resume() lets callers through")
    return Check("serving", "pass", f"{stats.used} used, {stats.idle} idle, at most {stats.max_size}")


def _connecting(stats: PoolStatistics, last_error: BaseException | None) -> Check:
    if last_error is None:
        return Check("connecting", "pass", f"{stats.connects} connects, {stats.connect_errors} errors so far")
    found = f"the last connect failed: {type(last_error).__name__}: {last_error}"
    cure = "see to the server, or to connect=; the pool goes on trying by itself"
    return Check("connecting", "warn" if stats.idle + stats.used else "fail", found, cure)


def _queue(stats: PoolStatistics) -> Check:
    found = f"{stats.waiting} waiting, {stats.timeouts} timed out, {stats.refused} refused so far"
    if stats.waiting and stats.used >= stats.max_size:
        return Check("queue", "warn", f"{found}; all {stats.max_size} are in use", "raise max_size or hold shorter")
    return Check("queue", "pass", found)


def _leaks(stats: PoolStatistics) -> Check:
    if not stats.leaked and not stats.dropped:
        return Check("leaks", "pass", "no leak was seen")
    found = f"{stats.leaked} held longer than leak_after, {stats.dropped} dropped without release"
    return Check("leaks", "warn", found, "use `with pool.connection()`")
