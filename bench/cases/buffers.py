"""What does a buffer cost that is needed again and again?

Ours: a buffer of a ``BufferPool``, filled once, and one of ``plane.buffer``. Baseline: filling an array of the same size that
is there already. Peer: ``np.empty``, filled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave


def run(scale: Scale) -> Iterator[Row]:
    for megabytes in (1, 64):
        yield _fill(megabytes << 20, scale)


def _fill(nbytes: int, scale: Scale) -> Row:
    pool = shmplane.BufferPool(2 * nbytes)
    there = np.zeros(nbytes, np.uint8)
    number = scale.pick(512 << 20, 128 << 20) // nbytes

    def ours() -> None:
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

        contestants = {"ours": ours, "fill": fill, "np.empty": empty, "plane.buffer": planes}
        times = interleave({name: Contestant(act, number) for name, act in contestants.items()}, scale.rounds)
    return compare(f"buffer of {nbytes >> 20} MiB, filled once", times, target=None, baseline="fill")
