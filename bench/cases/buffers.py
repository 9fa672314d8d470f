"""What does a buffer cost that is needed again and again?

Ours: a buffer of a ``BufferPool``, and one of ``plane.buffer``, each filled once. Baseline: filling an array of the same size
that is there already. Peer: ``np.empty``, filled. And how many pages each faults in, which is where the time goes.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, compare, garbage_later, interleave


def run(scale: Scale) -> Iterator[Row]:
    for megabytes in (1, 64):
        yield from _fill(megabytes << 20, scale)


def _fill(nbytes: int, scale: Scale) -> Iterator[Row]:
    pool = shmplane.BufferPool(2 * nbytes)
    there = np.zeros(nbytes, np.uint8)
    number = scale.pick(512 << 20, 128 << 20) // nbytes

    def pooled() -> None:
        with pool.buffer(nbytes) as buffer:
            np.frombuffer(buffer, np.uint8)[:] = 1

    def empty() -> None:
        np.empty(nbytes, np.uint8)[:] = 1

    def fill() -> None:
        there[:] = 1

    with shmplane.Plane.temporary(capacity=4 * nbytes + (8 << 20)) as plane:

        def planes() -> None:
            with plane.buffer(nbytes) as buffer:
                np.frombuffer(buffer, np.uint8)[:] = 1

        contestants: dict[str, Callable[[], Any]] = {
            "BufferPool": pooled,
            "fill": fill,
            "np.empty": empty,
            "plane.buffer": planes,
        }
        times = interleave({name: Contestant(act, number) for name, act in contestants.items()}, scale.rounds)
        faults = {name: _faults(act) for name, act in contestants.items()}
    # Of a MiB the calls cost as much as the bytes.
    target = 1.5 if nbytes >= 64 << 20 else None
    for name in ("BufferPool", "plane.buffer"):
        ours = {("ours" if one == name else one): its for one, its in times.items()}
        yield compare(f"{name}, {nbytes >> 20} MiB, filled once", ours, target=target, baseline="fill")
    yield Row(
        f"pages faulted in by a plane.buffer of {nbytes >> 20} MiB", faults.pop("plane.buffer"), "", 8, peers=faults
    )


def _faults(act: Callable[[], Any]) -> float:
    """How many pages a call faults in, once it has been made before."""
    act()
    with garbage_later():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        act()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
