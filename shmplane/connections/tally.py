"""The counters behind a pool's statistics: plain numbers, written by the roster under the pool's lock."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["BOUNDS", "Tally"]

#: Upper bounds of the histograms' buckets, in seconds; one more bucket takes what is above the last.
BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)


class Tally:
    """Counts since the pool was made."""

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
