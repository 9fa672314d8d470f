"""A program that checks blocks in a real cluster of Dask, and prints what became of each check as JSON.

Started by ``test_dask.py`` and ``test_two_hosts.py``: a cluster is made once for all checks, in a process of its own, since it
leaves threads behind. Without arguments it is one of one host. With addresses and processes of two hosts (``support.hosts``),
of which the first is where this runs, the scheduler and a worker are on the other one, and two workers here.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from distributed import Client, Event, LocalCluster

import shmplane
from shmplane.integrations import dask as integration
from shmplane.integrations.dask import hosts, sending
from tests.support.hosts import Host

PLANE = "dask"
DEADLINE_S = 30.0


def look(block: Any) -> tuple[str, str | None, str, bool]:
    """Run by a worker: what came, under which name, of which kind, and whether as bytes."""
    from shmplane.integrations.dask import sending

    return type(block).__name__, block.name, block.kind, sending._arrivals_plane is not None


def total(block: Any, after: Any = None) -> float:
    return float(block.array().sum())


def wait_for(event: str) -> None:
    Event(event).wait(DEADLINE_S)


def attached(name: str) -> Any:
    return shmplane.Plane(PLANE, create=False).attach(name)


def knows(key: str, dask_scheduler: Any) -> bool:
    return key in dask_scheduler.tasks


def addresses(dask_scheduler: Any) -> dict[str, str]:
    return {str(worker.name): address for address, worker in dask_scheduler.workers.items()}


def worker_of(client: Client, name: Any) -> str:
    # The client's own list may be a moment old.
    found: dict[str, str] = client.run_on_scheduler(addresses)
    return found[str(name)]


def wait_until_told(client: Client, hosts_told: int) -> None:
    """Until this process knows of so many hosts."""
    until = time.monotonic() + DEADLINE_S
    while len(hosts._told_to[client.id] or ()) != hosts_told and time.monotonic() < until:
        time.sleep(0.01)
    assert len(hosts._told_to[client.id] or ()) == hosts_told, hosts._told_to


# One host


def a_block_comes_as_a_handle(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(1000.0)
    with plane.attach("x") as block:
        assert client.submit(look, block).result() == ("Block", "x", "array", False)


def a_result_that_is_a_block_comes_back_as_one(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(5.0)
    with client.submit(attached, "x", pure=False).result() as block:
        assert (block.name, block.version) == ("x", plane.attach("x").version)
        assert block.array().tolist() == [0, 1, 2, 3, 4]


def a_block_goes_from_worker_to_worker(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(5.0)
    there = client.submit(attached, "x", pure=False, workers=[worker_of(client, 0)])
    assert client.submit(look, there, workers=[worker_of(client, 1)]).result() == ("Block", "x", "array", False)


def a_scattered_block_is_not_copied(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(5.0)
    with plane.attach("x") as block:
        assert client.submit(look, client.scatter(block)).result() == ("Block", "x", "array", False)


def a_graph_keeps_the_version_that_it_was_made_with(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.ones(100_000)
    gate = client.submit(wait_for, "gate", pure=False)
    later = client.submit(total, plane.attach("x"), gate, pure=False)
    until = time.monotonic() + DEADLINE_S
    while not client.run_on_scheduler(knows, later.key) and time.monotonic() < until:
        time.sleep(0.01)
    sending._sent._blocks.clear()
    gc.collect()
    for _ in range(3):
        plane["x"] = np.zeros(100_000)
    Event("gate", client=client).set()
    assert later.result() == 100_000


def a_worker_that_comes_later_is_asked_as_well(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(5.0)
    cluster = client.cluster
    cluster.scale(3)
    client.wait_for_workers(3, DEADLINE_S)
    until = time.monotonic() + DEADLINE_S
    while hosts._told_to[client.id] is None and time.monotonic() < until:
        time.sleep(0.01)
    with plane.attach("x") as block:
        assert client.submit(look, block, workers=[worker_of(client, 2)]).result() == ("Block", "x", "array", False)


def an_array_is_made_of_views(client: Client, plane: shmplane.Plane) -> None:
    plane["big"] = np.arange(40_000.0).reshape(400, 100)
    with plane.attach("big") as block:
        array = integration.array(block, chunks=(100, 50))
        assert (array.shape, array.dtype, array.numblocks) == ((400, 100), np.dtype("f8"), (4, 2))
        assert array.sum().compute() == plane["big"].sum()
        assert (array[123:127, 3].compute() == plane["big"][123:127, 3]).all()
        assert integration.array(block, chunks=(100, 50)).name == array.name


def what_cannot_be_cut_is_refused(_: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(12.0).reshape(6, 2)
    bad: list[Any] = [(-5, 2), -7, {0: -5}, (0, 2), ((3, -3, 6), (2,)), ((7, -1), (2,)), (2,), ((3, 4), (2,))]
    good: list[Any] = [-1, (-1, 1), (None, 2), {0: 4}, ((5, 1), 2), "1KiB", 100]
    others: list[Any] = ["x", plane["x"], plane]
    with plane.attach("x") as block:
        for chunks in bad:
            with pytest.raises(ValueError, match="cannot cut an array"):
                integration.array(block, chunks=chunks)
        for chunks in good:
            assert (integration.array(block, chunks=chunks).compute(scheduler="sync") == plane["x"]).all()
    for make in (integration.array, integration.dataframe):
        for other in others:
            with pytest.raises(TypeError, match=r"pass a Block, as plane\.attach"):
                make(other)


def a_dataframe_is_made_of_views(client: Client, plane: shmplane.Plane) -> None:
    frame = pd.DataFrame({"g": [1, 2] * 500, "v": range(1000), "s": list("ab") * 500})
    plane["pandas"] = frame
    plane["arrow"] = pa.Table.from_pandas(frame)
    plane["no rows"] = frame.iloc[:0]
    for name in ("pandas", "arrow"):
        with plane.attach(name) as block:
            lazy = integration.dataframe(block, npartitions=4)
            assert lazy.npartitions == 4
            assert lazy.groupby("g").v.sum().compute().to_dict() == {1: 249_500, 2: 250_000}
            assert len(lazy[lazy.s == "a"]) == 500
    with plane.attach("pandas") as block:
        assert integration.dataframe(block).compute().v.tolist() == list(range(1000))
    with plane.attach("no rows") as block:
        assert len(integration.dataframe(block)) == 0
        with contextlib.suppress(ValueError):
            integration.dataframe(block, npartitions=0)
            raise AssertionError("no partitions were taken")


# Two hosts


def bytes_go_to_another_host(client: Client, plane: shmplane.Plane) -> None:
    values = {
        "array": np.arange(100_000.0),
        "table": pa.table({"x": [1, 2, 3]}),
        "bytes": b"abc" * 1000,
        "json": {"a": [1, 2]},
        "tree": {"a": np.arange(100_000), "b": b"xy", "n": [1, (2, 3)]},
        "records": shmplane.Records([{"x": 1}, b"abc", np.arange(5)]),
    }
    for kind, value in values.items():
        plane["x"] = value
        with plane.attach("x") as block:
            assert block.kind == kind
            assert client.submit(look, block, workers=["far"]).result() == ("Block", None, kind, True)
    plane["x"] = values["array"]
    assert client.submit(total, plane.attach("x"), workers=["far"]).result() == values["array"].sum()


def a_handle_goes_to_the_same_host_all_the_same(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(5.0)
    with plane.attach("x") as block:
        assert client.submit(look, block, workers=["near"]).result() == ("Block", "x", "array", False)


def blocks_come_back_from_another_host(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(50_000.0)
    far = client.submit(_the_same, plane.attach("x"), workers=["far"])
    assert client.submit(total, far, workers=["near"]).result() == 1_249_975_000
    with far.result() as block:
        assert block.array()[-1] == 49_999


def _the_same(block: Any) -> Any:
    return block


def a_worker_of_another_release_gets_bytes(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(5.0)
    with plane.attach("x") as block:
        assert client.submit(look, block, workers=["old"]).result() == ("Block", None, "array", True)
        assert client.submit(total, block, workers=["old"]).result() == 10


def a_version_that_is_gone_comes_as_its_bytes(client: Client, plane: shmplane.Plane) -> None:
    plane["x"] = np.ones(1000)
    gate = client.submit(wait_for, "gate", pure=False, workers=["far"])
    block = plane.attach("x")
    later = client.submit(total, block, gate, pure=False, workers=["near"])
    until = time.monotonic() + DEADLINE_S
    while not client.run_on_scheduler(knows, later.key) and time.monotonic() < until:
        time.sleep(0.01)
    block.close()
    del plane["x"]
    Event("gate", client=client).set()
    assert later.result() == 1000


def what_is_not_known_is_another_host(client: Client, plane: shmplane.Plane) -> None:
    here = hosts.host_of_default_root()
    assert not hosts.everyone_sees(here)
    told = hosts._told_to[client.id] or frozenset()
    assert here in told
    assert len({host[0] for host in told}) == 1  # the boot alone does not tell them apart
    assert hosts.host_of("/nowhere")[0] == "unknown"
    assert not hosts.everyone_sees(hosts.host_of("/nowhere"))


def who_has_gone_is_forgotten(client: Client, plane: shmplane.Plane) -> None:
    wait_until_told(client, 3)
    client.retire_workers([worker_of(client, "old")])
    wait_until_told(client, 2)


# The clusters


@contextlib.contextmanager
def one_host() -> Iterator[Client]:
    options: Any = {"threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with LocalCluster(n_workers=2, processes=True, **options) as cluster, Client(cluster) as client:
        yield client


#: a worker in which the library says that it is another release
OLD = """
import shmplane

