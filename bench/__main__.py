"""``python -m bench [--quick] [--json FILE] [CASE ...]``: run the cases, print the table.

``python -m bench cache-traces [FILE ...]`` replays traces of requests through the eviction policies instead.

The exit code is 1 when a case failed with an error. A target that was missed is shown and changes nothing:
times are never asserted.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import pkgutil
import sys
import time
import traceback
from pathlib import Path

from bench import cache_traces, cases
from bench.harness import Row, Scale
from bench.host import describe_host, show_host
from bench.report import Outcome, count, show_table


def main() -> int:
    if sys.argv[1:2] == ["cache-traces"]:
        return cache_traces.main(sys.argv[2:])
    names = sorted(module.name for module in pkgutil.iter_modules(cases.__path__))
    options = _parse(names)
    scale = Scale(quick=options.quick)
    host = describe_host()
    print(show_host(host), end="\n\n", flush=True)
    outcomes = [_run(name, scale) for name in options.cases or names]
    print(show_table(outcomes))
    print(f"\n{count(outcomes)}")
    if options.json:
        report = {
            "schema_version": 1,
            "quick": scale.quick,
            "host": host,
            "cases": [outcome.as_dict() for outcome in outcomes],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(any(outcome.error for outcome in outcomes))


def _parse(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(names)}; all without")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller data, a few minutes for everything"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure and the host's facts")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return options


def _run(name: str, scale: Scale) -> Outcome:
    print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
    rows: list[Row] = []
    began = time.monotonic()
    error = None
    try:
        for row in importlib.import_module(f"bench.cases.{name}").run(scale):
            rows.append(row)  # noqa: PERF402 - what came before an error is kept
    except Exception as problem:
        traceback.print_exc()
        error = f"{type(problem).__name__}: {problem}"
    gc.collect()
    seconds = time.monotonic() - began
    print(f"{seconds:.1f} s", file=sys.stderr, flush=True)
    return Outcome(name, rows, seconds, error)


if __name__ == "__main__":
    sys.exit(main())
