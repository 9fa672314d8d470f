"""What a plane's processes have done so far, and how the plane is now: totals over the host, the ended included.

It is read in two steps. ``read_counts`` copies words under the lock: what is counted, a row per process, and the header.
``read_metrics`` does the rest without it, a word per block and process: while blocks come and go meanwhile, one of them may
be missed or be seen with what it was before. The only consequence is a gauge that is off by those for one reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

from ..manifest import KINDS, LIVE, WAIT_BOUNDS, Manifest, read_counters
from ..tables import WORD_NBYTES, Column
from .measurements import Histogram, Measurement

__all__ = ["Counts", "Metrics", "read_counts", "read_metrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """A plane's figures, over all processes that are or were in it.

    Counts only grow, also when a process ends or is killed. What a process gets again while it still holds the block takes
    no lock and is not counted.

    Attributes:
        puts: blocks published, by whatever call.
        gets: blocks looked up and found.
        misses: names that were looked up and not there.
        copied_nbytes: B written into shared memory.
        deletes: names taken away.
        evictions: blocks that made room for others.
        expirations: blocks whose time had come.
        conflicts: puts and commits refused since the name had moved on.
        reclaimed: processes that ended without giving back what they held, which others did.
        recoveries: transactions that somebody was killed in, put right.
        lock_wait: how long calls waited for the plane's own lock.
        permit_wait: how long callers waited for a lock or semaphore of the plane.
        blocks: by kind, those that have no name included.
        names: blocks that a name points to.
        leases: of all processes.
        permits: of locks, semaphores and pool limits, held now.
    """

    puts: int
    gets: int
    misses: int
    copied_nbytes: int
    deletes: int
    evictions: int
    expirations: int
    conflicts: int
    reclaimed: int
    recoveries: int
    lock_wait: Histogram
    permit_wait: Histogram
    capacity: int
    used_nbytes: int
    recycled_nbytes: int
    free_nbytes: int
    spilled_nbytes: int
    blocks: dict[str, int]
    names: int
    leases: int
    permits: int
    processes: int

    def measurements(self) -> Iterator[Measurement]:
        """The values under names as OpenTelemetry and Prometheus want them."""
        for field, name, unit, meaning in _COUNTS:
            yield Measurement(f"shmplane.{name}", "counter", unit, getattr(self, field), {}, meaning)
        for field, meaning in _TIMES:
            yield Measurement(f"shmplane.{field}", "histogram", "s", getattr(self, field), {}, meaning)
        for state in ("used", "recycled", "free", "spilled"):
            value, meaning = (
                getattr(self, f"{state}_nbytes"),
                "Bytes of segments; used, recycled and free make the capacity.",
            )
            yield Measurement("shmplane.segment", "updowncounter", "By", value, {"state": state}, meaning)
        for kind in sorted({*KINDS.values(), *self.blocks}):
            value, meaning = self.blocks.get(kind, 0), "Blocks, also those without a name."
            yield Measurement("shmplane.blocks", "updowncounter", "{block}", value, {"kind": kind}, meaning)
        for field, unit, meaning in _GAUGES:
            yield Measurement(f"shmplane.{field}", "updowncounter", unit, getattr(self, field), {}, meaning)


_COUNTS = (
    ("puts", "puts", "{block}", "Blocks published."),
    ("gets", "gets", "{block}", "Blocks looked up and found; getting again what the process holds is not counted."),
    ("misses", "get_misses", "{name}", "Names looked up and not there."),
    ("copied_nbytes", "copied", "By", "Bytes written into shared memory."),
    ("deletes", "deletes", "{name}", "Names deleted."),
    ("evictions", "evictions", "{block}", "Blocks that made room for others."),
    ("expirations", "expirations", "{block}", "Blocks whose time had come."),
    ("conflicts", "conflicts", "{conflict}", "Puts and commits refused since the name had moved on."),
    ("reclaimed", "reclaimed_processes", "{process}", "Processes that others reclaimed from, since they had ended."),
    ("recoveries", "recoveries", "{transaction}", "Transactions that a process was killed in, put right."),
)  # fmt: skip
_TIMES = (
    ("lock_wait", "Seconds that calls waited for the plane's own lock."),
    ("permit_wait", "Seconds that callers waited for locks and semaphores of the plane."),
)
_GAUGES = (
    ("capacity", "By", "The most bytes of segments."),
    ("names", "{name}", "Names that point to a block."),
    ("leases", "{lease}", "Leases on blocks, of all processes."),
    ("permits", "{permit}", "Permits of locks, semaphores and pool limits that are held."),
    ("processes", "{process}", "Processes in the plane."),
)


#: of each low byte of a state, whether it is that of a live block
_IS_LIVE = bytes(state == LIVE for state in range(256))


#: whose words are still in the processor's cache when they are read a second time
_ROWS_AT_ONCE = 2048


class Counts(NamedTuple):
    """What was read under the lock: fields of ``Metrics``, and where to look for the others."""

    known: dict[str, Any]
    blocks_high: int
    slots: list[int]
    coordinating: list[int]


def read_counts(manifest: Manifest) -> Counts:
    """The counts and the header's words; under the lock. Cost: some 2 µs a process."""
    header, processes = manifest.header, manifest.processes
    slots, words = manifest.slots_in_use(), read_counters(manifest)
    capacity, used, recycled = header.capacity[0], header.used_nbytes[0], header.recycled_nbytes[0]
    known: dict[str, Any] = {field: words[field][0] for field, *_ in _COUNTS}
    known |= {
        "lock_wait": _lock_wait(words),
        "permit_wait": Histogram(tuple(words["permit_waits"]), words["permit_waited_ns"][0] / 1e9, WAIT_BOUNDS),
        "capacity": capacity,
        "used_nbytes": used,
        "recycled_nbytes": recycled,
        "free_nbytes": capacity - used - recycled,
        "spilled_nbytes": header.spilled_nbytes[0],
        "names": header.live_names[0],
        "processes": len(slots),
    }
    return Counts(known, manifest.blocks_high, slots, [slot for slot in slots if processes.coordinates[slot]])


