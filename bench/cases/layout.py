"""What does it cost to see the memory of a plane with 100,000 blocks?

Ours: ``plane.layout().html()``, its size, and how long the plane's lock is held for it: the copy of the tables.
Baseline: none; the figures are times. Peer: the rows of all blocks as objects, ``plane.blocks()``.
"""

from __future__ import annotations

from collections.abc import Iterator

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, interleave
from shmplane.manifest import TableCopier

BLOCKS = 100_000


def run(scale: Scale) -> Iterator[Row]:
    blocks = scale.pick(BLOCKS, BLOCKS // 5)
    with shmplane.Plane.temporary(capacity="1GiB", max_blocks=2 * blocks) as plane:
        for number in range(blocks):
            plane[f"block number {number:06}"] = number
        pages = interleave(
            {
                "ours": Contestant(lambda: plane.layout().html()),
                "plane.blocks()": Contestant(plane.blocks),
            },
            scale.rounds,
        )
        nbytes = len(plane.layout().html().encode())
        manifest = plane._attachment.manifest
        copier = TableCopier(manifest, with_blocks=True)
        copies = interleave({"ours": Contestant(copier.copy)}, scale.rounds)
    yield absolute(f"layout of {blocks:,} blocks as HTML", pages, unit="ms", target=500)
    yield Row(f"layout of {blocks:,} blocks: size of the HTML", nbytes / 1e6, "MB", 0.06)
    yield absolute(f"layout of {blocks:,} blocks: under the lock", copies, unit="ms", target=20)
