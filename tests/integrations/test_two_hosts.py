"""A plane's blocks between two hosts: Dask, with workers on both, and Arrow Flight from one to the other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Host, require_hosts, two_hosts
from tests.support.processes import kill_tree

HERE = Path(__file__).parent
DEADLINE_S = 120.0
#: functions of the programs; this process imports nothing of Dask or Flight
DASK = [
    "bytes_go_to_another_host",
    "a_handle_goes_to_the_same_host_all_the_same",
    "blocks_come_back_from_another_host",
    "a_worker_of_another_release_gets_bytes",
    "a_version_that_is_gone_comes_as_its_bytes",
    "what_is_not_known_is_another_host",
    "who_has_gone_is_forgotten",
]


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Host, Host]]:
    require_hosts()
    with two_hosts() as hosts:
        yield hosts


Said = dict[str, str | None]


def run_there(program: str, near: Host, far: Host) -> Said:
    """What became of a program's checks, on the near host."""
    where = [near.address, str(near.pid), far.address, str(far.pid)]
    repository = str(HERE.parents[1])
    with near.start(
        *(sys.executable, str(HERE / program), *where),
        env={"PYTHONPATH": repository, "DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            kill_tree(process.pid)
    assert process.returncode == 0
    said: Said = json.loads(out.splitlines()[-1])
    return said


@pytest.fixture(scope="module")
def dask(both: tuple[Host, Host]) -> Said:
    return run_there("dask_checks.py", *both)


@pytest.mark.parametrize("check", DASK)
def test_of_dask(dask: Said, check: str) -> None:
    assert dask[check] is None


def test_every_check_is_looked_at(dask: Said) -> None:
    assert dask.keys() == set(DASK)
