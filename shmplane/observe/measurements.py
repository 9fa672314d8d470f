"""Measurements: one value each, under its OpenTelemetry name, and what Prometheus calls the same.

Planes, pools and caches all tell their figures as these, so that every way out of the process (a scrape, a meter, text)
is written once. The names of Prometheus follow from those of OpenTelemetry: dots become underscores, the unit and for
counters ``total`` come behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["BOUNDS", "Histogram", "Measurement", "prometheus_text"]

#: Upper bounds of the histograms' buckets, in seconds; one more bucket takes what is above the last.
BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)

_UNITS = {"By": "_bytes", "s": "_seconds"}
_TYPES = {"updowncounter": "gauge", "counter": "counter", "histogram": "histogram"}
_NOT_OF_A_NAME = re.compile(r"[^a-zA-Z0-9_:]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_ESCAPES_OF_HELP = str.maketrans({"\\": "\\\\", "\n": "\\n"})


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something took how long."""

    counts: tuple[int, ...]  #: one per bucket; the last takes what is above the last bound
    seconds: float  #: the sum of all
    bounds: tuple[float, ...] = BOUNDS  #: upper bounds of the buckets, in seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Seconds on average; 0.0 when there were none."""
        return self.seconds / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The upper bound of the bucket that holds this share, e.g. 0.99; infinity above the last bound."""
        rank, seen = share * self.count, 0
        for count, bound in zip(self.counts, self.bounds, strict=False):
            seen += count
            if seen >= rank:
                return bound
        return float("inf")

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """The buckets as Prometheus has them: the upper bound as text, ``+Inf`` last, and how many were not above it."""
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            yield "+Inf" if bound == float("inf") else repr(float(bound)), seen

    def __add__(self, other: Histogram) -> Histogram:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, self.seconds + other.seconds, self.bounds)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value under its OpenTelemetry name.

    Attributes:
        kind: ``updowncounter`` for what is so now, ``counter`` for what only grows.
        unit: as OpenTelemetry writes it: ``By``, ``s``, or a thing in braces.
        meaning: one sentence.
    """

    name: str
    kind: Literal["updowncounter", "counter", "histogram"]
    unit: str
    value: int | Histogram
    attributes: dict[str, str]
    meaning: str = ""

    @property
    def prometheus_name(self) -> str:
        """What Prometheus calls it; for a counter with ``_total`` at its end."""
        name, unit = _NOT_OF_A_NAME.sub("_", self.name), _UNITS.get(self.unit, "")
        if not name.endswith(unit):
            name += unit
        return f"{name}_total" if self.kind == "counter" else name

    @property
    def prometheus_type(self) -> str:
        """``gauge``, ``counter`` or ``histogram``."""
        return _TYPES[self.kind]

    @property
    def prometheus_labels(self) -> dict[str, str]:
        """The attributes as labels."""
        return {_NOT_OF_A_NAME.sub("_", name): value for name, value in self.attributes.items()}


def prometheus_text(measurements: Iterable[Measurement]) -> str:
    """The text format of Prometheus (0.0.4), without its library: those of one name stand together."""
    families: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        families.setdefault(measurement.prometheus_name, []).append(measurement)
    return "".join(f"{line}\n" for family in families.values() for line in _lines_of(family))


def _lines_of(family: list[Measurement]) -> Iterator[str]:
    first = family[0]
    name = first.prometheus_name
    if first.meaning:
        yield f"# HELP {name} {first.meaning.translate(_ESCAPES_OF_HELP)}"
    yield f"# TYPE {name} {first.prometheus_type}"
    for measurement in family:
        labels = measurement.prometheus_labels
        if isinstance(measurement.value, Histogram):
            yield from _lines_of_histogram(name, labels, measurement.value)
        else:
            yield f"{name}{_text_of(labels)} {measurement.value}"


def _lines_of_histogram(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[str]:
    for bound, count in histogram.cumulative():
        yield f"{name}_bucket{_text_of({**labels, 'le': bound})} {count}"
    yield f"{name}_sum{_text_of(labels)} {histogram.seconds!r}"
    yield f"{name}_count{_text_of(labels)} {histogram.count}"


def _text_of(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()) + "}"
