"""What does it cost to read a block that was spilled, and to put into a plane that is full?

Ours: the first get of a block of a plane with ``spill=``, whose bytes lie in a file, and the sum of its array; what the
process had mapped is forgotten before. Baseline: ``np.load`` of a file with the same array, and its sum. Peers: ``np.load``
with ``mmap_mode="r"``, and the get of a block in memory. The kernel has both files in its cache.
For puts: blocks of 16 MB, each of which has others move to the disk, beside ``np.save`` to files of that disk.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave

PUT_NBYTES = 16 << 20


def run(scale: Scale) -> Iterator[Row]:
    nbytes = scale.pick(256 << 20, 32 << 20)
    # Not in shared memory: there a file is memory, and not on a disk.
    with tempfile.TemporaryDirectory(prefix="shmplane-bench-", dir="/var/tmp") as directory:
        yield _get(Path(directory), nbytes, scale)
        yield _put(Path(directory), scale)


def _get(directory: Path, nbytes: int, scale: Scale) -> Row:
    array = np.random.default_rng(7).random(nbytes // 8)
    np.save(directory / "array.npy", array)
    with shmplane.Plane.temporary(capacity=nbytes + nbytes // 2, spill=directory) as plane:
        plane["spilled"] = array
        plane["in memory"] = array  # there is no room for both
        places = {info.name: info.place for info in plane.blocks()}
        assert places == {"spilled": "spill", "in memory": "memory"}, places

        def get(name: str) -> None:
            plane._attachment.memory.drop()
            plane[name].sum()

        contestants = {
            "ours": lambda: get("spilled"),
            "np.load": lambda: np.load(directory / "array.npy").sum(),
            "np.load, mapped": lambda: np.load(directory / "array.npy", mmap_mode="r").sum(),
            "in memory": lambda: get("in memory"),
        }
        times = interleave({name: Contestant(act) for name, act in contestants.items()}, scale.rounds)
        return compare(f"sum of a spilled block of {nbytes / 1e6:,.0f} MB", times, target=1.0, baseline="np.load")


def _put(directory: Path, scale: Scale) -> Row:
    array, count = np.zeros(PUT_NBYTES // 8), 64
    numbers = {name: itertools.count() for name in ("ours", "np.save")}
    with shmplane.Plane.temporary(capacity=8 * PUT_NBYTES, spill=directory) as plane:

        def put() -> None:
            plane[f"x/{next(numbers['ours']) % count}"] = array

        def save() -> None:
            np.save(directory / f"x{next(numbers['np.save']) % count}.npy", array)

        for _ in range(count):
            put()
        times = interleave({"ours": Contestant(put), "np.save": Contestant(save)}, scale.rounds)
        what = f"put {PUT_NBYTES / 1e6:,.0f} MB into a plane that is full"
        return compare(what, times, target=None, baseline="np.save")
