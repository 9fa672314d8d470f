"""All that planes tell: their own figures, and those of the connection pools and caches that have their counts there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from .. import ClosedError, Measurement, Plane
from ..cache import host_measurements
from ..connections import host_statistics

__all__ = ["families_of", "measurements_of"]


def measurements_of(planes: Sequence[Plane]) -> list[Measurement]:
    """Of one plane as they are; of several with its name as ``plane``. One that was closed or destroyed tells nothing."""
    found: list[Measurement] = []
    for plane in planes:
        try:
            of_plane = _measurements(plane)
        except ClosedError:
            continue
        if len(planes) > 1:
            of_plane = [replace(one, attributes={"plane": plane.name, **one.attributes}) for one in of_plane]
        found += of_plane
    return found


def _measurements(plane: Plane) -> list[Measurement]:
    pools = (statistics.measurements() for statistics in host_statistics(plane).values())
    return [*plane.metrics().measurements(), *chain.from_iterable(pools), *host_measurements(plane)]


def families_of(measurements: Iterable[Measurement]) -> list[list[Measurement]]:
    """Those of one name stand together, in the order in which the names first come."""
    families: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        families.setdefault(measurement.name, []).append(measurement)
    return list(families.values())
