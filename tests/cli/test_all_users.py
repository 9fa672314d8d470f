"""``--all-users``: root sees everybody's planes, as everybody; nobody else may, and nobody leads root anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmplane
from shmplane.cli import main
from shmplane.system import run_as
from tests.support.forked import Forked

pytestmark = pytest.mark.usefixtures("needs_root")
#: users that no host has
ANNA, BERT = 4_000_001, 4_000_002


@pytest.fixture
def shared_root() -> Iterator[Path]:
    """A root as ``/dev/shm``: everybody may make a directory of their own there."""
    root = Path(tempfile.mkdtemp(prefix="shmplane-users-", dir="/dev/shm"))
    root.chmod(0o1777)
    yield root
    shutil.rmtree(root)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shmplane", "--root", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def put_as(uid: int, root: Path, *, holds: bool = False) -> None:
    """A plane of that user; the process ends with a lock and a lease, or with nothing."""

    def act() -> bytes:
        plane = shmplane.Plane("market", root=root, capacity="4MiB")
        plane["x"] = b"value"
        if holds:
            plane.lock("the one").acquire()
            held = plane.attach("x")
            assert held.leases == 1
        return b"done"

    assert run_as(uid, uid, act) == b"done"


@pytest.fixture
def three(shared_root: Path) -> Path:
    put_as(0, shared_root)
    put_as(ANNA, shared_root, holds=True)
    put_as(BERT, shared_root)
    return shared_root


def test_ls_lists_the_planes_of_everybody(three: Path) -> None:
    done = run(three, "ls", "--all-users")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["USER", "root", f"{ANNA}", f"{BERT}"]
    assert done.stderr.startswith(f"shmplane: {ANNA}: market: 1 process ended")
    planes = json.loads(run(three, "ls", "--all-users", "--json").stdout)["planes"]
    assert [(plane["uid"], plane["name"], plane["blocks"]) for plane in planes] == [
        (uid, "market", 1) for uid in (0, ANNA, BERT)
    ]


def test_gc_reclaims_for_everybody_and_leaves_files_to_their_owners(three: Path) -> None:
    foretold = json.loads(run(three, "gc", "--all-users", "--dry-run", "--json").stdout)["planes"]
    assert [(plane["uid"], plane["permits"], plane["leases"]) for plane in foretold] == [
        (0, 0, 0),
        (ANNA, 1, 1),
        (BERT, 0, 0),
    ]
    done = run(three, "gc", "--all-users")
    assert (done.returncode, done.stdout) == (0, f"{ANNA}: market: reclaimed 1 process, 1 lease, 1 permit\n")
    assert run(three, "gc", "--all-users").stdout == ""
    for uid in (0, ANNA, BERT):
        assert {path.stat().st_uid for path in (three / f"shmplane-{uid}").rglob("*")} == {uid}


def test_doctor_checks_the_planes_of_everybody(three: Path) -> None:
    done = run(three, "doctor", "--all-users", "--json")
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["plane market of root"]["status"] == checks[f"plane market of {BERT}"]["status"] == "pass"
    assert checks[f"plane market of {ANNA}"]["cure"] == "shmplane gc --all-users"


def test_what_does_not_belong_to_the_user_in_its_name_is_left_alone(three: Path) -> None:
    secret = three / "secret"
    (secret / "plane").mkdir(parents=True)
    (three / "shmplane-4000003").symlink_to(secret)
    (three / "shmplane-4000004").mkdir()
    (three / "shmplane-0004000001").mkdir()
    done = run(three, "ls", "--all-users", "--json")
    assert {user["uid"] for user in json.loads(done.stdout)["users"]} == {0, ANNA, BERT}
    assert "shmplane-4000003: left alone" in done.stderr
    assert "shmplane-4000004: left alone" in done.stderr


def test_a_plane_that_leads_elsewhere_is_a_problem_of_its_user_alone(three: Path) -> None:
    plane = three / f"shmplane-{ANNA}" / "market"
    (plane / "manifest").unlink()
    (plane / "manifest").symlink_to("/etc/shadow")
    done = run(three, "ls", "--all-users")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["USER", "root", f"{BERT}"]
    assert f"{ANNA}: market: opening" in done.stderr


@pytest.mark.parametrize("command", ["ls", "gc", "doctor"])
def test_it_is_for_root_and_for_all_planes(three: Path, command: str) -> None:
    def refused() -> None:
        os.setresuid(ANNA, ANNA, ANNA)
        assert main(["--root", str(three), command, "--all-users"]) == 2

    Forked(refused).wait(20)
    if command != "doctor":
        assert run(three, command, "market", "--all-users").returncode == 2


@pytest.mark.parametrize("way", ["ends", "raises"])
def test_a_child_that_fails_as_another_user_says_nothing(way: str, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> bytes:
        if way == "raises":
            raise LookupError("as another user")
        os._exit(3)

    assert run_as(ANNA, ANNA, work) is None
    assert ("LookupError" in capfd.readouterr().err) == (way == "raises")


def test_a_child_that_became_another_user_cannot_become_root_again() -> None:
    def work() -> bytes:
        found: list[Any] = [os.getresuid(), os.getresgid(), os.getgroups()]
        attempts: list[Callable[[], object]] = [lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.seteuid(0)]
        for attempt in attempts:
            try:
                attempt()
            except PermissionError:
                found.append("refused")
        return json.dumps(found).encode()

    said = run_as(ANNA, BERT, work)
    assert said is not None
    assert json.loads(said) == [[ANNA] * 3, [BERT] * 3, [], "refused", "refused", "refused"]
