"""What a pool counts and tells: counters, frozen records, sums of them, OpenTelemetry's names, and words.

A plane sums words over processes and keeps those of the dead; here is how statistics become words, and words statistics; and
whether the pool is well, which they alone say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..observe import BOUNDS, Check, Health, Histogram, Measurement
from .records import IDLE, OUT

__all__ = [
    "BOUNDS",
    "Histogram",
    "Measurement",
    "PoolStatistics",
    "Tally",
    "judge",
    "statistics_of",
    "statistics_of_words",
    "words_of",
]

FIRST_COUNT = 16  #: words before it are levels, which end with their process
_LEVELS = ("pools", "min_size", "max_size", "size", "idle", "used", "connecting", "waiting", "paused", "is_closed")
_COUNTS = (
    "acquires", "timeouts", "refused", "connects", "connect_errors", "closed", "discarded", "dropped", "leaked",
)  # fmt: skip
_TIMES = ("wait_time", "use_time", "connect_time")


_BUCKETS = len(BOUNDS) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """A pool at one moment, and its counts since it was made. Those of several processes can be added."""

    name: str
    min_size: int
    max_size: int
    size: int  #: slots in use: idle, used, connecting and closing connections
    idle: int
    used: int
    connecting: int
    waiting: int  #: callers in the queue
    acquires: int  #: connections handed out
    timeouts: int
    refused: int  #: callers turned away with TooManyWaiters
    connects: int
    connect_errors: int
    closed: int
    discarded: int  #: closed as broken: failed check or reset, exception or cancellation of the user
    dropped: int  #: became garbage without release
    leaked: int  #: were out longer than leak_after
    wait_time: Histogram  #: of every acquire that succeeded
    use_time: Histogram
    connect_time: Histogram
    paused: bool = False
    is_closed: bool = False
    pools: int = 1  #: how many pools were added up

    def __add__(self, other: PoolStatistics) -> PoolStatistics:
        """The sum over two pools, such as those of one name in two processes."""
        summed: dict[str, Any] = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in ("name", "paused", "is_closed")
        }
        name = self.name if self.name == other.name else f"{self.name}+{other.name}"
        paused, closed = self.paused or other.paused, self.is_closed and other.is_closed
        return PoolStatistics(name=name, paused=paused, is_closed=closed, **summed)

    def measurements(self) -> Iterator[Measurement]:
        """The values under OpenTelemetry's names ``db.client.connection.*``, times in seconds."""
        pool = {"db.client.connection.pool.name": self.name}
        prefix = "db.client.connection."
        for state, count in (("idle", self.idle), ("used", self.used)):
            attributes = pool | {"db.client.connection.state": state}
            meaning = "Connections that are open, by what they do."
            yield Measurement(prefix + "count", "updowncounter", "{connection}", count, attributes, meaning)
        for what, count in (("idle.min", self.min_size), ("idle.max", self.max_size), ("max", self.max_size)):
            meaning = "The limits of all pools of the name."
            yield Measurement(prefix + what, "updowncounter", "{connection}", count, pool, meaning)
        meaning = "Callers that wait for a connection."
        yield Measurement(prefix + "pending_requests", "updowncounter", "{request}", self.waiting, pool, meaning)
        meaning = "Callers that waited in vain."
        yield Measurement(prefix + "timeouts", "counter", "{timeout}", self.timeouts, pool, meaning)
        times = (
            ("create_time", self.connect_time, "Seconds that it took to open a connection."),
            ("wait_time", self.wait_time, "Seconds that callers waited for a connection."),
            ("use_time", self.use_time, "Seconds that connections were out."),
        )
        for what, histogram, meaning in times:
            yield Measurement(prefix + what, "histogram", "s", histogram, pool, meaning)


