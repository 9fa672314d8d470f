"""What does it cost to see a table of 2 million rows with strings again?

Ours: ``plane[name]`` when the lease has ended and is taken anew (two tables take turns, and another process watches
that at most one lease stands), and while this process holds the table.
Baseline: none; the figures are times. Peer: pyarrow's own IPC file, mapped and opened anew.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

import shmplane
from bench.cases.get import watch_leases
from bench.harness import Contestant, Row, Scale, absolute, interleave
from bench.peers import SHARED_MEMORY

ROWS = 2_000_000


def run(scale: Scale) -> Iterator[Row]:
    table = _table()
    number = scale.pick(2_000, 500)
    with (
        shmplane.Plane.temporary(capacity="1GiB") as plane,
        tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix="shmplane-bench-") as directory,
    ):
        names = ["trades", "more trades"]
        for name in names:
            plane[name] = table
        path = os.path.join(directory, "trades.arrow")
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)

        def open_again() -> None:
            pa.ipc.open_file(pa.memory_map(path)).read_all()

        peer = {"pyarrow memory_map": Contestant(open_again, number // 10)}
        turn = itertools.cycle(names).__next__
        standing: list[int] = []
        with watch_leases(plane) as standing_leases:
            get = Contestant(lambda: plane[turn()], number, after=lambda: standing.append(standing_leases()))
            anew = interleave({"ours": get, **peer}, scale.rounds)
        get = Contestant(lambda: plane["trades"], number)
        holder = plane["trades"]
        if not holder.equals(table):
            raise RuntimeError("the table came back changed")
        held = interleave({"ours": get}, scale.rounds)
        del holder
    note = "both leases still stood, so not all were anew" if max(standing) > 1 else ""
    yield absolute("table of 2 M rows, get again", anew, unit="us", target=40, note=note)
    yield absolute("table of 2 M rows, held", held, unit="us", target=2)


def _table() -> pa.Table:
    random = np.random.default_rng(7)
    words = pa.array([f"symbol-{number:04}" for number in range(5_000)])
    return pa.table(
        {
            "time": pa.array(np.arange(ROWS), pa.timestamp("us")),
            "symbol": words.take(pa.array(random.integers(0, 5_000, ROWS))),
            "price": random.random(ROWS),
            "size": random.integers(0, 1_000, ROWS),
        }
    )
