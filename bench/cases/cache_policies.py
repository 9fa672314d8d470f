"""How many requests miss, in a cache of a tenth of the bytes of all keys?

Ours: the mean of the default policy over five synthetic traces (Zipf alone, with scans, with a loop), and of one with sizes.
Baseline: none, the figures are ratios of misses; peers: the same under lru and fifo. ``python -m bench cache-traces FILE ...``
replays traces of your own through all policies.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.cache_traces import SIZED_BYTES, SIZED_OBJECTS, UNIT_OBJECTS
from bench.harness import Row, Scale
from bench.traces import SYNTHETIC, HitRatios, replay

POLICIES = ("s3fifo", "lru", "fifo")


def run(scale: Scale) -> Iterator[Row]:
    unit: dict[str, list[HitRatios]] = {policy: [] for policy in POLICIES}
    sized: dict[str, list[HitRatios]] = {policy: [] for policy in POLICIES}
    for make in SYNTHETIC.values():
        requests = make()[: scale.pick(100_000, 40_000)]
        nbytes = sum({request.key: request.nbytes for request in requests}.values())
        found = sized if any(request.nbytes != 1 for request in requests) else unit
        for policy in POLICIES:
            found[policy].append(replay(requests, policy, nbytes // 10))
    misses = {policy: [1 - one.objects for one in its] for policy, its in unit.items()}
    yield _row("misses, five synthetic traces", misses, 1 - UNIT_OBJECTS)
    misses = {policy: [1 - one.objects for one in its] for policy, its in sized.items()}
    yield _row("misses, synthetic trace with sizes", misses, 1 - SIZED_OBJECTS)
    misses = {policy: [1 - one.nbytes for one in its] for policy, its in sized.items()}
    yield _row("bytes missed, synthetic trace with sizes", misses, 1 - SIZED_BYTES)


def _row(what: str, misses: dict[str, list[float]], target: float) -> Row:
    means = {policy: sum(its) / len(its) for policy, its in misses.items()}
    ours = means.pop("s3fifo")
    return Row(what, ours, "", target, peers=means, rounds=tuple(misses["s3fifo"]))
