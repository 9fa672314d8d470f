"""Is the pool well? Judged from its statistics alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .statistics import PoolStatistics

__all__ = ["Check", "Health", "judge"]

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class Health:
    """The worst of all checks, and the checks."""

    status: Status
    checks: tuple[Check, ...]


def judge(stats: PoolStatistics, last_error: BaseException | None) -> Health:
    """Say how a pool is, and what to do about it."""
    checks = tuple(_checks(stats, last_error))
    found = {check.status for check in checks}
    worst: Status = "fail" if "fail" in found else "warn" if "warn" in found else "pass"
    return Health(worst, checks)


def _checks(stats: PoolStatistics, last_error: BaseException | None) -> Iterator[Check]:
    yield _serving(stats)
    yield _connecting(stats, last_error)
    yield _queue(stats)
    yield _leaks(stats)


def _serving(stats: PoolStatistics) -> Check:
    if stats.is_closed:
        return Check("serving", "fail", "the pool is closed")
    if stats.paused:
        return Check("serving", "warn", "the pool is paused; resume() lets callers through")
    return Check("serving", "pass", f"{stats.used} used, {stats.idle} idle, at most {stats.max_size}")


def _connecting(stats: PoolStatistics, last_error: BaseException | None) -> Check:
    if last_error is None:
        return Check("connecting", "pass", f"{stats.connects} connects, {stats.connect_errors} errors so far")
    detail = f"the last connect failed: {type(last_error).__name__}: {last_error}"
    return Check("connecting", "warn" if stats.idle + stats.used else "fail", detail)


def _queue(stats: PoolStatistics) -> Check:
    detail = f"{stats.waiting} waiting, {stats.timeouts} timed out, {stats.refused} refused so far"
    if stats.waiting and stats.used >= stats.max_size:
        return Check("queue", "warn", f"{detail}; all {stats.max_size} are in use: raise max_size or hold shorter")
    return Check("queue", "pass", detail)


def _leaks(stats: PoolStatistics) -> Check:
    if not stats.leaked and not stats.dropped:
        return Check("leaks", "pass", "no leak was seen")
    detail = f"{stats.leaked} held longer than leak_after, {stats.dropped} dropped without release"
    return Check("leaks", "warn", f"{detail}; use `with pool.connection()`")
