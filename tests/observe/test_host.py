"""Checks of the host: each names its cure, and leaves nothing behind."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest

import shmplane
from shmplane import observe
from shmplane.observe.units import count, nbytes, seconds, some
from shmplane.scopes import reclaim_orphans
from shmplane.system import MemoryLimit, cgroups, free_nbytes, memory_limit
from tests.support.processes import Child


def test_every_part_of_the_host_is_checked_and_nothing_is_left(plane_root: Path) -> None:
    found = {check.name: check for check in observe.check_host(str(plane_root))}
    assert {"platform", "libraries", "root", "locks", "room", "descriptors", "mappings", "cgroup"} <= set(found)
    assert found["platform"].status == found["locks"].status == "pass"
    assert os.listdir(plane_root) == []


def test_every_problem_names_its_cure(plane_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    found = {check.name: check for check in observe.check_host(str(plane_root))}
    assert found["descriptors"].status == "warn"
    assert all(check.cure for check in found.values() if check.status != "pass")


def live_with_a_temporary_file():
    with shmplane.Scope() as scope:
        yield str(scope.temporary_file())


def test_temporary_files_of_killed_processes_are_found(
    plane_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with Child(live_with_a_temporary_file) as child:
        child.next()
        found = {check.name: check for check in observe.check_host(str(plane_root))}["temporary files"]
        assert found.status == "pass"
        child.kill()
    found = {check.name: check for check in observe.check_host(str(plane_root))}["temporary files"]
    assert (found.status, found.cure) == ("warn", "shmplane gc")
    reclaim_orphans()
    found = {check.name: check for check in observe.check_host(str(plane_root))}["temporary files"]
    assert found.status == "pass"


def test_a_root_that_is_not_there_fails_and_the_rest_is_still_checked() -> None:
    found = {check.name: check.status for check in observe.check_host("/no/such/root")}
    assert found["root"] == "fail"
    assert "room" not in found
    assert "descriptors" in found


def test_a_root_on_disk_is_a_warning(tmp_path: Path) -> None:
    if tmp_path.stat().st_dev == os.stat("/dev/shm").st_dev:
        pytest.skip("temporary files of this host lie in memory")
    statuses = {check.name: check.status for check in observe.check_host(str(tmp_path))}
    assert statuses["root"] in {"pass", "warn"}
    assert statuses["locks"] == "pass"


def group(path: Path, **files: int | str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (path / name.replace("__", ".")).write_text(f"{value}\n")


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    group(tmp_path / "a", memory__max=1000, memory__current=900)
    group(tmp_path / "a" / "b", memory__max="max", memory__current=10)
    found = memory_limit(tmp_path, "0::/a/b\n")
    assert found is not None
    assert (found.limit_nbytes, found.room_nbytes) == (1000, 100)


def test_what_the_kernel_keeps_of_files_on_disk_gives_way(tmp_path: Path) -> None:
    group(
        tmp_path,
        memory__max=1000,
        memory__current=900,
        memory__stat="anon 100\ninactive_file 200\nactive_file 300\nshmem 300",
    )
    found = memory_limit(tmp_path, "0::/\n")
    assert found is not None
    assert found.room_nbytes == 600


def test_a_plane_takes_no_more_by_default_than_half_of_what_its_memory_cgroup_leaves(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writers would be killed: no call fails at the limit of a cgroup."""
    for limit, capacity in (
        (MemoryLimit(120 << 20, 40 << 20), 40 << 20),
        (MemoryLimit(120 << 20, 130 << 20), 0),
        (MemoryLimit(1 << 59, 0), free_nbytes(str(plane_root)) // 2),
    ):
        monkeypatch.setattr(cgroups, "memory_limit", lambda limit=limit: limit)
        with shmplane.Plane("plane", root=str(plane_root)) as plane:
            assert plane.stats().capacity == pytest.approx(capacity, rel=0.2)
            plane.destroy()


def test_limits_of_version_1_are_understood(tmp_path: Path) -> None:
    group(tmp_path / "memory" / "x", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=5)
    assert memory_limit(tmp_path, "4:memory:/x\n1:cpu:/x\n0::/\n") is None
    group(tmp_path / "memory", memory__limit_in_bytes=7, memory__usage_in_bytes=5)
    found = memory_limit(tmp_path, "4:memory:/x\n")
    assert found is not None
    assert found.room_nbytes == 2


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (nbytes(0), "0 B"),
        (nbytes(999), "999 B"),
        (nbytes(1000), "0.98 KiB"),
        (nbytes(50_715_315), "48.4 MiB"),
        (nbytes(-2048), "-2.00 KiB"),
        (count(1_000_000), "1,000,000"),
        (seconds(0.0000123), "12.3 µs"),
        (seconds(0.0123), "12.3 ms"),
        (seconds(61.0), "61.0 s"),
        (seconds(7000.0), "117 min"),
        (seconds(86_400.0 * 3), "3 d"),
        (some(1, "process"), "1 process"),
        (some(2, "process"), "2 processes"),
        (some(0, "lease"), "0 leases"),
    ],
)
def test_units_read_well(shown: str, expected: str) -> None:
    assert shown == expected


def test_the_layout_lists_every_column_of_the_format() -> None:
    tables = {table.name: table for table in observe.describe_format()}
    assert {"Header", "Processes", "Blocks", "Segments", "Names", "Leases"} <= set(tables)
    assert tables["Header"].columns[0].name == "magic"
    for table in tables.values():
        assert sum(column.nbytes for column in table.columns) == table.row_nbytes
        assert all(column.meaning for column in table.columns)


def test_a_directory_of_ours_that_lets_others_in_is_closed_and_not_removed(plane_root: Path) -> None:
    directory = Path(observe.directory_of(str(plane_root)))
    directory.mkdir()
    directory.chmod(0o755)
    found = {check.name: check for check in observe.check_host(str(plane_root))}["directory"]
    assert found.status == "fail"
    assert f"chmod 700 {directory}" in found.cure
    with pytest.raises(shmplane.PlaneSecurityError, match=f"chmod 700 {directory}"):
        shmplane.Plane("market", root=plane_root)
    directory.chmod(0o700)
    shmplane.Plane("market", root=plane_root).destroy()


def test_a_plane_whose_directory_lets_others_in_is_not_to_be_removed(plane_root: Path) -> None:
    plane = shmplane.Plane("market", root=plane_root)
    directory = Path(observe.directory_of(str(plane_root)))
    directory.chmod(0o755)
    (found,) = observe.check_planes(str(plane_root))
    directory.chmod(0o700)
    plane.destroy()

    assert found.status == "fail"
    assert f"chmod 700 {directory}" in found.found
    assert "shmplane rm" not in found.cure
