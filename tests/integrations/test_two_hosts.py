"""A plane's blocks between two hosts: Dask, with workers on both, and Arrow Flight from one to the other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Host, require_hosts, two_hosts
from tests.support.processes import kill_tree, run_python

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
PULL = [
    "every_kind_comes_as_it_was",
    "who_may_not_read_is_refused",
    "nothing_listens_there_without_a_token",
    "a_plane_that_fills_up_in_the_middle_keeps_what_it_had",
    "a_server_that_is_killed_at_any_part_leaves_nothing",
    "a_receiver_that_is_killed_at_any_part_leaves_nothing",
    "a_network_that_goes_down_at_any_part_leaves_nothing",
]


@pytest.fixture
def both() -> Iterator[tuple[Host, Host]]:
    require_hosts()
    with two_hosts() as hosts:
        yield hosts


Said = dict[str, str | None]


def run_there(program: str, near: Host, far: Host, *more: str, deadline: float = DEADLINE_S) -> Said:
    """What became of a program's checks, on the near host."""
    where = [near.address, str(near.pid), far.address, str(far.pid), *more]
    repository = str(HERE.parents[1])
    with near.start(
        *(sys.executable, str(HERE / program), *where),
        env={"PYTHONPATH": repository, "DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=deadline)
        finally:
            kill_tree(process.pid)
    assert process.returncode == 0
    said: Said = json.loads(out.splitlines()[-1])
    return said


def test_blocks_of_one_graph_go_to_workers_of_both(both: tuple[Host, Host]) -> None:
    assert run_there("dask_checks.py", *both) == dict.fromkeys(DASK)


def test_blocks_are_pulled_from_one_by_the_other(both: tuple[Host, Host]) -> None:
    assert run_there("pull_checks.py", *both) == dict.fromkeys(PULL)


@pytest.mark.sweep
def test_a_kill_at_any_part_of_a_pull_leaves_nothing(both: tuple[Host, Host]) -> None:
    assert run_there("pull_checks.py", *both, "sweep", deadline=250.0) == dict.fromkeys(PULL)


@pytest.mark.sweep
def test_figures_can_be_taken_between_both() -> None:
    require_hosts()
    program = "from tests.integrations.two_hosts_figures import main; main('4', '1')"
    assert len(run_python(program, cwd=HERE.parents[1], deadline=DEADLINE_S).stdout.splitlines()) == 5
