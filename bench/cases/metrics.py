"""What do figures cost: to count them, and to read them from a plane of 100,000 blocks?

Ours: what counting adds to a get that takes the lock (two stores; a get of what the process holds counts nothing),
``plane.metrics()``, how long the plane's lock is held for it, and a whole scrape by ``Collector(plane)``.
Baseline: none; the figures are times. Peer of the reading: ``plane.layout()``, which copies the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, interleave
from shmplane.observe import read_counts

BLOCKS = 100_000


def run(scale: Scale) -> Iterator[Row]:
    blocks = scale.pick(BLOCKS, BLOCKS // 5)
    with shmplane.Plane.temporary(capacity="1GiB", max_blocks=2 * blocks) as plane:
        for number in range(blocks):
            plane[f"block number {number:06}"] = number
        tx, manifest = plane._attachment._tx, plane._attachment.manifest

        def count() -> None:
            tx.counters.takes[tx.count_row] += 1
            tx.counters.gets[tx.count_row] += 1

        counting = interleave({"ours": Contestant(count, scale.pick(20_000, 5_000))}, scale.rounds)
        read = interleave({"ours": Contestant(plane.metrics), "plane.layout()": Contestant(plane.layout)}, scale.rounds)
        under_lock = interleave({"ours": Contestant(lambda: read_counts(manifest), 20)}, scale.rounds)
        scrapes = interleave({"ours": Contestant(_scrape(plane))}, scale.rounds)
    yield absolute("what counting adds to a get that takes the lock", counting, unit="us", target=0.3)
    yield absolute(f"metrics of {blocks:,} blocks", read, unit="ms", target=20)
    yield absolute(f"metrics of {blocks:,} blocks: under the lock", under_lock, unit="ms", target=2)
    yield absolute(f"a scrape of {blocks:,} blocks by a Collector", scrapes, unit="ms", target=30)


def _scrape(plane: shmplane.Plane) -> Callable[[], object]:
    from prometheus_client import CollectorRegistry, generate_latest

    from shmplane.integrations.prometheus import Collector

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(plane))
    return lambda: generate_latest(registry)
