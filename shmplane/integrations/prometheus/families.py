"""Families of metrics, as Prometheus reads them, of the values over all processes. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from ...counting import series_of, together

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...counting import Entry, Series, State

__all__ = ["metrics_of"]


def metrics_of(state: State) -> dict[str, Metric]:
    """Families by name, with the samples as Prometheus wants them: buckets are cumulative."""
    families: dict[str, list[tuple[Series, Entry, int]]] = defaultdict(list)
    for (key, pid), entry in state.items():
        families[series_of(key).family].append((series_of(key), entry, pid))
    return {name: _metric(name, parts) for name, parts in families.items()}


def _metric(name: str, parts: list[tuple[Series, Entry, int]]) -> Metric:
    first = parts[0][0]
    metric = Metric(name, first.meaning, first.kind)
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], Entry] = {}
    buckets: dict[tuple[tuple[str, str], ...], dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for series, entry, pid in parts:
        labels = series.labels
        bound = dict(labels).get("le") if series.kind == "histogram" else None
        if bound is not None:
            buckets[tuple(label for label in labels if label[0] != "le")][float(bound)] += entry.value
        elif not series.mode.endswith("mostrecent") or entry.time:
            place = (series.sample, (*labels, ("pid", str(pid))) if pid else labels)
            # Of two releases of a program, with another help text.
            known = samples.get(place)
            samples[place] = entry if known is None else together(series.mode.removeprefix("live"), known, entry)
    for labels, counts in buckets.items():
        for sample, of_labels, value in _cumulative(name, labels, counts):
            metric.add_sample(sample, dict(of_labels), value)
    for (sample, labels), entry in samples.items():
        metric.add_sample(sample, dict(labels), entry.value)
    return metric


def _cumulative(
    name: str, labels: tuple[tuple[str, str], ...], counts: Mapping[float, float]
) -> Iterator[tuple[str, tuple[tuple[str, str], ...], float]]:
    seen = 0.0
    for bound, number in sorted(counts.items()):
        seen += number
        text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
        yield f"{name}_bucket", (*labels, ("le", text)), seen
    yield f"{name}_count", labels, seen
