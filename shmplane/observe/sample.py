"""A plane at one moment, for whoever looks again and again: totals, what each process holds, the largest blocks, and counts.

Rule 1. Only what fits each other is copied under the lock: totals, leases, permits. A column of a word per block is read
without it, for display: the only consequence of a block that comes or goes meanwhile is one wrong figure until the next look.
Rule 2. Counts only grow while a plane lives, so two samples of it make rates.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from heapq import nlargest
from typing import TYPE_CHECKING, NamedTuple

from ..manifest import KINDS, LIVE, checked, row_of_name_word

if TYPE_CHECKING:
    from ..manifest import Manifest, Summary
    from .metrics import Metrics
    from .open import Reading

__all__ = ["LargeBlock", "Sample", "rates", "sample_of"]

MOST_BLOCKS = 64


class LargeBlock(NamedTuple):
    """A live block: one of the largest."""

    name: str | None  #: that it was published under
    is_current: bool  #: the name points to it still
    kind: str
    nbytes: int
    version: int
    leases: int


class Sample(NamedTuple):
    """What one look at a plane found.

    Attributes:
        time: in s, of ``monotonic``.
        instance: tells one plane of a name from the next.
        leased_nbytes: B of the blocks that a process leases, by slot.
        largest: live blocks, the largest first.
        counts: what only grows while the plane lives, by name: calls, B copied, and s that calls waited for the plane's lock.
    """

    time: float
    instance: int
    summary: Summary
    spilled_nbytes: int
    leased_nbytes: Mapping[int, int]
    largest: tuple[LargeBlock, ...]
    counts: Mapping[str, float]


def sample_of(plane: Reading) -> Sample:
    """Look once. Cost: some 10 ms for 100,000 blocks, a fraction of it under the lock."""
    return checked(plane.name, _read, plane)


def _read(plane: Reading) -> Sample:
    summary, metrics, manifest = plane.summary(), plane.figures().metrics, plane.manifest
    high = manifest.blocks_high
    states, sizes = manifest.blocks.state[:high].tolist(), manifest.blocks.body_nbytes[:high].tolist()
    leases: dict[int, int] = {}
    for process in summary.living:
        for row in process.leases:
            leases[row] = leases.get(row, 0) + 1
    live = [row for row, state in enumerate(states) if state == LIVE]
    return Sample(
        time.monotonic(),
        manifest.header.instance[0],
        summary,
        metrics.spilled_nbytes,
        {process.slot: sum(sizes[row] for row in process.leases if row < len(sizes)) for process in summary.processes},
        tuple(
            _large_block(manifest, row, sizes[row], leases.get(row, 0))
            for row in nlargest(MOST_BLOCKS, live, key=sizes.__getitem__)
        ),
        _counts(metrics),
    )


def _large_block(manifest: Manifest, row: int, nbytes: int, leases: int) -> LargeBlock:
    blocks, names = manifest.blocks, manifest.names
    name, name_row = None, blocks.name[row] - 1
    if 0 <= name_row < manifest.names_high and names.length[name_row]:
        name = names.text.read(name_row, names.length[name_row]).decode(errors="replace")
    is_current = name is not None and row_of_name_word(names.word[name_row]) == row
    return LargeBlock(name, is_current, KINDS.get(blocks.kind[row], "unknown"), nbytes, blocks.version[row], leases)


def _counts(metrics: Metrics) -> dict[str, float]:
    return {
        "puts": metrics.puts,
        "gets": metrics.gets,
        "misses": metrics.misses,
        "deletes": metrics.deletes,
        "evictions": metrics.evictions,
        "copied": metrics.copied_nbytes,
        "waited": metrics.lock_wait.seconds,
    }


def rates(before: Sample | None, now: Sample) -> dict[str, float] | None:
    """Counts a second between two samples; None when they are not of one plane, or no time has passed."""
    if before is None or before.instance != now.instance or now.time <= before.time:
        return None
    return {
        name: max(0.0, count - before.counts.get(name, count)) / (now.time - before.time)
        for name, count in now.counts.items()
    }
