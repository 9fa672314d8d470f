"""Measurements as text for Prometheus, read back by its own library."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shmplane import Histogram, Measurement
from shmplane.observe import prometheus_text


@pytest.mark.parametrize(
    ("name", "kind", "unit", "expected"),
    [
        ("shmplane.puts", "counter", "{block}", "shmplane_puts_total"),
        ("shmplane.copied", "counter", "By", "shmplane_copied_bytes_total"),
        ("shmplane.segment", "updowncounter", "By", "shmplane_segment_bytes"),
        ("shmplane.lock_wait", "histogram", "s", "shmplane_lock_wait_seconds"),
        ("db.client.connection.idle.max", "updowncounter", "{connection}", "db_client_connection_idle_max"),
    ],
)
def test_names_of_prometheus_follow_from_those_of_opentelemetry(name: str, kind: str, unit: str, expected: str) -> None:
    assert Measurement(name, kind, unit, 0, {}).prometheus_name == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ['q"uote', "back\\slash", "line\nbreak", "ünïcode", "}{,=", ""])
def test_labels_come_back_as_they_were(value: str) -> None:
    text = prometheus_text([Measurement("a.b", "updowncounter", "", 7, {"pool.name": value}, 'say "\\n"\nmore')])
    (family,) = text_string_to_metric_families(text)
    (sample,) = family.samples
    assert (sample.name, sample.labels, sample.value) == ("a_b", {"pool_name": value}, 7)


def test_a_family_is_described_once_and_stands_together() -> None:
    found = [Measurement(name, "counter", "", 1, {"n": n}, "What.") for n in "12" for name in ("a", "b")]
    lines = prometheus_text(found).splitlines()
    assert lines[:4] == ["# HELP a_total What.", "# TYPE a_total counter", 'a_total{n="1"} 1', 'a_total{n="2"} 1']
    assert len(lines) == 8


def test_buckets_of_a_histogram_add_up() -> None:
    histogram = Histogram((1, 2, 3), 4.5, (0.001, 10.0))
    (family,) = text_string_to_metric_families(prometheus_text([Measurement("t", "histogram", "s", histogram, {})]))
    assert {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples} == {
        ("t_seconds_bucket", "0.001"): 1,
        ("t_seconds_bucket", "10.0"): 3,
        ("t_seconds_bucket", "+Inf"): 6,
        ("t_seconds_sum", None): 4.5,
        ("t_seconds_count", None): 6,
    }
