"""``shmplane metrics``: what planes, their connection pools and caches have counted, as Prometheus reads it or as JSON."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..cache import measurements_of
from ..connections import pools_of_words
from ..observe import Histogram, Measurement, figures_of, plane_names, prometheus_text
from .exits import OK, PROBLEMS, of_each

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["metrics"]


def metrics(options: Namespace, out: Output) -> int:
    """One plane without a label for it, as in its own processes, or all with the label ``plane``."""
    problems: dict[str, str] = {}
    if options.plane is not None:
        found = _read(options.plane, options.root, out)
    else:
        seen, problems = of_each(plane_names(options.root), lambda name: _read(name, options.root, out))
        labelled = ((one, {"plane": name, **one.attributes}) for name, figures in seen.items() for one in figures)
        found = [replace(one, attributes=attributes) for one, attributes in labelled]
    if options.json:
        out.json(root=options.root, plane=options.plane, metrics=[_fields(one) for one in found], problems=problems)
    else:
        out.lines(prometheus_text(found).splitlines())
    for name, problem in problems.items():
        out.message(f"{name}: {problem}")
    return PROBLEMS if problems else OK


def _read(name: str, root: str, out: Output) -> list[Measurement]:
    figures = figures_of(name, root)
    if figures.approximate:
        out.message(f"{name}: somebody holds its lock for long, so these figures may not fit each other")
    pools = (pool.measurements() for pool in pools_of_words(figures.meters).values())
    caches = measurements_of(figures.meters, figures.groups)
    return [*figures.metrics.measurements(), *chain.from_iterable(pools), *caches]


def _fields(one: Measurement) -> dict[str, Any]:
    value = asdict(one.value) if isinstance(one.value, Histogram) else one.value
    return {"name": one.prometheus_name, "type": one.prometheus_type, "labels": one.prometheus_labels, "value": value}
