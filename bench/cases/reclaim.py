"""How long until what a killed process held is there again?

A process takes leases on 500 blocks and a lock, begins a block of 64 MB, and is killed. Measured from when the kernel
has dropped its token (its end was waited for): one ``gc`` here, and the acquire of a process that waits for the lock.
Baseline: none; the figures are times. Peer: none; the standard library never gives back.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import shmplane
from bench.harness import Row, Scale, garbage_later

BLOCKS = 500
BEING_MADE = 64 << 20


def run(scale: Scale) -> Iterator[Row]:
    rounds = scale.pick(100, 10)
    with shmplane.Plane.temporary(capacity="512MiB") as plane:
        for number in range(BLOCKS):
            plane[f"block/{number}"] = bytes(1_000)
        collected = [_collect(plane) for _ in range(rounds)]
        waited = [_wait(plane) for _ in range(scale.pick(20, 5))]
    slowest = statistics.quantiles(collected, n=100, method="inclusive")[-1]
    what = f"gc after a kill, p99 of {rounds} ({BLOCKS} leases, a lock, {BEING_MADE >> 20} MB being made)"
    yield Row(what, slowest * 1e3, "ms", 50, rounds=tuple(its * 1e3 for its in collected))
    yield Row("a killed holder's lock, until its waiter has it, longest", max(waited) * 1e3, "ms", 1_000)


def _killed(plane: shmplane.Plane, *, before: Callable[[], None] = lambda: None) -> None:
    """A process that has taken what it can, and its end; ``before`` that, something here."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(theirs, plane))
    process.start()
    ours.recv()
    before()
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()
    ours.close()
    theirs.close()


def _hold(connection: Any, plane: shmplane.Plane) -> None:
    held = [plane[f"block/{number}"] for number in range(BLOCKS)]
    plane.lock("lock").acquire()
    with plane.create("large", (BEING_MADE,), "u1") as builder:
        builder.array[:] = 1
        connection.send(len(held))
        time.sleep(60)


def _collect(plane: shmplane.Plane) -> float:
    _killed(plane)
    with garbage_later():
        began = time.perf_counter()
        plane.gc()
        return time.perf_counter() - began


def _wait(plane: shmplane.Plane) -> float:
    """From the end of the holder until a thread here, which waited before, has the lock."""
    got: list[float] = []

    def wait() -> None:
        with plane.lock("lock"):
            got.append(time.perf_counter())

    def start() -> None:
        waiter.start()
        time.sleep(0.02)
        if got:
            raise RuntimeError("the lock was free")

    waiter = threading.Thread(target=wait)
    _killed(plane, before=start)
    ended = time.perf_counter()
    waiter.join()
    return got[0] - ended