def _lock_wait(words: dict[str, list[int]]) -> Histogram:
    """Most often nobody waits: those who did not are all who had it but those who did."""
    waits, takes = words["waits"], words["takes"][0]
    at_once = max(0, takes - sum(waits))
    return Histogram((at_once + waits[0], *waits[1:]), words["waited_ns"][0] / 1e9, WAIT_BOUNDS)


def read_metrics(manifest: Manifest, counts: Counts) -> Metrics:
    """All of it; without the lock. Cost: some 0.1 µs a block."""
    high = counts.blocks_high
    starts = range(0, high, _ROWS_AT_ONCE)
    kinds = b"".join(_live_kinds(manifest, start, min(start + _ROWS_AT_ONCE, high)) for start in starts)
    semaphores = manifest.semaphores_high
    return Metrics(
        **counts.known,
        blocks={name: kinds.count(code) for code, name in KINDS.items() if code in kinds},
        leases=sum(_low_bytes(manifest.lease_row(slot)[:high]).count(1) for slot in counts.slots),
        permits=sum(sum(manifest.permit_rows(slot)[0][:semaphores].tolist()) for slot in counts.coordinating),
    )


def _live_kinds(manifest: Manifest, start: int, end: int) -> bytes:
    """A byte per block that is live."""
    blocks = manifest.blocks
    live = _low_bytes(blocks.state[start:end]).translate(_IS_LIVE)
    return bytes(compress(_low_bytes(blocks.kind[start:end]), live))


def _low_bytes(column: Column) -> bytes:
    """The lowest byte of each word, which is all that states, kinds and leases need. Words are little-endian."""
    return column.tobytes()[::WORD_NBYTES]
