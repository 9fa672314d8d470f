"""``instrument(plane)`` under the SDK of OpenTelemetry: the totals of all processes, sent by one of them."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

import shmplane
from shmplane.connections import ConnectionPool
from shmplane.integrations.otel import Instrumentation, instrument
from tests.support.processes import Child

Points = dict[tuple[str, tuple[tuple[str, Any], ...]], float]


class Exporting:
    """A process's SDK, with one plane instrumented."""

    def __init__(self, plane: shmplane.Plane) -> None:
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.instrumentation: Instrumentation = instrument(plane, meter_provider=self._provider)

    def points(self) -> Points:
        """What one collection exports, by name and attributes."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            (metric.name, tuple(sorted((point.attributes or {}).items()))): point.value
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        }

    def close(self) -> None:
        self.instrumentation.stop()
        self._provider.shutdown()


@pytest.fixture
def exporting(plane: shmplane.Plane) -> Any:
    made = Exporting(plane)
    yield made
    made.close()


def test_the_figures_of_plane_pools_and_caches_come_under_their_names(
    plane: shmplane.Plane, exporting: Exporting, tmp_path: Path
) -> None:
    plane["a"] = b"x" * 100
    with (
        ConnectionPool(object, name="db", plane=plane) as pool,
        shmplane.Cache(tmp_path, plane=plane, name="c") as cache,
    ):
        with pool.connection():
            pass
        pool.host_stats()
        cache.set("k", 1)
        before = plane.metrics()
        found = exporting.points()
    assert found["shmplane.puts", ()] == before.puts
    assert found["shmplane.blocks", (("kind", "bytes"),)] == 1
    assert found["shmplane.segment", (("state", "used"),)] == before.used_nbytes
    assert found["shmplane.lock_wait.bucket", (("le", "+Inf"),)] == found["shmplane.lock_wait.count", ()]
    name = ("db.client.connection.pool.name", "db")
    assert found["db.client.connection.count", (name, ("db.client.connection.state", "idle"))] == 1
    assert found["db.client.connection.use_time.count", (name,)] == 1
    assert found["shmplane.cache.sets", (("cache", "c"),)] == 1


def test_each_collection_reads_anew(plane: shmplane.Plane, exporting: Exporting) -> None:
    counts = []
    for _ in range(3):
        plane["a"] = [1]
        counts.append(exporting.points()["shmplane.puts", ()])
    assert counts == [1, 2, 3]


def serve(connection: Connection, name: str, root: str) -> None:
    """A second process: exports when it is asked to, and says what came of it."""
    with shmplane.Plane(name, root=root, create=False) as plane:
        exporting = Exporting(plane)
        while connection.recv():
            plane["b"] = [2]
            connection.send(exporting.points().get(("shmplane.puts", ())))
        exporting.close()


def test_of_several_processes_one_exports_and_when_it_is_killed_the_next_goes_on(plane_root: Path) -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with shmplane.Plane("market") as plane:
        exporting = Exporting(plane)
        here, there = context.Pipe()
        with Child(serve, there, "market", str(plane_root)) as other:
            here.send(True)
            assert here.recv() == 1  # the first that collects
            assert exporting.points() == {}
            here.send(True)
            assert here.recv() == 2
            other.kill()
        plane.gc()
        assert exporting.points()["shmplane.puts", ()] == 2
        assert exporting.instrumentation.exports
        exporting.close()
        plane.destroy()


def test_a_stopped_one_lets_another_export(plane: shmplane.Plane) -> None:
    one, two = Exporting(plane), Exporting(plane)
    assert one.points()
    assert two.points() == {}
    one.close()
    one.close()
    assert two.points()
    two.close()
    assert plane.metrics().permits == 0


def test_a_plane_that_has_ended_breaks_no_collection() -> None:
    plane = shmplane.Plane.temporary()
    exporting = Exporting(plane)
    assert exporting.points()
    plane.destroy()
    assert exporting.points() == {}
    exporting.close()
