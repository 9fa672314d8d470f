"""What do a grant of a host-wide rate, an item of a queue, and one of many records cost?

Ours: ``try_acquire`` of a rate that has units; small and large values through a queue from one process to another; one item
of a block of records, and putting many of them.
Baselines: ``multiprocessing.Queue``, ``json.loads`` of an item's bytes, ``json.dumps`` of all values.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, compare, interleave


def run(scale: Scale) -> Iterator[Row]:
    with shmplane.Plane.temporary(capacity="1GiB") as plane:
        yield _grant(scale, plane)
        yield _through_queue(scale, plane, "64 B through a queue", b"x" * 64, scale.pick(10_000, 2_000), target=1.0)
        yield _through_queue(scale, plane, "8 MB through a queue", np.ones(1 << 20), scale.pick(40, 20), target=0.05)
        yield from _records(scale, plane)


def _grant(scale: Scale, plane: shmplane.Plane) -> Row:
    rate = plane.rate("fast", 1e9, per=1.0)
    times = interleave({"ours": Contestant(rate.try_acquire, scale.pick(10_000, 2_000))}, scale.rounds)
    return absolute("a grant that can be had at once", times, unit="us", target=15.0)


# Queues: as many as are asked for are put here, and taken by another process, which says when it has the last one


def _through_queue(scale: Scale, plane: shmplane.Plane, what: str, value: Any, number: int, *, target: float) -> Row:
    context = multiprocessing.get_context("fork")
    ours, theirs = plane.queue(what), context.Queue()
    taken = context.Semaphore(0)
    takers = [context.Process(target=_take, args=(get, taken, number), daemon=True) for get in (ours.get, theirs.get)]
    for taker in takers:
        taker.start()
    try:
        contestants = {
            "ours": Contestant(_put_all(ours.put, value, taken, number)),
            "multiprocessing.Queue": Contestant(_put_all(theirs.put, value, taken, number)),
        }
        times = interleave(contestants, scale.rounds)
    finally:
        for taker in takers:
            taker.kill()
            taker.join(10)
        theirs.cancel_join_thread()
        theirs.close()
    return compare(
        what, times, target=target, baseline="multiprocessing.Queue", note=f"{number:,} from process to process"
    )


def _put_all(put: Callable[[Any], Any], value: Any, taken: Any, number: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(number):
            put(value)
        taken.acquire()

    return run


def _take(get: Callable[[], Any], taken: Any, number: int) -> None:
    while True:
        for _ in range(number):
            get()
        taken.release()


# Records


def _records(scale: Scale, plane: shmplane.Plane) -> Iterator[Row]:
    count = scale.pick(1_000_000, 50_000)
    samples = [{"text": f"this is the text of sample {number}", "label": number % 10} for number in range(count)]

    def put() -> None:
        plane["samples"] = shmplane.Records(samples)

    def dump() -> None:
        for sample in samples:
            json.dumps(sample)

    times = interleave({"ours": Contestant(put), "json.dumps of each": Contestant(dump)}, min(scale.rounds, 5))
    yield compare(f"put {count:,} records", times, target=2.0, baseline="json.dumps of each")
    found, texts = plane["samples"], [json.dumps(sample).encode() for sample in samples[:1000]]

    def read() -> None:
        for number in range(1000):
            found[number]

    def load() -> None:
        for text in texts:
            json.loads(text)

    times = interleave({"ours": Contestant(read), "json.loads": Contestant(load)}, scale.rounds)
    extra = [max(ours - its, 0.0) / 1000 for ours, its in zip(times["ours"], times["json.loads"], strict=True)]
    note = "what it takes over json.loads of its bytes"
    yield absolute("one of many records", {"ours": extra}, unit="us", target=3.0, note=note)
