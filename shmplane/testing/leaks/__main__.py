"""``python -m shmplane.testing.leaks``; exit code 0: every limit holds, 1: one does not, 2: it could not be run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..roots import RunRoot
from .report import Report, unfreed

_DEFAULT = "shmplane.testing.leaks.workload:default_cycle"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m shmplane.testing.leaks", description="What a function leaks.")
    parser.add_argument("--out", type=Path, default=Path("leaks"), help="directory of the report (default: leaks)")
    parser.add_argument("--cycles", type=_positive, default=200, help="how often the function is called (default: 200)")
    parser.add_argument(
        "function",
        nargs="?",
        default=_DEFAULT,
        help="module:function; it gets a temporary plane when it takes an argument",
    )
    options = parser.parse_args(arguments)
    if ":" not in options.function:
        parser.error(f"{options.function!r} is not of the form module:function")
    if importlib.util.find_spec("memray") is None:
        parser.error("memray is not installed: pip install 'shmplane[testing]'")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shmplane-leaks-") as captures:
        code = _run(options.function, options.cycles, Path(captures))
        if code:
            sys.stderr.write(f"{options.function} did not run to its end (exit code {code}); no report was made\n")
            return 2
        report = _report(options.function, options.cycles, Path(captures))
        _draw(Path(captures) / "main.bin", options.out / "leaks.html")
    (options.out / "leaks.md").write_text(report.as_markdown())
    (options.out / "leaks.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    sys.stdout.write(f"{options.out}/leaks.md, leaks.json, leaks.html (flame graph)\n")
    for line in report.exceeded:
        sys.stderr.write(f"{line}\n")
    return 1 if report.exceeded else 0


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _run(function: str, cycles: int, captures: Path) -> int:
    """In a process of its own, where each allocation is the system's, and in a root of its own."""
    root = RunRoot()
    environment = {
        **os.environ,
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "PYTHONMALLOC": "malloc",
        "SHMPLANE_ROOT": str(root.path),
    }
    command = [sys.executable, "-m", "shmplane.testing.leaks.workload", "--captures", str(captures)]
    try:
        return subprocess.run([*command, "--cycles", str(cycles), function], env=environment, check=False).returncode
    finally:
        root.remove()


def _report(function: str, cycles: int, captures: Path) -> Report:
    processes = [captures / "main.bin", *sorted(captures.glob("worker-*.bin"))]
    told = [found for found in map(unfreed, processes) if found is not None]
    return Report(
        function,
        cycles,
        left=json.loads((captures / "left.json").read_text()),
        heap=sorted((place for found in told for place in found), key=lambda place: -place.nbytes),
        processes=len(processes),
        untold=len(processes) - len(told),
    )


def _draw(capture: Path, page: Path) -> None:
    """The flame graph of what was not freed, as memray makes it, where it can read what it has written."""
    command = [sys.executable, "-m", "memray", "flamegraph", "--leaks", "--force", "-o", str(page), str(capture)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
