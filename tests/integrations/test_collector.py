"""``Collector(plane)``: what any process of the host tells Prometheus about planes, pools and caches."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import shmplane
from shmplane.connections import ConnectionPool
from shmplane.integrations.prometheus import Collector
from tests.support.forked import Forked
from tests.support.tracing import kill_this_process


def registry_of(*planes: shmplane.Plane) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(*planes))
    return registry


def test_any_process_tells_the_totals_of_all(plane: shmplane.Plane) -> None:
    registry = registry_of(plane)
    before = registry.get_sample_value("shmplane_puts_total") or 0.0

    def put_and_die() -> None:
        plane["a"] = b"x" * 100
        kill_this_process()

    for _ in range(2):
        Forked(put_and_die).end()
    assert registry.get_sample_value("shmplane_puts_total") == before + 2
    plane.gc()
    assert registry.get_sample_value("shmplane_puts_total") == before + 2
    assert registry.get_sample_value("shmplane_blocks", {"kind": "bytes"}) == 1
    assert registry.get_sample_value("shmplane_segment_bytes", {"state": "used"}) == plane.stats().used_nbytes
    assert registry.get_sample_value("shmplane_leases") == 0
    assert (registry.get_sample_value("shmplane_lock_wait_seconds_count") or 0) >= before + 2


def test_pools_and_caches_of_the_plane_are_told_as_well(plane: shmplane.Plane, tmp_path: Path) -> None:
    registry = registry_of(plane)
    with (
        ConnectionPool(object, name='d"b', plane=plane) as pool,
        shmplane.Cache(tmp_path, plane=plane, name="c") as cache,
    ):
        with pool.connection():
            pass
        pool.host_stats()
        cache.set("k", 1)
        assert cache.get("k") == 1
        assert cache.get("other") is None
        name = {"db_client_connection_pool_name": 'd"b'}
        idle = name | {"db_client_connection_state": "idle"}
        assert registry.get_sample_value("db_client_connection_count", idle) == 1
        assert registry.get_sample_value("db_client_connection_use_time_seconds_count", name) == 1
        assert registry.get_sample_value("shmplane_cache_misses_total", {"cache": "c"}) == 1
        assert registry.get_sample_value("shmplane_cache_sets_total", {"cache": "c"}) == 1
        assert registry.get_sample_value("shmplane_cache_memory_bytes", {"cache": "c"}) == cache.stats().memory.nbytes


def test_no_label_names_a_block_or_a_process(plane: shmplane.Plane, tmp_path: Path) -> None:
    plane["secret-name"] = [1]
    with plane.lock("secret-lock"), ConnectionPool(object, name="db", plane=plane) as pool:
        with pool.connection():
            pass
        pool.host_stats()
        text = generate_latest(registry_of(plane)).decode()
    assert "secret" not in text
    labels = {
        label for family in text_string_to_metric_families(text) for sample in family.samples for label in sample.labels
    }
    assert labels == {"state", "kind", "le", "db_client_connection_pool_name", "db_client_connection_state"}


def test_several_planes_are_told_apart_by_a_label(plane_root: Path) -> None:
    with shmplane.Plane("one") as one, shmplane.Plane("two") as two:
        registry = registry_of(one, two)
        one["a"] = [1]
        assert registry.get_sample_value("shmplane_names", {"plane": "one"}) == 1
        assert registry.get_sample_value("shmplane_names", {"plane": "two"}) == 0
        one.destroy()
        two.destroy()


def test_a_second_collector_of_the_same_names_is_refused(plane: shmplane.Plane) -> None:
    registry = registry_of(plane)
    with pytest.raises(ValueError, match="shmplane_"):
        registry.register(Collector(plane))


def test_a_plane_that_has_ended_tells_nothing_and_breaks_no_scrape(plane_root: Path) -> None:
    plane = shmplane.Plane("one")
    registry = registry_of(plane)
    assert b"shmplane_puts_total" in generate_latest(registry)
    plane.destroy()
    assert generate_latest(registry) == b""


def test_a_collector_of_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="plane"):
        Collector()
