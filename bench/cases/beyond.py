"""What does it cost to get a block from another host, and to give one to the workers of Dask?

Flight: ours is ``plane.pull`` from ``shmplane serve`` of a table and of an array, by loopback, checked and put. Baseline: a
plain client of Arrow Flight that reads the same stream from the same server into its own memory, and keeps it. Peer: that, and
then putting what was read.
Dask: ours is a block among the arguments of a task for each of two workers. Baseline: scattering the array to both, and the
same tasks. Peer: the array itself among the arguments.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import flight

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave

_PLAIN, _SCATTER = "plain Flight", "scatter"


def run(scale: Scale) -> Iterator[Row]:
    nbytes = scale.pick(256 << 20, 64 << 20)
    with shmplane.Plane.temporary(capacity=8 * nbytes + (256 << 20), recycle=4 * nbytes) as plane:
        rows = nbytes // 24
        plane["array"] = np.arange(nbytes // 8, dtype="f8")
        plane["table"] = pa.table(
            {"a": np.arange(rows), "b": np.random.default_rng(1).random(rows), "c": np.ones(rows)}
        )
        with _serving(plane) as url, shmplane.Plane.temporary(capacity=4 * nbytes + (256 << 20)) as here:
            for name in ("table", "array"):
                yield _pull(here, url, name, nbytes, scale)
        if importlib.util.find_spec("distributed") is not None:
            yield _dask(plane, nbytes, scale)


@contextlib.contextmanager
def _serving(plane: shmplane.Plane) -> Iterator[str]:
    command = [sys.executable, "-m", "shmplane", "--root", plane.root, "serve", plane.name, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            said = json.loads(server.stdout.readline())
            yield f"grpc://{said['host']}:{said['port']}"
        finally:
            server.terminate()


def _pull(here: shmplane.Plane, url: str, name: str, nbytes: int, scale: Scale) -> Row:
    with flight.connect(url) as client:

        def read() -> Any:
            return client.do_get(flight.Ticket(name.encode())).read_all()

        contestants = {
            "ours": Contestant(lambda: here.pull(url, name).close()),
            _PLAIN: Contestant(read),
            "plain Flight, and put": Contestant(lambda: here.put("other", read()).close()),
        }
        times = interleave(contestants, scale.rounds)
    return compare(f"pull {nbytes >> 20} MiB of {name}, by loopback", times, target=None, baseline=_PLAIN)


def _dask(plane: shmplane.Plane, nbytes: int, scale: Scale) -> Row:
    import dask
    import distributed

    import shmplane.integrations.dask  # noqa: F401 - it registers blocks

    array, block = plane["array"], plane.attach("array")
    options: Any = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    no_warnings = dask.config.set({"distributed.admin.large-graph-warning-threshold": "10GB"})
    with (
        no_warnings,
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = list(client.scheduler_info(-1)["workers"])

        def on_both(value: Any) -> None:
            client.gather([client.submit(_total, value, pure=False, workers=[worker]) for worker in workers])

        contestants = {
            "ours": Contestant(lambda: on_both(block)),
            _SCATTER: Contestant(lambda: on_both(client.scatter(array, broadcast=True, hash=False))),
            "as an argument": Contestant(lambda: on_both(array)),
        }
        times = interleave(contestants, scale.rounds)
    block.close()
    return compare(f"{nbytes >> 20} MiB to two workers of Dask", times, target=None, baseline=_SCATTER)


def _total(value: Any) -> float:
    return float(np.asarray(value)[:: 1 << 12].sum())
