"""``shmplane metrics``: the text format of Prometheus from outside of a plane, without taking part in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import shmplane
from shmplane.cli import main
from shmplane.connections import ConnectionPool
from shmplane.manifest import directory_of


@pytest.fixture
def market(plane_root: Path) -> Iterator[shmplane.Plane]:
    with shmplane.Plane("market") as plane:
        plane["prices"] = b"x" * 300
        yield plane
        plane.destroy()


def samples_of(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_it_prints_what_a_collector_in_the_plane_tells(
    market: shmplane.Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    with ConnectionPool(object, name='q"uoted\\', plane=market) as pool:
        with pool.connection():
            pass
        pool.host_stats()
        before = market.metrics()
        assert main(["metrics", "market"]) == 0
        found = samples_of(capsys.readouterr().out)
    assert found["shmplane_puts_total", ()] == before.puts == 1
    assert found["shmplane_blocks", (("kind", "bytes"),)] == 1
    assert (
        found["shmplane_lock_wait_seconds_count", ()] == before.lock_wait.count
    )  # it took no lock of the plane's count
    idle = (("db_client_connection_pool_name", 'q"uoted\\'), ("db_client_connection_state", "idle"))
    assert found["db_client_connection_count", idle] == 1


def test_without_a_name_it_tells_every_plane_by_a_label(
    market: shmplane.Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    with shmplane.Plane("other") as other:
        assert main(["metrics"]) == 0
        found = samples_of(capsys.readouterr().out)
        other.destroy()
    assert found["shmplane_names", (("plane", "market"),)] == 1
    assert found["shmplane_names", (("plane", "other"),)] == 0


def test_as_json_it_is_one_object(market: shmplane.Plane, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "market", "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["schema_version"] == 1
    values = {one["name"]: one for one in fields["metrics"] if not one["labels"]}
    assert values["shmplane_puts_total"] == {"name": "shmplane_puts_total", "type": "counter", "labels": {}, "value": 1}
    assert sum(values["shmplane_lock_wait_seconds"]["value"]["counts"]) > 0


def test_no_plane_is_not_found_and_a_bad_one_is_a_problem(
    market: shmplane.Plane, plane_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", "nothing"]) == 3
    assert "there is no plane 'nothing'" in capsys.readouterr().err
    bad = Path(directory_of(str(plane_root))) / "bad"
    bad.mkdir(mode=0o700)
    for name in ("manifest", "tokens", "lock"):
        (bad / name).write_bytes(b"\0" * 4096)
        (bad / name).chmod(0o600)
    assert main(["metrics", "bad"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "magic" in said.err
    assert main(["metrics"]) == 1
    said = capsys.readouterr()
    assert 'shmplane_names{plane="market"} 1' in said.out
    assert said.err.startswith("shmplane: bad:")
