"""How a figure is taken: contestants in turn, several rounds, medians.

Machines are shared and noisy, so a time alone says little. Every round runs all contestants one after the
other, each round starting with another one; a ratio is the median over the rounds of (ours / baseline within
that round), so what slows a whole round down does not move it. Garbage is collected between contestants, not
while one is timed.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Unit = Literal["x", "us", "ms", "MB", ""]

MIN_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to measure: all of it, or what fits into a few minutes."""

    quick: bool

    @property
    def rounds(self) -> int:
        return MIN_ROUNDS if self.quick else 11

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something to time: ``run`` does one operation, ``number`` times in a row a round.

    ``before`` and ``after`` are called around each round's row of operations and are not timed.
    """

    run: Callable[[], Any]
    number: int = 1
    before: Callable[[], Any] | None = None
    after: Callable[[], Any] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure, its target (at most), and what it is compared with."""

    what: str
    value: float
    unit: Unit
    target: float | None
    ours: str = ""  #: the time behind a ratio
    baseline: str = ""
    peers: dict[str, float] = field(default_factory=dict)  #: in the unit of ``value``
    note: str = ""
    rounds: tuple[float, ...] = ()  #: the figure in each round

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


Times = dict[str, list[float]]  #: seconds an operation, by contestant, one for each round


def interleave(contestants: dict[str, Contestant], rounds: int, *, warm_up: int = 1) -> Times:
    """Run every contestant once a round and return seconds an operation.

    Args:
        contestants: by name; ``ours`` among them.
        rounds: how many are timed.
        warm_up: rounds before those, so that nobody's first call, new page or new mapping is measured.
    """
    times: Times = {name: [] for name in contestants}
    names = list(contestants)
    for _ in range(warm_up):
        for contestant in contestants.values():
            _time_one(contestant)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(_time_one(contestants[name]))
    return times


def _time_one(contestant: Contestant) -> float:
    run, number = contestant.run, contestant.number
    with garbage_later():
        if contestant.before:
            contestant.before()
        began = time.perf_counter_ns()
        for _ in range(number):
            run()
        took = time.perf_counter_ns() - began
    if contestant.after:
        contestant.after()
    return took / number / 1e9


def time_each(call: Callable[[T], object], items: Sequence[T]) -> float:
    """Seconds a call, of one for each item."""
    with garbage_later():
        began = time.perf_counter_ns()
        for item in items:
            call(item)
        return (time.perf_counter_ns() - began) / len(items) / 1e9


@contextmanager
def garbage_later() -> Iterator[None]:
    """Collect garbage now, and not again inside the block."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def compare(what: str, times: Times, *, target: float | None, baseline: str, note: str = "") -> Row:
    """A row with ``times["ours"]`` as a ratio to the baseline; all other contestants are peers."""
    base = times[baseline]
    ratios = tuple(ours / its for ours, its in zip(times["ours"], base, strict=True))
    peers = {
        name: statistics.median(its / ours for its, ours in zip(theirs, base, strict=True))
        for name, theirs in times.items()
        if name not in {"ours", baseline}
    }
    return Row(
        what,
        statistics.median(ratios),
        "x",
        target,
        ours=show_seconds(statistics.median(times["ours"])),
        baseline=f"{baseline} {show_seconds(statistics.median(base))}",
        peers=peers,
        note=note,
        rounds=ratios,
    )


def absolute(
    what: str,
    times: Times,
    *,
    unit: Literal["us", "ms"],
    target: float | None,
    baseline: str = "",
    note: str = "",
) -> Row:
    """A row with the time of ``times["ours"]`` itself; all other contestants are peers."""
    step = {"us": 1e6, "ms": 1e3}[unit]
    return Row(
        what,
        statistics.median(times["ours"]) * step,
        unit,
        target,
        baseline=baseline,
        peers={name: statistics.median(its) * step for name, its in times.items() if name != "ours"},
        note=note,
        rounds=tuple(its * step for its in times["ours"]),
    )


def show_seconds(seconds: float) -> str:
    """Three digits and a unit."""
    for limit, step, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * step:.3g} {unit}"
    return f"{seconds:.3g} s"
