"""An application's own metrics over all processes: as with a multiprocess directory, and without what is disliked about one."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Summary,
    generate_latest,
    values,
)

import shmplane
from shmplane.counting import Entry, Series, State, add, key_of
from shmplane.counting.pages import Page, PageReader
from shmplane.integrations.prometheus import use
from shmplane.integrations.prometheus.using import metrics_of
from shmplane.plane import Presence
from tests.support.processes import Child

MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def plane(plane_root: Path) -> Iterator[shmplane.Plane]:
    with shmplane.Plane.temporary() as plane, use(plane):
        yield plane


def samples_of(registry: CollectorRegistry) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def _count(plane_name: str, root: str, amount: float) -> Iterator[Any]:
    """A process of its own that counts, and tells what it sees when it is asked."""
    registry = CollectorRegistry()
    plane = shmplane.Plane(plane_name, root=root)
    with use(plane):
        requests = Counter("requests", "Requests.", ["path"], registry=registry)
        seconds = Histogram("seconds", "Seconds.", registry=registry, buckets=(1, 2))
        requests.labels("/").inc(amount)
        requests.labels(f"/{amount:g}").inc()
        seconds.observe(amount)
        while True:
            yield samples_of(registry)
            requests.labels("/").inc(amount)


def test_every_process_tells_the_totals_of_all_those_that_were_killed_included(
    plane_root: Path, plane: shmplane.Plane, registry: CollectorRegistry
) -> None:
    requests = Counter("requests", "Requests.", ["path"], registry=registry)
    requests.labels("/").inc(100)
    with (
        Child(_count, plane.name, str(plane_root), 0.5) as first,
        Child(_count, plane.name, str(plane_root), 7) as second,
    ):
        first.next()
        told = second.next()
        assert told["requests_total", (("path", "/"),)] == 107.5
        assert told["requests_total", (("path", "/0.5"),)] == 1
        assert told["seconds_bucket", (("le", "1.0"),)] == 1
        assert told["seconds_bucket", (("le", "+Inf"),)] == told["seconds_count", ()] == 2
        assert told["seconds_sum", ()] == 7.5
        # Labels that only others have used are told as well.
        assert samples_of(registry)["requests_total", (("path", "/7"),)] == 1
        first.kill()
        assert samples_of(registry)["requests_total", (("path", "/"),)] == 107.5
        assert second.next()["requests_total", (("path", "/"),)] == 114.5
        second.kill()
    for _ in range(2):
        assert samples_of(registry)["requests_total", (("path", "/"),)] == 114.5
    # What the dead counted has become one block; their pages are gone.
    assert len(plane.names("counted:page/")) == 1
    # This process has no metric for it; the default registry tells it.
    assert REGISTRY.get_sample_value("seconds_sum") == 7.5


OPERATIONS = """
import json, os, sys
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
registry = CollectorRegistry()
if sys.argv[1] == "plane":
    import shmplane
    from shmplane.integrations.prometheus import use
    plane = shmplane.Plane.temporary(root=sys.argv[2])
    use(plane)
def number(pid):
    return next((str(at) for at, known in enumerate(pids) if str(known) == pid), pid)
def tell():
    if sys.argv[1] == "plane":
        told = registry
    else:
        told = CollectorRegistry()
        MultiProcessCollector(told)
    found = [[s.name, sorted((k, number(v) if k == "pid" else v) for k, v in s.labels.items()), round(s.value, 9)]
             for m in told.collect() for s in m.samples]
    print(json.dumps(sorted(found)), flush=True)
gauges = [Gauge(f"gauge_{mode}", "Help.", ["x"], multiprocess_mode=mode, registry=registry) for mode in sys.argv[4:]]
counter = Counter("counted", "Help.", registry=registry)
labelled = Counter("labelled", "Help.", ["b", "a"], registry=registry)
histogram = Histogram("timed", "Help.", ["x"], registry=registry, buckets=(0.1, 1, 10))
summary = Summary("summed", "Help.", registry=registry)
pids = [os.getpid()]
def change(at):
    counter.inc(at + 0.25)
    labelled.labels(a="1", b=str(at % 2)).inc()
    histogram.labels("h").observe(10.0 ** (at - 2))
    summary.observe(at)
    for gauge in gauges:
        if "recent" in str(gauge):
            gauge.labels("g").set(at * 3 % 5)
        else:
            gauge.labels("g").set(at * 3 % 5)
            gauge.labels("g").inc(2)
            gauge.labels("g").dec(0.5)
change(0)
workers = []
for at in range(1, 5):
    there, back = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        change(at)
        os.write(back[1], b"x")
        os.read(there[0], 1)
        os._exit(0)
    pids.append(pid)
    os.read(back[0], 1)
    workers.append((pid, there[1]))
tell()
for pid, wake in workers[:2]:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    if sys.argv[1] == "directory":
        mark_process_dead(pid)
tell()
change(5)
tell()
for pid, wake in workers[2:]:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    if sys.argv[1] == "directory":
        mark_process_dead(pid)
