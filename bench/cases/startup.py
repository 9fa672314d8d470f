"""What do ``import shmplane`` and ``shmplane ls`` cost over starting Python?

Ours: a new interpreter that imports the package, or lists the one plane of a root. Baseline: a new interpreter that does
nothing, taken in turn and subtracted. Peer: a new interpreter that imports NumPy.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, interleave, show_seconds
from bench.peers import SHARED_MEMORY


def run(scale: Scale) -> Iterator[Row]:
    yield _measure("import shmplane", ["-c", "import shmplane"], scale=scale, target=60)
    with (
        tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix="shmplane-bench-") as root,
        shmplane.Plane("listed", root=root) as plane,
    ):
        plane["x"] = b"x"
        yield _measure("shmplane ls", ["-m", "shmplane", "--root", root, "ls"], scale=scale, target=100)
        plane.destroy()


def _measure(what: str, arguments: list[str], *, scale: Scale, target: float) -> Row:
    times = interleave(
        {
            "ours": Contestant(_starter(arguments)),
            "bare Python": Contestant(_starter(["-c", "pass"])),
            "import numpy": Contestant(_starter(["-c", "import numpy"])),
        },
        scale.rounds,
    )
    bare = times.pop("bare Python")
    over = {name: [its - base for its, base in zip(theirs, bare, strict=True)] for name, theirs in times.items()}
    baseline = f"bare Python {show_seconds(statistics.median(bare))}"
    return absolute(f"{what}, over bare Python", over, unit="ms", target=target, baseline=baseline)


def _starter(arguments: list[str]) -> Callable[[], None]:
    command = [sys.executable, *arguments]

    def start() -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip() or done.returncode}")

    return start
