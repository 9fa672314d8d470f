"""``python -m bench cache-traces [FILE ...]``: what each eviction policy would have hit, at a tenth of the bytes.

A file has a request a line: ``key[,size[,cost]]``, with a comma or blanks between; the size in bytes, 1 where it is not given
(such a trace is called *unit*), the cost in microseconds. Without a file: synthetic traces, marked as such, since a policy
that is good at them need not be good at yours.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.traces import SYNTHETIC, HitRatios, Request, replay
from shmplane.manifest.policies import POLICIES

#: the lowest mean hit ratios of the default policy: TARGETS
UNIT_OBJECTS, SIZED_OBJECTS, SIZED_BYTES = 0.56, 0.56, 0.39


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench cache-traces", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="key[,size[,cost]] a line; synthetic without"
    )
    parser.add_argument("--share", type=float, default=0.1, help="of the bytes of all keys that fit (default: 0.1)")
    options = parser.parse_args(arguments)
    if options.files:
        traces = ((path.name, "file", list(_read(path))) for path in options.files)
    else:
        traces = ((name, "synthetic", make()) for name, make in SYNTHETIC.items())
    found: dict[bool, list[dict[str, HitRatios]]] = {False: [], True: []}
    print(f"hit ratio of the objects / of the bytes, in a cache of {options.share:.0%} of the bytes of all keys\n")
    print(f"{'trace':24}{'':11}{'sizes':7}{'requests':>10}" + "".join(f"{name:>14}" for name in POLICIES), flush=True)
    for name, origin, requests in traces:
        ratios = _replay(requests, options.share)
        sized = any(request.nbytes != 1 for request in requests)
        found[sized].append(ratios)
        print(
            f"{name[:23]:24}{origin:11}{'sized' if sized else 'unit':7}{len(requests):>10,}{_cells(ratios)}", flush=True
        )
    for sized, all_ratios in found.items():
        if all_ratios:
            print(_mean(all_ratios, sized=sized))
    return 0


def _read(path: Path) -> Iterator[Request]:
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = [part for part in re.split(r"[,\s]+", line.strip()) if part]
        if parts and not line.startswith("#"):
            yield Request(parts[0], *(int(float(part)) for part in parts[1:3]))


def _replay(requests: list[Request], share: float) -> dict[str, HitRatios]:
    nbytes = sum({request.key: request.nbytes for request in requests}.values())
    return {policy: replay(requests, policy, max(1, int(nbytes * share))) for policy in POLICIES}


def _cells(ratios: dict[str, HitRatios]) -> str:
    return "".join(f"{f'{ratio.objects:.3f}/{ratio.nbytes:.3f}':>14}" for ratio in ratios.values())


def _mean(all_ratios: list[dict[str, HitRatios]], *, sized: bool) -> str:
    means = {
        policy: HitRatios(
            sum(ratios[policy].objects for ratios in all_ratios) / len(all_ratios),
            sum(ratios[policy].nbytes for ratios in all_ratios) / len(all_ratios),
            requests=sum(ratios[policy].requests for ratios in all_ratios),
            admitted=sum(ratios[policy].admitted for ratios in all_ratios),
        )
        for policy in POLICIES
    }
    kind = "sized" if sized else "unit"
    ours = means["s3fifo"]
    if sized:
        met = ours.objects >= SIZED_OBJECTS and ours.nbytes >= SIZED_BYTES
        target = f"target {SIZED_OBJECTS:.2f} objects and {SIZED_BYTES:.2f} bytes"
    else:
        met, target = ours.objects >= UNIT_OBJECTS, f"target {UNIT_OBJECTS:.2f} objects"
    line = f"\n{f'mean of {len(all_ratios)}':35}{kind:7}{ours.requests:>10,}{_cells(means)}"
    return f"{line}\n    s3fifo: {target}: {'met' if met else 'missed'}; {ours.admitted / ours.requests:.2f} writes a request"
