"""Do 100,000 small blocks stay cheap, and do they need descriptors or mappings?

Ours: create, ``name in plane`` and delete of 100,000 blocks of 1 KB, in five parts of 20,000 (so a cost that
grows with what is there shows in the spread). Baseline: none; the figures are times.
Peer: LMDB, a transaction each, part by part in the same run. The standard library runs out of descriptors.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import shmplane
from bench.harness import Row, Scale, time_each
from bench.peers import open_lmdb

BLOCKS = 100_000
PARTS = 5

Times = dict[str, list[float]]


def run(scale: Scale) -> Iterator[Row]:  # noqa: ARG001 - small enough to be the same
    source = np.arange(1024, dtype=np.uint8)
    names = [f"block/{number:06}" for number in range(BLOCKS)]
    parts = [names[start : start + BLOCKS // PARTS] for start in range(0, BLOCKS, BLOCKS // PARTS)]
    ours: dict[str, Times] = {}
    with (
        shmplane.Plane.temporary(capacity="1GiB", max_blocks=2 * BLOCKS) as plane,
        open_lmdb(1 << 30) as lmdb,
    ):
        before = after = _descriptors(), _mappings()
        calls: dict[str, list[tuple[str, Callable[[str], object]]]] = {
            "create": [("ours", lambda name: plane.put(name, source))],
            "name in plane": [("ours", lambda name: name in plane)],
            "delete": [("ours", plane.delete)],
        }
        if lmdb:
            calls["create"].append(("LMDB", lambda name: lmdb.put(name.encode(), source)))
            calls["name in plane"].append(("LMDB", lambda name: lmdb.contains(name.encode())))
            calls["delete"].append(("LMDB", lambda name: lmdb.delete(name.encode())))
        for what, contestants in calls.items():
            ours[what] = {who: [] for who, _ in contestants}
            for part in parts:
                for who, call in contestants:
                    ours[what][who].append(time_each(call, part) * 1e6)
            if what == "create":
                after = _descriptors(), _mappings()
    for what, target in (("create", 25), ("name in plane", 5), ("delete", 15)):
        yield _row(f"100,000 blocks of 1 KB: {what}", ours[what], target)
    yield Row("100,000 blocks: descriptors added", after[0] - before[0], "", 0)
    # Slabs double in size up to a limit, so their mappings are counted in dozens at most.
    yield Row("100,000 blocks: mappings added", after[1] - before[1], "", 64)


def _row(what: str, times: Times, target: float) -> Row:
    medians = {who: statistics.median(its) for who, its in times.items()}
    return Row(
        what, medians.pop("ours"), "us", target, peers=medians, rounds=tuple(times["ours"]),
    )  # fmt: skip


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _mappings() -> int:
    return len(Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines())
