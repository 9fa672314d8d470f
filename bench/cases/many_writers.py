"""How long does a small put take the host when many processes make them together, and how long does one wait?

Ours: 1 KB put over a name of its own, by 1 to 16 processes at once into one plane, with either kind of lock: the time of all
divided by the puts of all. What is asked for is 200,000 puts a second of 16 processes, which is 5 µs each.
Peer: the same into one LMDB environment, written without waiting for a disk. The note has the 99th percentile of a put and the
longest one of all.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import shmplane
from bench.harness import Row, Scale, garbage_later
from bench.peers import SHARED_MEMORY, lmdb

VALUE = bytes(1_000)
PROCESSES = (1, 2, 4, 8, 16)
WARM_UP = 50


class Together(NamedTuple):
    """What some processes did in a while."""

    us_a_put: float
    p99_ms: float
    longest_ms: float


def run(scale: Scale) -> Iterator[Row]:
    seconds = scale.pick(1_500, 300) / 1e3
    most = max(PROCESSES)
    found = {
        (kind, number): _together(kind, number, seconds)
        for number in PROCESSES[:: scale.pick(1, len(PROCESSES) - 1)]
        for kind in ("word", "ofd", "lmdb")
    }
    for (kind, number), ours in found.items():
        beside = found["lmdb", number]
        if kind == "lmdb" or ours is None:
            continue
        what = f"1 KB put, {number} process{'es' * (number > 1)} together, lock={kind!r}"
        note = f"p99 {ours.p99_ms:.3f} ms, longest {ours.longest_ms:.1f} ms"
        peers = {}
        if beside is not None:
            peers["LMDB"] = beside.us_a_put
            note += f"; LMDB's {beside.p99_ms:.3f} ms and {beside.longest_ms:.1f} ms"
        yield Row(what, ours.us_a_put, "us", 5.0 if (kind, number) == ("word", most) else None, peers=peers, note=note)


def _together(kind: Any, number: int, seconds: float) -> Together | None:
    if kind == "lmdb" and lmdb is None:
        return None
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        where: Any
        if kind == "lmdb":
            where = stack.enter_context(tempfile.TemporaryDirectory(dir=SHARED_MEMORY))
        else:
            plane = stack.enter_context(shmplane.Plane.temporary(capacity="256MiB", lock=kind))
            where = plane.name, plane.root
        go, said = context.Barrier(number), context.SimpleQueue()
        writers = [context.Process(target=_write, args=(where, each, seconds, go, said)) for each in range(number)]
        for writer in writers:
            writer.start()
        found = [said.get() for _ in writers]
        for writer in writers:
            writer.join()
    return Together(
        1 / sum(1 / each.us_a_put for each in found),
        max(each.p99_ms for each in found),
        max(each.longest_ms for each in found),
    )


def _write(where: Any, each: int, seconds: float, go: Any, said: Any) -> None:
    with ExitStack() as stack:
        put = _putting(where, f"of-{each}", stack)
        for _ in range(WARM_UP):
            put()
        took, clock = [], time.perf_counter_ns
        with garbage_later():
            go.wait(60)
            last = clock()
            end = last + int(seconds * 1e9)
            while last < end:
                put()
                now = clock()
                took.append(now - last)
                last = now
        took.sort()
        said.put(Together(seconds * 1e6 / len(took), took[len(took) * 99 // 100] / 1e6, took[-1] / 1e6))


def _putting(where: Any, name: str, stack: ExitStack) -> Callable[[], object]:
    if isinstance(where, tuple):
        plane = stack.enter_context(shmplane.Plane(where[0], root=where[1]))
        return partial(plane.__setitem__, name, VALUE)
    environment = stack.enter_context(lmdb.open(where, map_size=256 << 20, sync=False, metasync=False, writemap=True))
    key = name.encode()

    def put() -> None:
        with environment.begin(write=True) as transaction:
            transaction.put(key, VALUE)

    return put
