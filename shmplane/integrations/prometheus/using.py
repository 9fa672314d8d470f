"""``use(plane)``: an application's own metrics become host-wide.

``prometheus_client`` asks a *value class* for the values of its metrics. ``use`` puts one in its place that counts in a plane,
so that metrics made after it, of whatever library, are shared, and makes ``collect`` of those metrics tell the values over all
processes. So an application's own registries, middlewares and exporters stay as they are.

The library asks for a value per series, calls ``inc`` and ``set`` as often as its user does, and nothing else matters as much:
one comparison of PIDs, one lock of this process, one store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from os import getpid
from typing import Any, ClassVar, Self

import prometheus_client
from prometheus_client import values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ... import Plane
from ...counting import Book, Entry, Series, State, key_of, series_of, together

__all__ = ["Use", "metrics_of", "use"]

_MOST_SERIES = 10_000


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


class SharedValue:
    """A value as ``prometheus_client`` wants it, in this process's page. Made by the metrics that are made after ``use``."""

    _multiprocess = True
    book: Book  #: set by a subclass for each book

    def __init__(self, *given: Any, multiprocess_mode: str = "", **_: Any) -> None:
        kind, family, name, label_names, label_values, meaning = given
        labels = tuple(sorted(zip(label_names, label_values, strict=True)))
        self._key = key_of(Series(kind, multiprocess_mode, family, name, labels, meaning))
        self._find_page()
        self.book.families_here.add(family)

    def inc(self, amount: float) -> None:
        """Cost: a lock of this process, and one store."""
        page = self._page
        if page.pid != getpid():
            page = self._find_page()
        with page.lock:
            page.values[self._at] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        page = self._page
        if page.pid != getpid():
            page = self._find_page()
        with page.lock:
            page.values[self._at] = value
            page.values[self._at + 1] = timestamp or 0.0

    def get(self) -> float:
        """That of this process alone."""
        page = self._page
        if page.pid != getpid():
            page = self._find_page()
        return float(page.values[self._at])

    def _find_page(self) -> Any:
        self._page, self._at = self.book.place(self._key)
        return self._page

    def set_exemplar(self, exemplar: Any) -> None:
        """Exemplars are not shared, as with a multiprocess directory."""

    def get_exemplar(self) -> None:
        return None


_tell_alone = MetricWrapperBase.collect
_KINDS = {"counter", "gauge", "histogram", "summary"}


class Use:
    """What ``use`` has put in place. ``close()``, or the end of a ``with`` block, takes it away again."""

    #: the one that is in place
    current: ClassVar[Use | None] = None

    def __init__(self, plane: Plane, most_series: int) -> None:
        self.plane: Plane = plane
        self.book: Book = Book(plane, most_series)
        self._value_class = type("SharedValue", (SharedValue,), {"book": self.book})
        self._rest = _Rest(self)

    def _start(self) -> None:
        values.ValueClass = self._value_class
        MetricWrapperBase.collect = _tell  # type: ignore[method-assign, assignment]
        prometheus_client.REGISTRY.register(self._rest)
        Use.current = self

    def close(self) -> None:
        """Metrics count in this process alone from now on; what they have counted stays in the plane. Idempotent."""
        if Use.current is self:
            Use.current = None
            values.ValueClass = values.MutexValue
            prometheus_client.REGISTRY.unregister(self._rest)
            self.book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def use(plane: Plane, *, most_series: int = _MOST_SERIES) -> Use:
    """Make an application's own ``prometheus_client`` metrics host-wide: those that are made from now on, in this process.

    Counters, histograms and summaries are sums over all processes of the host that count in the plane, those that ended
    or were killed included; gauges are what their ``multiprocess_mode`` says. A scrape of any one process tells all, in
    the registries in which the metrics are; no ``PROMETHEUS_MULTIPROC_DIR`` and no other registry is needed. Call it before
    the metrics are made, also where that is before workers are forked.

    As with a multiprocess directory, ``Info``, ``Enum``, exemplars and ``_created`` are not shared, and labels that were
    removed stay. Of gauges in mode ``all``, the last 1,000 values stay of processes that ended.

    Args:
        most_series: of all that have been counted in the plane. Beyond that, new labels are counted together as
            ``other``. Said once, in the log ``shmplane.counting``.

    Returns:
        What ends it: ``use(plane).close()``. Another ``use`` ends the one before.

    Cost: a change of a value is one store, less than with a multiprocess directory; a process has 64 KiB of the plane for
    some 400 series.
    """
    if isinstance(most_series, bool) or not isinstance(most_series, int):
        raise TypeError(f"most_series is an int, not {type(most_series).__name__}")
    if most_series < 1:
        raise ValueError(f"most_series is at least 1, not {most_series}")
    if Use.current is not None:
        if Use.current.plane is plane:
            return Use.current
        Use.current.close()
    made = Use(plane, most_series)
    made._start()
    return made


def _tell(metric: Any) -> Iterable[Metric]:
    """``MetricWrapperBase.collect``: the values over all processes, and those of children that are not shared."""
    children = _children(metric) if metric._type in _KINDS else []
    shared = [value for _, child in children if (value := _value_of(child)) is not None]
    used = Use.current if metric._type in _KINDS and (shared or metric._is_parent()) else None
    if used is None or (shared and shared[0].book is not used.book):
        return _tell_alone(metric)
    for _, child in children:
        _ask_function(child)
    state = used.book.read(metric._name)
    if state is None:
        return _tell_alone(metric)
    found = metrics_of(state).get(metric._name)
    made = metric._get_metric()
    made.samples = [] if found is None else found.samples
    for labels, child in children:
        if _value_of(child) is None:
            for suffix, more, value, *rest in child._samples():
                made.add_sample(metric._name + suffix, {**labels, **more}, value, *rest)
    return [made]


def _children(metric: Any) -> list[tuple[dict[str, str], Any]]:
    """The metrics that have values, with their labels."""
    if not metric._is_parent():
        return [({}, metric)]
    with metric._lock:
        known = metric._metrics.copy()
    return [(dict(zip(metric._labelnames, labels, strict=True)), child) for labels, child in known.items()]


def _value_of(child: Any) -> SharedValue | None:
    """One of its values, if they are shared."""
    value = getattr(child, "_value", None) or getattr(child, "_sum", None)
    return value if isinstance(value, SharedValue) else None


def _ask_function(child: Any) -> None:
    """A gauge with ``set_function``: its value as of now is that of this process."""
    value = _value_of(child)
    if value is not None and "_child_samples" in vars(child):
        for sample in child._child_samples():
            value.set(sample.value)


class _Rest(Collector):
    """Families that other processes count in and this one has no metric for."""

    def __init__(self, used: Use) -> None:
        self._use = used

    def describe(self) -> Iterable[Metric]:
        """Their names are not known before."""
        return ()

    def collect(self) -> Iterator[Metric]:
        book = self._use.book
        for family in sorted(book.families() - book.families_here):
            if family not in prometheus_client.REGISTRY._names_to_collectors:
                yield from metrics_of(book.read(family) or {}).values()
