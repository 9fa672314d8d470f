"""What it costs to get blocks from host to host, between the two hosts of ``test_two_hosts.py``.

By hand, as root::

    python -m tests.integrations.two_hosts_figures [MIB [ROUNDS]]

Every round runs all that is compared in turn. The two hosts share one machine, its cores and its memory: a real network is
slower, and takes no part of the cores. The test runs it once, with little.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pyarrow as pa
from pyarrow import flight

import shmplane
import shmplane.integrations.dask
from bench.harness import Contestant, Row, compare, interleave
from tests.integrations.dask_checks import cluster_of, worker_of
from tests.integrations.pull_checks import TOKEN, Far
from tests.support.hosts import Host, two_hosts
from tests.support.processes import DEADLINE_S, kill_tree

if TYPE_CHECKING:
    from distributed import Client

FILL = "import sys; from tests.integrations.two_hosts_figures import fill; fill('there', int(sys.argv[1]))"
HEADERS = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + TOKEN.encode())])


def fill(name: str, nbytes: int) -> shmplane.Plane:
    rng, rows = np.random.default_rng(1), nbytes // 24
    plane = shmplane.Plane(name, capacity=8 * nbytes + (64 << 20))
    plane["array"] = rng.random(nbytes // 8)
    plane["table"] = pa.table({"a": np.arange(rows), "b": rng.random(rows), "c": np.ones(rows)})
    return plane


def total(value: Any) -> float:
    """Run by a worker: it touches every page."""
    return float(np.asarray(value)[::512].sum())


def pulled(near: shmplane.Plane, far: Host, nbytes: int, rounds: int) -> Iterator[Row]:
    with far.start(sys.executable, "-c", FILL, str(nbytes)) as process:
        assert process.wait(DEADLINE_S) == 0
    with (
        tempfile.TemporaryDirectory() as directory,
        Far(far, Path(directory)).serving() as (url, _),
        flight.connect(url) as client,
    ):
        for name in ("table", "array"):

            def read(name: str = name) -> Any:
                return client.do_get(flight.Ticket(name.encode()), HEADERS).read_all()

            def pull(name: str = name) -> None:
                near.pull(url, name, token=TOKEN).close()

            times = interleave({"ours": Contestant(pull), "plain Flight": Contestant(read)}, rounds)
            yield compare(f"pull a {name} from the other host", times, target=None, baseline="plain Flight")


def in_graphs(near: Host, far: Host, plane: shmplane.Plane, rounds: int) -> Iterator[Row]:
    array, block = plane["array"], plane.attach("array")
    with _quiet(), cluster_of(near, {"one": near, "other": near}) as client:
        both = [worker_of(client, name) for name in ("one", "other")]
        contestants = {
            "ours": Contestant(lambda: _run(client, block, both)),
            "scatter": Contestant(lambda: _run(client, client.scatter(array, broadcast=True, hash=False), both)),
            "as an argument": Contestant(lambda: _run(client, array, both)),
        }
        yield compare("to two workers of one host", interleave(contestants, rounds), target=None, baseline="scatter")
    with _quiet(), cluster_of(far, {"near": near, "far": far}) as client:
        for name in ("near", "far"):
            times = interleave(_to_one(client, array, block, [worker_of(client, name)]), rounds)
            yield compare(f"of two hosts, to a {name} worker", times, target=None, baseline="scatter")


def _to_one(client: Client, array: Any, block: shmplane.Block, worker: list[str]) -> dict[str, Contestant]:
    return {
        "ours": Contestant(lambda: _run(client, block, worker)),
        "the block scattered": Contestant(lambda: _run(client, _scattered(client, block, worker), worker)),
        "scatter": Contestant(lambda: _run(client, _scattered(client, array, worker), worker)),
        "as an argument": Contestant(lambda: _run(client, array, worker)),
    }


def _quiet() -> Any:
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "10GB"})


def _scattered(client: Client, value: Any, worker: list[str]) -> Any:
    return client.scatter(value, workers=worker, hash=False)


def _run(client: Client, value: Any, workers: list[str]) -> None:
    tasks = [client.submit(total, value, pure=False, workers=[worker]) for worker in workers]
    assert len(set(client.gather(tasks))) == 1


def measure(near: Host, far: Host, nbytes: int, rounds: int) -> list[Row]:
    """Called on the near host."""
    with contextlib.closing(fill("here", nbytes)) as plane:
        return [*pulled(plane, far, nbytes, rounds), *in_graphs(near, far, plane, rounds)]


def main(mib: str = "256", rounds: str = "5", *where: str) -> None:
    if where:
        near, far = (Host(address, int(pid)) for address, pid in zip(where[::2], where[1::2], strict=True))
        rows = measure(near, far, int(mib) << 20, int(rounds))
        print(json.dumps([row.as_dict() for row in rows]))
        return
    with two_hosts() as (near, far):
        places = [near.address, str(near.pid), far.address, str(far.pid)]
        module = "tests.integrations.two_hosts_figures"
        with near.start(sys.executable, "-m", module, mib, rounds, *places, stdout=subprocess.PIPE) as process:
            try:
                out, _ = process.communicate()
            finally:
                kill_tree(process.pid)
    for row in json.loads(out.splitlines()[-1]):
        peers = ", ".join(f"{name} {value:.3g} x" for name, value in row["peers"].items())
        print(f"{row['what']}: {row['ours']} ({row['value']:.3g} x {row['baseline']}; {peers})")


if __name__ == "__main__":
    main(*sys.argv[1:])