def statistics_of(name: str, roster: Any) -> PoolStatistics:
    """Read a roster; the caller holds its lock."""
    tally = roster.tally
    used = sum(member.state == OUT for member in roster.members.values())
    quick = tally.use[0] + roster.quick_uses
    use = Histogram((quick, *tally.use[1:]), tally.use_seconds + roster.quick_seconds)
    acquires = use.count + used + tally.dropped
    wait = list(tally.wait)
    # Who found an idle connection did not wait; counting that here keeps it off the hot path.
    wait[0] += max(0, acquires - sum(wait))
    return PoolStatistics(
        name=name,
        min_size=roster.limits.min_size,
        max_size=roster.max_size,
        size=roster.size,
        idle=sum(member.state == IDLE for member in roster.members.values()),
        used=used,
        connecting=roster.connecting,
        waiting=len(roster.waiters),
        acquires=acquires,
        timeouts=tally.timeouts,
        refused=tally.refused,
        connects=sum(tally.connect),
        connect_errors=tally.connect_errors,
        closed=tally.closed,
        discarded=tally.discarded,
        dropped=tally.dropped,
        leaked=tally.leaked,
        wait_time=Histogram(tuple(wait), tally.wait_seconds),
        use_time=use,
        connect_time=Histogram(tuple(tally.connect), tally.connect_seconds),
        paused=not roster.serving and not roster.closed,
        is_closed=roster.closed,
    )


class Tally:
    """Counts since the pool was made; written by the roster under the pool's lock."""

    def __init__(self) -> None:
        self.use: list[int] = [0] * (len(BOUNDS) + 1)  #: connections given back, by how long they were out
        self.use_seconds: float = 0.0
        self.wait: list[int] = [0] * (len(BOUNDS) + 1)  #: waiters served, by how long they waited
        self.wait_seconds: float = 0.0
        self.connect: list[int] = [0] * (len(BOUNDS) + 1)  #: connects that succeeded, by how long they took
        self.connect_seconds: float = 0.0
        self.connect_errors = 0
        self.closed = 0
        self.discarded = 0  #: closed as broken: failed check or reset, exception, cancellation
        self.dropped = 0  #: became garbage while out
        self.leaked = 0  #: were out longer than leak_after
        self.timeouts = 0
        self.refused = 0  #: too many waiters

    def used(self, seconds: float) -> None:
        """A connection came back."""
        self.use[bisect_left(BOUNDS, seconds)] += 1
        self.use_seconds += seconds

    def waited(self, seconds: float) -> None:
        """A waiter was served."""
        self.wait[bisect_left(BOUNDS, seconds)] += 1
        self.wait_seconds += seconds

    def connected(self, seconds: float) -> None:
        """A connect succeeded."""
        self.connect[bisect_left(BOUNDS, seconds)] += 1
        self.connect_seconds += seconds


def words_of(stats: PoolStatistics) -> list[int]:
    """Levels, then counts; times in nanoseconds."""
    levels = [int(getattr(stats, field)) for field in _LEVELS]
    words = levels + [0] * (FIRST_COUNT - len(levels)) + [getattr(stats, field) for field in _COUNTS]
    for field in _TIMES:
        histogram: Histogram = getattr(stats, field)
        words += [*histogram.counts, int(histogram.seconds * 1e9)]
    return words


def statistics_of_words(name: str, words: Sequence[int]) -> PoolStatistics:
    """The statistics that such words stand for."""
    found: dict[str, Any] = dict(zip(_LEVELS, words, strict=False))
    found["paused"], found["is_closed"] = found["paused"] > 0, found["is_closed"] == found["pools"] > 0
    found |= zip(_COUNTS, words[FIRST_COUNT:], strict=False)
    start = FIRST_COUNT + len(_COUNTS)
    for field in _TIMES:
        *counts, nanoseconds = words[start : start + _BUCKETS + 1]
        found[field] = Histogram(tuple(counts), nanoseconds / 1e9)
        start += _BUCKETS + 1
    return PoolStatistics(name=name, **found)


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
