"""What do workers of a torch ``DataLoader`` cost that share one list of samples?

Ours: a dataset over ``Records``: seconds to the first batch, time of all samples, and what the workers have for themselves.
Baseline: the same over a list of dicts, under each start method. Nothing is measured where torch is not installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import psutil

import shmplane
from bench.harness import Row, Scale, compare

METHODS = ("fork", "spawn", "forkserver")
WORKERS, BATCH = 2, 1_000


class Samples:
    """A dataset, as the loader sees it."""

    def __init__(self, samples: Sequence[dict[str, Any]]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> int:
        sample = self._samples[index]
        return len(sample["text"]) + int(sample["label"])


class _Run(NamedTuple):
    """Of one loader, from its making to its end."""

    first_batch_s: float
    all_s: float
    private_mb: float  #: of all workers, when half of the samples are there


def run(scale: Scale) -> Iterator[Row]:
    if importlib.util.find_spec("torch") is None:
        return
    count = scale.pick(500_000, 40_000)
    samples = [{"text": f"this is the text of sample {number} " * 3, "label": number % 10} for number in range(count)]
    with shmplane.Plane.temporary(capacity="2GiB") as plane:
        plane["samples"] = shmplane.Records(samples)
        for method in METHODS:
            ours, theirs = [], []
            for _ in range(scale.pick(5, 2)):
                ours.append(_load(plane["samples"], method))
                theirs.append(_load(samples, method))
            yield from _rows(method, count, ours, theirs)


def _rows(method: str, count: int, ours: list[_Run], theirs: list[_Run]) -> Iterator[Row]:
    for what, field in (("first batch", 0), (f"all {count:,} samples", 1)):
        times = {"ours": [its[field] for its in ours], "list": [its[field] for its in theirs]}
        yield compare(f"DataLoader over records, {method}: {what}", times, target=None, baseline="list")
    megabytes = tuple(its.private_mb for its in ours)
    yield Row(
        f"DataLoader over records, {method}: private memory of {WORKERS} workers",
        statistics.median(megabytes), "MB", None,
        peers={"list": statistics.median(its.private_mb for its in theirs)}, rounds=megabytes,
    )  # fmt: skip


def _load(samples: Any, method: str) -> _Run:
    data: Any = importlib.import_module("torch.utils.data")
    started = time.perf_counter()
    loader = data.DataLoader(Samples(samples), batch_size=BATCH, num_workers=WORKERS, multiprocessing_context=method)
    first, private = 0.0, 0.0
    for number, _ in enumerate(loader, 1):
        first = first or time.perf_counter() - started
        if number == len(loader) // 2:
            private = sum(its.memory_full_info().uss for its in _workers()) / 1e6
    return _Run(first, time.perf_counter() - started, private)


def _workers() -> list[psutil.Process]:
    """The processes that load: this one's, or the fork server's, that run Python."""
    return [its for its in psutil.Process().children(recursive=True) if not its.children()]
