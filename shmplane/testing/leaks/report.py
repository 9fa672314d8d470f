"""The report: what is left, beside its limit, as Markdown and as JSON.

What memray has written is read in a process of its own: memray can fail hard on a capture that was not ended, and the record
of a process that forks beside running threads is damaged now and then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Report", "unfreed"]

#: B that one location may keep: caches that fill up once
HEAP_LIMIT_NBYTES = 64 * 1024
_KINDS = ("planes", "segments", "leases", "permits", "descriptors")
_SHOWN = 10
_DEEPEST = 64
_MAPPINGS = {"MMAP", "MUNMAP"}


@dataclass(frozen=True, slots=True)
class Location:
    """A line of code, and what it allocated in one process that was never freed."""

    process: str
    where: str
    nbytes: int
    blocks: int


def unfreed(capture: Path) -> list[Location] | None:
    """The locations of one process, most bytes first; None when memray cannot tell: it was killed, or forked beside threads."""
    done = subprocess.run([sys.executable, "-m", __spec__.name, str(capture)], capture_output=True, check=False)
    return None if done.returncode or done.stderr else [Location(**found) for found in json.loads(done.stdout)]


def _read(capture: Path) -> list[Location]:
    import memray

    nbytes, blocks = Counter[str](), Counter[str]()
    with memray.FileReader(capture) as reader:
        for record in reader.get_leaked_allocation_records(merge_threads=True):
            stack = record.stack_trace(_DEEPEST)
            if memray.AllocatorType(record.allocator).name in _MAPPINGS or _is_kept(stack):
                continue
            where = _described(stack)
            nbytes[where] += record.size
            blocks[where] += record.n_allocations
    process = capture.name.removesuffix(".bin")
    return [Location(process, where, most, blocks[where]) for where, most in nbytes.most_common()]


def _described(stack: Iterable[tuple[str, str, int]]) -> str:
    for function, file, line in stack:
        return f"{function} at {file}:{line}"
    return "outside of Python"


def _is_kept(stack: list[Any]) -> bool:
    """What an import made stays."""
    return any("importlib" in file for _, file, _ in stack)


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(place) for place in _read(Path(sys.argv[1]))]))


@dataclass(frozen=True, slots=True)
class Report:
    """What a workload left behind.

    Attributes:
        left: how many more there are after all cycles than before, by kind and by what they are called.
        heap: locations whose memory was not freed, in all processes, most bytes first.
        processes: that memray looked at: the one that calls the function, and its workers.
        untold: those of them that it has no figures of: killed, ended without their exit hooks, or forked beside threads.
    """

    function: str
    cycles: int
    left: dict[str, dict[str, int]]
    heap: list[Location]
    processes: int = 1
    untold: int = 0
    heap_limit_nbytes: int = field(default=HEAP_LIMIT_NBYTES)

    @property
    def exceeded(self) -> list[str]:
        """A line for each limit that does not hold."""
        counts = [
            f"{kind}: {count} more of {thing}"
            for kind in _KINDS
            for thing, count in sorted(self.left.get(kind, {}).items())
        ]
        heap = [
            f"heap: {place.nbytes:,} B of {place.where} ({place.process})"
            for place in self.heap
            if place.nbytes > self.heap_limit_nbytes
        ]
        return counts + heap

    def as_json(self) -> dict[str, Any]:
        """One object with a ``schema_version``."""
        return {
            "schema_version": 1,
            "function": self.function,
            "cycles": self.cycles,
            "limits": {**dict.fromkeys(_KINDS, 0), "heap_nbytes_a_location": self.heap_limit_nbytes},
            "left": self.left,
            "heap": [asdict(place) for place in self.heap],
            "processes": self.processes,
            "processes_without_figures": self.untold,
            "exceeded": self.exceeded,
        }

    def as_markdown(self) -> str:
        """A table of what has limits, then the locations that keep most."""
        lines = [
            f"# Leaks: {'none' if not self.exceeded else f'{len(self.exceeded)} limits exceeded'}",
            "",
            f"`{self.function}`, {self.cycles} cycles, {self.processes} processes"
            + (f", {self.untold} of them without figures of memory" if self.untold else ""),
            "",
            "| what | limit | left | where |",
            "| --- | ---: | ---: | --- |",
        ]
        for kind in _KINDS:
            things = self.left.get(kind, {})
            lines.append(f"| {kind} | 0 | {sum(things.values())} | {_cell(', '.join(sorted(things)))} |")
        most = self.heap[0] if self.heap else Location("", "", 0, 0)
        lines.append(f"| memory a location, B | {self.heap_limit_nbytes:,} | {most.nbytes:,} | {_cell(most.where)} |")
        lines += ["", "| B kept | allocations | process | location |", "| ---: | ---: | --- | --- |"]
        lines += [
            f"| {place.nbytes:,} | {place.blocks:,} | {place.process} | {_cell(place.where)} |"
            for place in self.heap[:_SHOWN]
        ]
        return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
