"""Series and how values of several processes become one. Pure.

A *series* is one value of a metric: a counter's total, one bucket of a histogram, a gauge of one set of labels. Its key is
text, the same in all processes that count it. How its values are put together follows from the metric: all but gauges are
added, and of gauges their mode says it, which are those of ``prometheus_client``.

Sums must not depend on who was added first: a total that goes back by its last bit is a restart to Prometheus. So they are
kept as two floats, the second of which is what the first one lost to rounding: together 106 bits. Only where values differ by
more than that, as 2**35 and 2**-72 do, may the order show in the last bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Entry", "Series", "State", "add", "forget_oldest", "key_of", "other_of", "series_of", "together"]

OTHER = "other"
_KINDS = frozenset({"counter", "gauge", "histogram", "summary"})
#: values of gauges in mode ``all`` that stay of processes which ended, the latest
MOST_OF_THE_ENDED = 1000


class Series(NamedTuple):
    """What a key says."""

    kind: str  #: counter, gauge, histogram or summary
    mode: str  #: of a gauge
    family: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    meaning: str

    @property
    def is_live(self) -> bool:
        """Values of processes that ended do not count."""
        return self.mode.startswith("live")


class Entry(NamedTuple):
    """A process's value of a series."""

    key: str
    value: float
    time: float = 0.0  #: when it was set, of a gauge in mode ``mostrecent``
    pid: int = 0
    lost: float = 0.0  #: what a sum lost to rounding


#: by key, and by PID where the mode says so
State = dict[tuple[str, int], Entry]

_parsed: dict[str, Series] = {}
_MOST_PARSED = 100_000


def key_of(series: Series) -> str:
    return json.dumps(series, ensure_ascii=False, separators=(",", ":"))


def series_of(key: str) -> Series:
    """What a key says; ``ValueError`` for text that is no key."""
    found = _parsed.get(key)
    if found is None:
        if len(_parsed) >= _MOST_PARSED:
            _parsed.clear()
        found = _parsed[key] = _parse(key)
    return found


def _parse(key: str) -> Series:
    said = json.loads(key)
    if isinstance(said, list) and len(said) == len(Series._fields):
        kind, mode, family, sample, labels, meaning = said
        texts = [kind, mode, family, sample, meaning]
        if isinstance(labels, list) and all(isinstance(label, list) and len(label) == 2 for label in labels):
            texts += [text for label in labels for text in label]
            if all(isinstance(text, str) for text in texts) and kind in _KINDS:
                found = Series(kind, mode, family, sample, tuple((name, text) for name, text in labels), meaning)
                if kind == "histogram":
                    float(dict(found.labels).get("le", "0"))  # the bound of a bucket, else ValueError
                return found
    raise ValueError(f"{key[:200]!r} is the key of no series")


def other_of(series: Series) -> Series:
    """Where a series is counted for which there is no room: all its labels say so, but a bucket stays one."""
    return series._replace(labels=tuple((name, text if name == "le" else OTHER) for name, text in series.labels))


def add(state: State, entries: Iterable[Entry], *, ended: bool) -> None:
    """Put the values of one process to those of others.

    Args:
        ended: it counts no more, so what only the living say is left out.
    """
    for entry in entries:
        series = series_of(entry.key)
        if ended and series.is_live:
            continue
        place = (entry.key, entry.pid if series.mode in ("all", "liveall") else 0)
        known = state.get(place)
        state[place] = entry if known is None else together(series.mode.removeprefix("live"), known, entry)
        if ended and place[1]:  # the latest comes last
            state[place] = state.pop(place)


def forget_oldest(state: State) -> None:
    """Bound what stays of the PIDs of processes that ended."""
    places = [place for place in state if place[1]]
    for place in places[: max(0, len(places) - MOST_OF_THE_ENDED)]:
        del state[place]


def together(mode: str, one: Entry, other: Entry) -> Entry:
    if mode == "min":
        return min(one, other, key=lambda entry: entry.value)
    if mode == "max":
        return max(one, other, key=lambda entry: entry.value)
    if mode == "mostrecent":
        return max(one, other, key=lambda entry: entry.time)
    if mode == "all":
        return other
    value, lost = _sum([one.value, one.lost, other.value, other.lost])
    return one._replace(value=value, lost=lost)


def _sum(parts: Sequence[float]) -> tuple[float, float]:
    """The sum, and what it lost to rounding."""
    try:
        value = math.fsum(parts)
        return value, math.fsum([*parts, -value])
    except (OverflowError, ValueError):  # infinities of both signs, or too much
        return sum(parts), 0.0
