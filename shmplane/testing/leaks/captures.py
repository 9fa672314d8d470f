"""What memray has written: the bytes that were not freed, a location at a time.

Each capture is read in a process of its own: memray can fail hard on one that was not ended, and the record of a process
that forks beside running threads is damaged now and then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Location", "unfreed"]

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
