"""How long does a small put wait at worst while another process is busy with threads?

Ours: the 99th percentile of a 1 KB ``plane.put`` while another attached process runs four CPU-bound threads
that also use the plane (a holder of the lock that gave up the GIL inside would keep everybody waiting).
Baseline: none; the figure is a time. Shown as peers: the same without the other process, and the longest put.
"""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import shmplane
from bench.harness import Row, Scale, garbage_later

THREADS = 4


def run(scale: Scale) -> Iterator[Row]:
    puts = scale.pick(3_000, 1_000)
    context = multiprocessing.get_context("spawn")
    with shmplane.Plane.temporary(capacity="256MiB") as plane:
        alone = [_p99_and_longest(plane, puts) for _ in range(scale.rounds)]
        started, stop = context.Event(), context.Event()
        process = context.Process(target=_be_busy, args=(plane, started, stop))
        process.start()
        try:
            while not started.wait(0.1):
                if not process.is_alive():
                    raise RuntimeError("the other process did not start")
            beside = [_p99_and_longest(plane, puts) for _ in range(scale.rounds)]
            if not process.is_alive():
                raise RuntimeError("the other process died")
        finally:
            stop.set()
            process.join(10)
            process.kill()
    p99s = tuple(p99 for p99, _ in beside)
    peers = {
        "ours alone": statistics.median(p99 for p99, _ in alone),
        "longest beside them": max(longest for _, longest in beside),
    }
    yield Row(
        "p99 of a 1 KB put beside 4 CPU-bound threads", statistics.median(p99s), "ms", 1.0, peers=peers, rounds=p99s
    )


def _p99_and_longest(plane: shmplane.Plane, puts: int) -> tuple[float, float]:
    source = np.arange(1024, dtype=np.uint8)
    took = []
    with garbage_later():
        for _ in range(puts):
            began = time.perf_counter_ns()
            plane.put("measured", source)
            took.append(time.perf_counter_ns() - began)
    return statistics.quantiles(took, n=100)[98] / 1e6, max(took) / 1e6


def _be_busy(plane: shmplane.Plane, started: Any, stop: Any) -> None:
    threads = [threading.Thread(target=_compute, args=(plane, number, stop)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()


def _compute(plane: shmplane.Plane, number: int, stop: Any) -> None:
    name, source = f"busy-{number}", np.arange(1024, dtype=np.uint8)
    while not stop.is_set():
        plane.put(name, source)
        plane[name]
        for _ in range(20):
            sum(range(1_000))
