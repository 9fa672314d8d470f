"""How long does it take to delete 1 GB that may stay warm?

Ours: ``plane.delete`` of a block of 1 GB, with ``recycle`` larger than that.
Baseline: none; the figure is a time. Peer: the standard library's unlink of as much, by the last user.
"""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, interleave
from bench.peers import create_and_copy

NBYTES = 1_000_000_000


def run(scale: Scale) -> Iterator[Row]:
    source = np.zeros(NBYTES, np.uint8)
    shared: list[SharedMemory] = []

    def unlink() -> None:
        last = shared.pop()
        last.close()
        last.unlink()

    with shmplane.Plane.temporary(capacity="3GiB", recycle="2GiB") as plane:
        contestants = {"ours": Contestant(lambda: plane.delete("x"), before=lambda: plane.put("x", source).close())}
        times = interleave(contestants, scale.rounds)
    if not scale.quick:
        contestants = {
            "stdlib": Contestant(unlink, before=lambda: shared.append(create_and_copy(source))),
        }
        times |= interleave(contestants, scale.rounds)
    yield absolute("delete 1 GB, within recycle", times, unit="us", target=100)
