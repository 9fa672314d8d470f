"""What does a small block cost, from put to delete?

Ours: ``plane.put`` and ``plane.delete`` of 1 KB under one name, hot loop.
Baseline: the standard library's ``SharedMemory`` create, copy, close, unlink of 1 KB, hot loop.
Peers: LMDB's put and delete in two transactions; our own ``plane[name] = value``, which hands out no ``Block``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave
from bench.peers import create_copy_unlink, open_lmdb


def run(scale: Scale) -> Iterator[Row]:
    source = np.arange(1024, dtype=np.uint8)
    number = scale.pick(5_000, 1_000)
    with shmplane.Plane.temporary(capacity="256MiB") as plane, open_lmdb(16 << 20) as lmdb:

        def put_and_delete() -> None:
            plane.put("x", source)
            plane.delete("x")

        def set_and_delete() -> None:
            plane["x"] = source
            del plane["x"]

        contestants = {
            "ours": Contestant(put_and_delete, number),
            "ours by plane[name] = value": Contestant(set_and_delete, number),
            "stdlib": Contestant(lambda: create_copy_unlink(source), number),
        }
        if lmdb:
            contestants["LMDB"] = Contestant(lambda: lmdb.put_and_delete(b"x", source), number)
        times = interleave(contestants, scale.rounds)
    yield compare("put and delete 1 KB, hot loop", times, target=0.5, baseline="stdlib")
