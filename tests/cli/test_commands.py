"""Every command: what it prints, what it returns, and that looking changes nothing."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane.cli import main
from tests.observe import killed
from tests.support.processes import Child, run_python

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        if "--json" not in arguments:
            assert all(len(line) <= 80 for line in out.splitlines())
        return code, out, err

    return call


def parsed(run: Run, *arguments: str) -> Any:
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    fields = json.loads(out)
    assert fields["schema_version"] == 1
    return fields


@pytest.fixture
def market(plane_root: Path) -> Iterator[shmplane.Plane]:
    with shmplane.Plane("market") as plane:
        plane["prices"] = np.arange(20_000.0)
        plane["trades"] = pa.table({"price": [1.5, 2.5], "symbol": ["A", "B"]})
        plane["notes"] = {"currency": "EUR"}
        yield plane
        plane.destroy()


# ls


def test_ls_of_nothing_prints_no_data(plane_root: Path, run: Run) -> None:
    code, out, err = run("ls")
    assert (code, out) == (0, "")
    assert "no planes" in err
    assert parsed(run, "ls")["planes"] == []
    assert os.listdir(plane_root) == []


def test_ls_lists_planes(market: shmplane.Plane, run: Run) -> None:
    code, out, err = run("ls")
    head, row = out.splitlines()
    assert (code, err) == (0, "")
    assert (head.split()[-1], row.split()[-1]) == ("PLANE", "market")
    (fields,) = parsed(run, "ls")["planes"]
    said = market.stats()
    assert (fields["name"], fields["blocks"], fields["processes"]) == ("market", 3, 1)
    assert (fields["capacity"], fields["used_nbytes"]) == (said.capacity, said.used_nbytes)
    assert fields["used_nbytes"] + fields["recycled_nbytes"] + fields["free_nbytes"] == fields["capacity"]


def test_ls_lists_the_blocks_of_a_plane(market: shmplane.Plane, run: Run) -> None:
    view = market["prices"]
    code, out, _ = run("ls", "market")
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["BLOCK", "notes", "prices", "trades"]
    blocks = {block["name"]: block for block in parsed(run, "ls", "market")["blocks"]}
    assert (blocks["prices"]["kind"], blocks["prices"]["nbytes"], blocks["prices"]["leases"]) == ("array", 160_000, 1)
    del view


def test_names_are_never_cut_where_there_is_no_terminal(market: shmplane.Plane, capsys: Any) -> None:
    market["é" * 60] = 1
    for arguments in (["ls", "market"], ["info", "market"], ["info", "market", "é" * 60]):
        assert main(arguments) == 0
        assert "é" * 60 in capsys.readouterr().out


def test_ls_goes_on_after_a_plane_that_it_cannot_read(market: shmplane.Plane, plane_root: Path, run: Run) -> None:
    broken = Path(plane_root, f"shmplane-{os.geteuid()}", "broken")
    broken.mkdir(mode=0o700)
    for name in ("tokens", "lock", "manifest"):
        (broken / name).touch(mode=0o600)
    (broken / "stray").mkdir()
    code, out, err = run("ls")
    assert code == 1
    assert "market" in out
    assert "broken" in err
    assert main(["rm", "broken", "--plane"]) == 1
    assert main(["rm", "broken", "--plane", "--force"]) == 0
    assert not broken.exists()


# info


def test_info_shows_a_plane_and_its_processes(market: shmplane.Plane, run: Run) -> None:
    code, out, _ = run("info", "market")
    assert code == 0
    assert f"{os.getpid()}" in out
    fields = parsed(run, "info", "market")
    assert [process["pid"] for process in fields["processes"]] == [os.getpid()]
    assert {block["name"] for block in fields["blocks"]} == {"notes", "prices", "trades"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prices", {"kind": "array", "dtype": "float64", "shape": [20_000], "schema": None}),
        ("notes", {"kind": "json", "dtype": None, "shape": None, "schema": None}),
        (
            "trades",
            {
                "kind": "table",
                "shape": [2, 2],
                "schema": [{"name": "price", "type": "double"}, {"name": "symbol", "type": "string"}],
            },
        ),
    ],
)
def test_info_shows_what_a_block_holds(market: shmplane.Plane, run: Run, name: str, expected: dict[str, Any]) -> None:
    fields = parsed(run, "info", "market", name)["block"]
    assert {key: fields[key] for key in expected} == expected
    assert market.stats().leases == 0
    assert name in run("info", "market", name)[1]


def test_a_misspelt_block_is_answered_with_the_name_that_was_meant(market: shmplane.Plane, run: Run) -> None:
    code, _, err = run("info", "market", "price")
    assert code == 3
    assert "did you mean 'prices'?" in err
    assert "did you mean" not in run("info", "market", "zzz")[2]


# gc


def test_gc_dry_run_shows_and_changes_nothing(stale: str, plane_root: Path, run: Run) -> None:
    (foretold,) = parsed(run, "gc", "--dry-run")["planes"]
    assert (foretold["processes"], foretold["leases"], foretold["blocks"]) == (1, 2, 2)
    code, out, _ = run("gc", stale, "--dry-run")
    assert code == 0
    assert "would reclaim 1 process, 2 leases, 2 blocks" in out
    assert parsed(run, "gc", "--dry-run")["planes"] == [foretold]


def test_gc_says_what_came_back_and_not_what_was_foretold(
    stale: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[shmplane.Reclaimed] = []

    def gc_after_another_process(plane: shmplane.Plane) -> shmplane.Reclaimed:
        first = real(plane)  # as by a process that lives in the plane and was faster
        given.append(real(plane))
        assert first.leases == 2
        return given[-1]

    real = shmplane.Plane.gc
    with monkeypatch.context() as patch:
        patch.setattr(shmplane.Plane, "gc", gc_after_another_process)
        (said,) = parsed(run, "gc")["planes"]
    assert given == [shmplane.Reclaimed()]
    assert said == {"name": stale, "processes": 0, "leases": 0, "permits": 0, "blocks": 0, "nbytes": 0, "pids": []}


def test_gc_says_what_the_plane_gave_back(stale: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given = shmplane.Reclaimed(processes=3, leases=4, permits=5, blocks=6, nbytes=7)
    with monkeypatch.context() as patch:
        patch.setattr(shmplane.Plane, "gc", lambda plane: given)
        (said,) = parsed(run, "gc")["planes"]
        assert run("gc")[1] == "stale: reclaimed 3 processes, 4 leases, 5 permits, 6 blocks, 7 B\n"
    assert {name: said[name] for name in ("processes", "leases", "permits", "blocks", "nbytes")} == {
        "processes": 3, "leases": 4, "permits": 5, "blocks": 6, "nbytes": 7,
    }  # fmt: skip


def test_gc_reclaims_and_says_what(stale: str, run: Run) -> None:
    code, out, _ = run("gc")
    assert (code, out.split(",")[0]) == (0, "stale: reclaimed 1 process")
    assert run("gc") == (0, "", "")


def test_gc_removes_what_killed_processes_left_beside_the_planes(plane_root: Path, run: Run) -> None:
    left = Path(plane_root, f"shmplane-{os.geteuid()}", ".dead-0")
    left.parent.mkdir(mode=0o700)
    left.mkdir(mode=0o700)
    (left / "s1").write_bytes(bytes(100))
    assert [found["path"] for found in parsed(run, "gc", "--dry-run")["leftovers"]] == [str(left)]
    assert left.exists()
    assert "half removed" in run("gc")[1]
    assert os.listdir(left.parent) == []


def _holds_a_temporary_file() -> Iterator[str]:
    scope = shmplane.Scope()
    yield str(scope.temporary_file())


def test_gc_removes_the_temporary_files_of_killed_processes(
    plane_root: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with Child(_holds_a_temporary_file) as child:
        left = Path(child.next())
        child.kill()
    assert parsed(run, "gc", "--dry-run")["temporary_files"] == 1
    assert left.exists()
    assert "1 temporary file" in run("gc")[1]
    assert not left.exists()


def _holds_permits() -> Iterator[int]:
    plane = shmplane.Plane("market")
    plane.lock("the one").acquire()
    semaphore = plane.semaphore("three", 3)
    semaphore.acquire()
    semaphore.acquire()
    yield os.getpid()


def test_locks_and_semaphores_are_shown_with_those_who_hold_and_wait(market: shmplane.Plane, run: Run) -> None:
    with Child(_holds_permits) as child, ThreadPoolExecutor() as threads:
        pid = child.next()
        waits = threads.submit(market.lock("the one").acquire)
        while not parsed(run, "info", "market")["semaphores"][0]["waiting"]:
            time.sleep(0.01)
        lock, semaphore = parsed(run, "info", "market")["semaphores"]
        assert (lock["kind"], lock["name"], lock["permits"], lock["held"]) == ("lock", "the one", 1, 1)
        assert [holder["pid"] for holder in lock["holders"]] == [pid]
        assert [waiter["pid"] for waiter in lock["waiting"]] == [os.getpid()]
        assert (semaphore["name"], semaphore["held"], semaphore["permits"]) == ("three", 2, 3)
        rows = [line.split() for line in run("info", "market")[1].splitlines()]
        assert ["lock", "1", "of", "1", f"{pid}", f"{os.getpid()}", "the", "one"] in rows
        assert ["semaphore", "2", "of", "3", f"{pid}", "(2)", "-", "three"] in rows
        said = market.stats()
        assert said.permits == 3
        assert [(use.kind, use.name, use.holders, use.waiters) for use in said.semaphores] == [
            ("lock", "the one", (pid,), (os.getpid(),)),
            ("semaphore", "three", (pid,), ()),
        ]
        child.kill()
        waits.result(10)
    market.lock("the one").release()
    market.gc()
    assert market.stats().semaphores == ()
    assert parsed(run, "info", "market")["semaphores"] == []


def test_permits_of_ended_processes_are_counted_and_come_back(plane_root: Path, run: Run) -> None:
    with Child(_holds_permits) as child:
        child.next()
        child.kill()
    assert parsed(run, "gc", "--dry-run")["planes"][0]["permits"] == 3
    assert "1 process ended and left 3 permits" in run("info", "market")[2]
    assert parsed(run, "gc")["planes"][0]["permits"] == 3
    assert run("gc") == (0, "", "")
    killed.remove("market", plane_root)


def test_a_program_that_ended_without_close_is_no_news(plane_root: Path, run: Run) -> None:
    run_python("import shmplane; shmplane.Plane('left')['x'] = 1")
    code, out, err = run("ls")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split()[-4] == "0"
    code, out, err = run("info", "left")
    assert (code, err) == (0, "")
    assert "SLOT" not in out
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json")[1])["checks"]}
    assert checks["plane left"]["status"] == "pass"
    assert run("gc") == (0, "", "")
    assert parsed(run, "info", "left")["processes"] == []
    killed.remove("left", plane_root)


def test_a_stale_process_is_mentioned_by_all_that_look(stale: str, run: Run) -> None:
    assert "shmplane gc" in run("ls")[2]
    assert "shmplane gc stale" in run("info", stale)[2]
    code, out, _ = run("doctor")
    assert code == 1
    assert "shmplane gc stale" in out


# health


def test_health_says_check_by_check_what_is_well(market: shmplane.Plane, run: Run) -> None:
    code, out, err = run("health", "market")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split()[:2] == ["pass", "lock"]
    fields = parsed(run, "health")
    assert (fields["status"], [check["name"] for check in fields["checks"]]) == ("pass", ["plane market"])


def test_health_of_a_plane_that_needs_something_is_a_problem(plane_root: Path, run: Run) -> None:
    killed.leave_stale("stale", plane_root)
    code, out, _ = run("health", "stale")
    assert code == 1
    assert "shmplane gc stale" in out
    assert run("health")[0] == 1
    killed.remove("stale", plane_root)


def test_health_of_no_plane_is_not_found(plane_root: Path, run: Run) -> None:
    assert run("health", "nothing")[0] == 3
    code, out, err = run("health")
    assert (code, out) == (0, "")
    assert "no planes" in err


# rm


def test_rm_removes_blocks(market: shmplane.Plane, run: Run) -> None:
    assert run("rm", "market", "prices", "notes") == (0, "", "")
    assert list(market) == ["trades"]


def test_rm_refuses_what_is_leased_unless_forced(market: shmplane.Plane, run: Run) -> None:
    view = market["prices"]
    code, out, err = run("rm", "market", "notes", "prices")
    assert (code, out) == (4, "")
    assert "prices" in err
    assert len(market) == 3
    assert run("rm", "market", "prices", "--force")[0] == 0
    assert "prices" not in market
    assert view[7] == 7.0
    del view


def test_rm_removes_nothing_when_one_is_missing(market: shmplane.Plane, run: Run) -> None:
    assert run("rm", "market", "notes", "missing")[0] == 3
    assert len(market) == 3


def test_rm_plane_refuses_while_something_is_leased(plane_root: Path, run: Run) -> None:
    with killed.living_holder("p", plane_root) as child:
        code, _, err = run("rm", "p", "--plane")
        assert code == 4
        assert str(child.pid) in err
        assert run("rm", "p", "--plane", "--force")[0] == 0
        assert run("rm", "p", "--plane")[0] == 3


def test_rm_plane_of_killed_processes_needs_no_force(plane_root: Path, run: Run) -> None:
    killed.leave_stale("p", plane_root)
    assert run("rm", "p", "--plane") == (0, "", "")


# doctor


def test_doctor_checks_the_host_and_each_plane(market: shmplane.Plane, run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    fields = json.loads(out)
    assert (code, fields["status"]) in {(0, "pass"), (1, "warn"), (1, "fail")}
    names = {check["name"]: check["status"] for check in fields["checks"]}
    assert names["plane market"] == names["locks"] == "pass"


def test_doctor_prints_the_binary_format(market: shmplane.Plane, run: Run) -> None:
    said = run("doctor", "--layout")[1]
    assert "generation" in said
    assert "fingerprint 0x" in said
    assert (
        parsed(run, "doctor", "--layout")["fingerprint"] == parsed(run, "doctor", "--layout", "market")["fingerprint"]
    )
    code, out, _ = run("doctor", "--layout", "market")
    assert code == 0
    assert "fingerprint" in out
    tables = parsed(run, "doctor", "--layout", "market")["tables"]
    assert (tables[0]["name"], tables[0]["start"]) == ("Header", 0)


# Everything else


def test_bench_without_the_source_says_where_it_is(run: Run, monkeypatch: pytest.MonkeyPatch, plane_root: Path) -> None:
    monkeypatch.setattr("shmplane.cli.benchmarks._is_importable", lambda: False)
    code, _, err = run("bench", "--quick")
    assert code == 3
    assert "python -m bench" in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["frobnicate"], 2),
        (["ls", "bad/name"], 2),
        (["rm", "market"], 2),
        (["rm", "market", "x", "--plane"], 2),
        (["rm", "market", "a\nb"], 2),
        (["info"], 2),
        (["info", ""], 2),
        (["--root", "relative", "ls"], 2),
        (["demo", "--workers", "1"], 2),
        (["demo", "--data", "x.xlsx"], 2),
        (["demo", "--data", "/no/such.csv"], 3),
        (["ls", "missing"], 3),
        (["info", "missing"], 3),
        (["gc", "missing"], 3),
        (["rm", "missing", "--plane"], 3),
        (["rm", "missing", "x"], 3),
        (["info", "missing", "x"], 3),
        (["doctor", "--layout", "missing"], 3),
        (["--version"], 0),
        (["--help"], 0),
    ],
    ids=lambda value: " ".join(map(repr, value)) if isinstance(value, list) else "",
)
def test_the_exit_code_says_what_was_wrong(plane_root: Path, run: Run, arguments: list[str], code: int) -> None:
    found, out, err = run(*arguments)
    assert found == code
    assert (out == "") == (code != 0)
    assert (err == "") == (code == 0)
    assert os.listdir(plane_root) == []


@pytest.mark.parametrize("command", ["ls", "info", "gc", "doctor", "rm", "demo", "bench"])
def test_help_has_examples(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"  shmplane {command}" in out.partition("examples:")[2]


def test_root_may_stand_before_or_after_the_command(plane_root: Path, tmp_path: Path, run: Run) -> None:
    assert parsed(run, "--root", str(tmp_path), "ls")["root"] == str(tmp_path)
    assert parsed(run, "ls", "--root", str(tmp_path))["root"] == str(tmp_path)
    assert parsed(run, "ls")["root"] == str(plane_root)
