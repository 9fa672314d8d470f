"""Whether a second thread would have a core of its own."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

import pytest

from shmplane.system import cgroups, has_idle_core


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def test_the_least_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", cpu__max="max 100000\n")
    write(tmp_path / "a", cpu__max="150000 100000\n")
    assert cgroups.quota_in_cores(tmp_path, "0::/a/b\n") == 1.5
    write(tmp_path / "a" / "b", cpu__max="50000 100000\n")
    assert cgroups.quota_in_cores(tmp_path, "0::/a/b\n") == 0.5


def test_quotas_of_the_first_version_are_read_as_well(tmp_path: Path) -> None:
    write(tmp_path / "cpu" / "x", cpu__cfs_quota_us="400000\n", cpu__cfs_period_us="100000\n")
    assert cgroups.quota_in_cores(tmp_path, "4:cpu,cpuacct:/x\n1:memory:/x\n") == 4.0
    write(tmp_path / "cpu" / "x", cpu__cfs_quota_us="-1\n")
    assert cgroups.quota_in_cores(tmp_path, "4:cpu,cpuacct:/x\n") == inf


@pytest.mark.parametrize("said", ["", "50000", "a b", "50000 0"])
def test_what_says_nothing_limits_nothing(tmp_path: Path, said: str) -> None:
    write(tmp_path, cpu__max=said)
    assert cgroups.quota_in_cores(tmp_path, "0::/\n") == inf


@pytest.mark.parametrize(
    ("usable", "quota", "running", "expected"),
    [
        (1, inf, 1, False),
        (2, inf, 1, True),
        (2, inf, 2, False),
        (8, 1.5, 1, False),
        (8, 2.0, 1, True),
        (64, inf, 70, False),
    ],
)
def test_a_core_is_idle_when_fewer_run_than_may(
    monkeypatch: pytest.MonkeyPatch, usable: int, quota: float, running: int, expected: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))
    monkeypatch.setattr(cgroups, "_known", (cgroups.time.monotonic(), quota))  # type: ignore[attr-defined]
    monkeypatch.setattr(cgroups, "read_text", lambda _: f"0.5 0.4 0.3 {running}/900 4711\n")
    assert has_idle_core() is expected


def test_when_nobody_says_who_runs_no_core_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(cgroups, "_known", (cgroups.time.monotonic(), inf))  # type: ignore[attr-defined]
    monkeypatch.setattr(cgroups, "read_text", gone)
    assert not has_idle_core()
