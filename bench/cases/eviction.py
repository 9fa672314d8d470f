"""What does a put into a full plane cost, whose evictable blocks have to make room?

Ours: ``plane.put`` of 1 KB, evictable, into a plane that is full of 4,000 and of 60,000 such blocks.
Baseline: the same put into a plane with room.
Peers: none; diskcache evicts by an SQL query a set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave

BLOCKS = (4_000, 60_000)
VALUE = b"x" * 1_000


def run(scale: Scale) -> Iterator[Row]:
    for blocks in BLOCKS[:1] if scale.quick else BLOCKS:
        yield _one(scale, blocks)


def _one(scale: Scale, blocks: int) -> Row:
    number = min(2_000, blocks // 16)
    with _plane(blocks) as full, _plane(blocks) as roomy:
        for plane in (full, roomy):
            for index in range(blocks):
                plane.put(f"first/{index}", VALUE, evictable=True).close()
        roomy.put("more", VALUE).close()
        full.trim(0)
        full.resize(full.stats().used_nbytes)
        names = itertools.count()

        def put_into_full() -> None:
            full.put(f"more/{next(names)}", VALUE, evictable=True).close()

        def put_with_room() -> None:
            roomy.put(f"more/{next(names)}", VALUE, evictable=True).close()

        contestants = {"ours": Contestant(put_into_full, number), "with room": Contestant(put_with_room, number)}
        times = interleave(contestants, scale.rounds)
        assert len(full) < 2 * blocks
    return compare(
        f"put 1 KB into a plane full of {blocks:,} evictable blocks", times, target=2.0, baseline="with room"
    )


def _plane(blocks: int) -> shmplane.Plane:
    return shmplane.Plane.temporary(max_blocks=2 * blocks, capacity=8 * blocks * len(VALUE))