shmplane.__version__ = "0.0.9"
from distributed.cli.dask_worker import main

main()
"""


@contextlib.contextmanager
def cluster_of(scheduler: Host, workers: dict[str, Host]) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        where = os.path.join(directory, "scheduler.json")
        options = ("--host", scheduler.address, "--port", "0", "--no-dashboard", "--scheduler-file", where)
        stack.enter_context(running(scheduler, "-m", "distributed.cli.dask_scheduler", *options))
        for name, host in workers.items():
            program = ("-c", OLD) if name == "old" else ("-m", "distributed.cli.dask_worker")
            common = ("--scheduler-file", where, "--no-nanny", "--nthreads", "1", "--no-dashboard")
            place = ("--local-directory", directory, "--host", host.address, "--name", name)
            stack.enter_context(running(host, *program, *common, *place))
        client = stack.enter_context(Client(scheduler_file=where))
        client.wait_for_workers(len(workers), DEADLINE_S)
        yield client


@contextlib.contextmanager
def running(host: Host, *command: str) -> Iterator[None]:
    with host.start(sys.executable, *command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


ONE_HOST = [
    a_block_comes_as_a_handle,
    a_result_that_is_a_block_comes_back_as_one,
    a_block_goes_from_worker_to_worker,
    a_scattered_block_is_not_copied,
    a_graph_keeps_the_version_that_it_was_made_with,
    an_array_is_made_of_views,
    what_cannot_be_cut_is_refused,
    a_dataframe_is_made_of_views,
    a_worker_that_comes_later_is_asked_as_well,
]
TWO_HOSTS = [
    bytes_go_to_another_host,
    a_handle_goes_to_the_same_host_all_the_same,
    blocks_come_back_from_another_host,
    a_worker_of_another_release_gets_bytes,
    a_version_that_is_gone_comes_as_its_bytes,
    what_is_not_known_is_another_host,
    who_has_gone_is_forgotten,
]


def main(*where: str) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    said: dict[str, str | None] = {}
    if where:
        near, far = (Host(address, int(pid)) for address, pid in zip(where[::2], where[1::2], strict=True))
    both = cluster_of(far, {"far": far, "near": near, "old": near}) if where else one_host()
    with both as client, shmplane.Plane(PLANE) as plane:
        for check in TWO_HOSTS if where else ONE_HOST:
            try:
                check(client, plane)
                said[check.__name__] = None
            except Exception:
                said[check.__name__] = traceback.format_exc()
        plane.destroy()
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
