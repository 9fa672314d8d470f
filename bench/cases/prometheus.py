"""What does it cost to count in an application's own metrics, and to scrape them over all processes?

Ours: a ``Counter`` and a ``Histogram`` made after ``integrations.prometheus.use(plane)``.
Baseline: the same with ``prometheus_client``'s own multiprocess directory.
Peer: the same metrics for one process alone, which share nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave
from shmplane.integrations.prometheus import use

WORKERS, LABELS = 8, 100
_DIRECTORY = "multiprocess directory"


def run(scale: Scale) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, shmplane.Plane.temporary() as plane:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        try:
            values.ValueClass, theirs = values.MultiProcessValue(), CollectorRegistry()  # type: ignore[no-untyped-call]
            their = _metrics(theirs)
            values.ValueClass, alone = values.MutexValue, _metrics(CollectorRegistry())
            with use(plane):
                ours = CollectorRegistry()
                our = _metrics(ours)
                kinds = {"ours": our, _DIRECTORY: their, "one process": alone}
                number = scale.pick(50_000, 4_000)
                for at, (what, change) in enumerate((("Counter.inc()", "inc"), ("Histogram.observe(0.3)", "observe"))):
                    contestants = {
                        name: Contestant(_changing(getattr(metrics[at], change), at), number)
                        for name, metrics in kinds.items()
                    }
                    times = interleave(contestants, scale.rounds)
                    yield compare(what, times, target=2.0, baseline=_DIRECTORY)
                _count_in_workers([our[2], their[2]])
                told = CollectorRegistry()
                MultiProcessCollector(told, directory)  # type: ignore[no-untyped-call]
                contestants = {
                    "ours": Contestant(lambda: generate_latest(ours), 5),
                    _DIRECTORY: Contestant(lambda: generate_latest(told), 5),
                }
                times = interleave(contestants, scale.rounds)
                yield compare(
                    f"scrape of {16 * LABELS:,} series of {WORKERS} ended workers",
                    times,
                    target=None,
                    baseline=_DIRECTORY,
                )
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]


Metrics = tuple[Counter, Histogram, Histogram]


def _metrics(registry: CollectorRegistry) -> Metrics:
    labelled = Histogram("labelled_seconds", "Seconds.", ["path"], registry=registry)
    for label in range(LABELS):
        labelled.labels(str(label))  # now, since it is the value class of this moment that counts
    return (
        Counter("requests", "Requests.", registry=registry),
        Histogram("seconds", "Seconds.", registry=registry),
        labelled,
    )


def _changing(change: Callable[..., None], at: int) -> Callable[[], None]:
    return change if at == 0 else lambda: change(0.3)


def _count_in_workers(labelled: list[Histogram]) -> None:
    for _ in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            for histogram in labelled:
                for label in range(LABELS):
                    histogram.labels(str(label)).observe(0.3)
            os._exit(0)
        os.waitpid(pid, 0)
