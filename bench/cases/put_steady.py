"""What does a put cost once memory is warm, beyond the copy itself?

Ours: ``plane.put`` and ``plane.delete`` of one name in a loop, from its fifth turn on; 100 MB on two threads when a
core is idle.
Baseline: ``np.copyto`` into warm mapped shared memory, which nobody can beat.
Peers: the standard library's create, copy, close, unlink; LMDB's put and delete in two transactions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave
from bench.peers import create_copy_unlink, open_lmdb, warm_shared_memory

MB = 1_000_000


def run(scale: Scale) -> Iterator[Row]:
    yield _measure("put 100 MB, steady", 100 * MB, scale=scale, number=1, target=1.0)
    yield _measure("put 1 MB, steady", MB, scale=scale, number=scale.pick(200, 50), target=1.6)


def _measure(what: str, nbytes: int, *, scale: Scale, number: int, target: float) -> Row:
    source = np.random.default_rng(7).integers(0, 255, nbytes, np.uint8)
    warm = warm_shared_memory(nbytes)
    with shmplane.Plane.temporary(capacity="1GiB") as plane, open_lmdb(4 * nbytes + 16 * MB) as lmdb:

        def put_and_delete() -> None:
            plane.put("x", source)
            plane.delete("x")

        contestants = {
            "ours": Contestant(put_and_delete, number),
            "np.copyto": Contestant(lambda: np.copyto(warm, source), number),
            "stdlib": Contestant(lambda: create_copy_unlink(source), number),
        }
        if lmdb:
            contestants["LMDB"] = Contestant(lambda: lmdb.put_and_delete(b"x", source), number)
        times = interleave(contestants, scale.rounds, warm_up=4)
    return compare(what, times, target=target, baseline="np.copyto")