tell()
"""


def test_in_every_mode_it_tells_what_a_multiprocess_directory_tells(plane_root: Path, tmp_path: Path) -> None:
    # Rounded: theirs depends on the order in which a directory lists its files.
    told = []
    for kind in ("plane", "directory"):
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        if kind == "plane":
            del env["PROMETHEUS_MULTIPROC_DIR"]
        command = [sys.executable, "-c", OPERATIONS, kind, str(plane_root), "-", *MODES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=env)
        told.append([json.loads(line) for line in done.stdout.splitlines()])
    assert len(told[0]) == 4
    for ours, theirs in zip(*told, strict=True):
        assert ours == theirs


def test_a_forked_child_counts_for_itself_from_its_first_instruction_on(
    plane: shmplane.Plane, registry: CollectorRegistry
) -> None:
    counter = Counter("forked", "Help.", registry=registry)
    counter.inc()
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            counter.inc()
            grandchild = os.fork()
            if grandchild == 0:
                counter.inc(10)
                os._exit(0)
            os.waitpid(grandchild, 0)
            os._exit(0)
        os.waitpid(pid, 0)
        counter.inc()
    assert samples_of(registry)["forked_total", ()] == 1 + 5 * (1 + 10 + 1)


# Thirty of the largest and all bits of the smallest fit in the 106 that a sum has.
AMOUNTS = st.just(0.0) | st.floats(2**-18, 1e9)


@given(st.lists(st.tuples(st.integers(0, 3), AMOUNTS), max_size=30), st.randoms())
def test_a_total_never_goes_back_by_so_much_as_its_last_bit(
    counted: list[tuple[int, float]], choice: random.Random
) -> None:
    key = key_of(Series("counter", "", "f", "f_total", (), ""))
    ended: State = {}
    living = [0.0] * 4
    before = 0.0
    for process, amount in counted:
        living[process] += amount
        if choice.random() < 0.3:  # one dies, another takes its place
            dead = choice.randrange(4)
            add(ended, [Entry(key, living[dead])], ended=True)
            living[dead] = 0.0
        now = dict(ended)
        for value in choice.sample(living, 4):
            add(now, [Entry(key, value)], ended=False)
        (sample,) = metrics_of(now)["f"].samples
        assert sample.value >= before
        before = sample.value


def test_infinities_and_what_is_no_number_are_told_as_they_are(
    plane: shmplane.Plane, registry: CollectorRegistry
) -> None:
    gauge = Gauge("odd", "Help.", ["x"], registry=registry, multiprocess_mode="sum")
    for text in ("inf", "-inf", "nan"):
        gauge.labels(text).set(float(text))
    pid = os.fork()
    if pid == 0:
        gauge.labels("inf").set(-math.inf)
        os._exit(0)
    os.waitpid(pid, 0)
    for _ in range(2):
        told = {dict(labels)["x"]: value for (_, labels), value in samples_of(registry).items()}
        assert told["-inf"] == -math.inf
        assert math.isnan(told["nan"])
        assert math.isnan(told["inf"])


def test_series_beyond_the_table_are_counted_together_and_that_is_said_once(
    plane_root: Path, caplog: pytest.LogCaptureFixture, registry: CollectorRegistry
) -> None:
    with shmplane.Plane.temporary() as plane, use(plane, most_series=10), caplog.at_level(logging.WARNING):
        counter = Counter("visits", "Help.", ["user"], registry=registry)
        histogram = Histogram("waits", "Help.", ["user"], registry=registry, buckets=(1, 2))
        plain = Counter("plain", "Help.", registry=registry)
        for user in range(50):
            counter.labels(str(user)).inc()
            histogram.labels(str(user)).observe(1.5)
        plain.inc()
        told = samples_of(registry)
        assert sum(value for (name, _), value in told.items() if name == "visits_total") == 50
        assert told["visits_total", (("user", "other"),)] > 40
        assert sum(value for (name, _), value in told.items() if name == "waits_count") == 50
        assert told["waits_bucket", (("le", "1.0"), ("user", "other"))] == 0
        assert told["waits_bucket", (("le", "2.0"), ("user", "other"))] > 40
        assert told["plain_total", ()] == 1
        assert [record.message for record in caplog.records if "other" in record.message] == [
            "more than 10 series are counted; new ones are counted together as 'other'"
        ]


def test_when_the_plane_is_full_nothing_fails_and_what_was_counted_comes_when_there_is_room(
    plane_root: Path, caplog: pytest.LogCaptureFixture, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shmplane.counting.book._AGAIN_S", 0.0)
    with shmplane.Plane.temporary(capacity="256KiB") as plane, use(plane), caplog.at_level(logging.WARNING):
        plane["big"] = bytes(200 * 1024)
        counter = Counter("cramped", "Help.", registry=registry)
        gauge = Gauge("level", "Help.", registry=registry, multiprocess_mode="max")
        for _ in range(3):
            counter.inc()
            gauge.set(4)
        assert ("cramped_total", ()) not in samples_of(registry)
        del plane["big"]
        counter.inc()
        assert samples_of(registry) == {("cramped_total", ()): 4, ("level", ()): 4}
        assert len(caplog.records) == 1
        assert "in this process alone until there is room in the plane" in caplog.text


@pytest.mark.parametrize("end", ["close", "destroy"])
def test_after_the_plane_has_ended_counting_goes_on_for_this_process(
    plane_root: Path, end: str, registry: CollectorRegistry
) -> None:
    plane = shmplane.Plane("ends")
    with use(plane):
        counter = Counter("after", "Help.", ["x"], registry=registry)
        counter.labels("1").inc()
        getattr(plane, end)()
        counter.labels("1").inc()
        counter.labels("2").inc()
        assert samples_of(registry)["after_total", (("x", "1"),)] == 2
        assert samples_of(registry)["after_total", (("x", "2"),)] == 1
    del counter
    if end == "close":
        with shmplane.Plane("ends") as plane:
            plane.destroy()


def test_what_was_made_before_or_after_stays_with_its_process(plane_root: Path, registry: CollectorRegistry) -> None:
    before = Counter("before", "Help.", ["x"], registry=registry)
    before.labels("1").inc()
    with shmplane.Plane.temporary() as plane:
        with use(plane) as used:
            assert use(plane) is used
            before.labels("2").inc(2)  # made after it
            Info("build", "Help.", registry=registry).info({"version": "1"})
            told = samples_of(registry)
            assert told["before_total", (("x", "1"),)] == 1
            assert told["before_total", (("x", "2"),)] == 2
            assert told["build_info", (("version", "1"),)] == 1
        assert values.ValueClass is values.MutexValue
        after = Counter("after_it", "Help.", registry=registry)
        after.inc()
        before.labels("2").inc()
        assert samples_of(registry)["after_it_total", ()] == 1
        assert samples_of(registry)["before_total", (("x", "2"),)] == 3


def test_two_metrics_of_one_name_count_together(plane: shmplane.Plane, registry: CollectorRegistry) -> None:
    one, two = (Counter("twice", "Help.", registry=kept) for kept in (registry, CollectorRegistry()))
    one.inc()
    two.inc()
    assert samples_of(registry)["twice_total", ()] == 2


def test_a_gauge_that_asks_a_function_tells_what_it_says(plane: shmplane.Plane, registry: CollectorRegistry) -> None:
    gauge = Gauge("asked", "Help.", registry=registry, multiprocess_mode="livesum")
    gauge.set_function(lambda: 42)
    assert samples_of(registry)["asked", ()] == 42


def test_every_kind_is_written_as_prometheus_reads_it(plane: shmplane.Plane, registry: CollectorRegistry) -> None:
    Histogram("h", "Help.", registry=registry, buckets=(1,)).observe(3)
    Summary("s", "Help.", registry=registry).observe(2)
    Counter("c", "Help.", registry=registry).inc()
    assert generate_latest(registry).decode().splitlines() == [
        "# HELP h Help.", "# TYPE h histogram", 'h_bucket{le="1.0"} 0.0', 'h_bucket{le="+Inf"} 1.0', "h_count 1.0", "h_sum 3.0",
        "# HELP s Help.", "# TYPE s summary", "s_count 1.0", "s_sum 2.0",
        "# HELP c_total Help.", "# TYPE c_total counter", "c_total 1.0",
    ]  # fmt: skip


def test_workers_that_nobody_ever_scrapes_do_not_pile_up(plane: shmplane.Plane, registry: CollectorRegistry) -> None:
    counter = Counter("unseen", "Help.", registry=registry)
    for _ in range(70):
        pid = os.fork()
        if pid == 0:
            counter.inc()
            os._exit(0)
        os.waitpid(pid, 0)
    assert len(plane.names("counted:page/")) <= 33
    assert samples_of(registry)["unseen_total", ()] == 70


@given(st.data())
def test_a_page_that_somebody_wrote_over_is_read_as_far_as_it_makes_sense(data: st.DataObject) -> None:
    memory = bytearray(1024)
    page = Page(memory, Presence(1, 2))
    for name in ("a", "b"):
        at = page.add(key_of(Series("counter", "", "f", name, (("x", name),), "")))
        assert at is not None
        page.values[at] = 1.0
    for _ in range(data.draw(st.integers(0, 8))):
        memory[data.draw(st.integers(0, 300))] = data.draw(st.integers(0, 255))
    state: State = {}
    add(state, PageReader(memory).entries(), ended=False)
    metrics_of(state)
    assert len(state) <= 2 or memory[:8] != bytes(8)


@pytest.mark.parametrize("given", [0, -1])
def test_a_table_has_room_for_something(plane_root: Path, given: int) -> None:
    with shmplane.Plane.temporary() as plane, pytest.raises(ValueError, match="at least 1"):
        use(plane, most_series=given)
