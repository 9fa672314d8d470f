"""Blocks in a real cluster of Dask on one host. One of two hosts is in ``test_two_hosts.py``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.processes import run_python

PROGRAM = Path(__file__).parent / "dask_checks.py"
#: functions of the program; this process imports nothing of Dask
CHECKS = [
    "a_block_comes_as_a_handle",
    "a_result_that_is_a_block_comes_back_as_one",
    "a_block_goes_from_worker_to_worker",
    "a_scattered_block_is_not_copied",
    "a_graph_keeps_the_version_that_it_was_made_with",
    "an_array_is_made_of_views",
    "what_cannot_be_cut_is_refused",
    "a_dataframe_is_made_of_views",
    "a_worker_that_comes_later_is_asked_as_well",
]


def test_blocks_of_a_graph_go_to_workers_of_this_host(plane_root: Path) -> None:
    repository = str(Path(__file__).parents[2])
    env = {"PYTHONPATH": repository, "DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s"}
    done = run_python(PROGRAM, env=env, cwd=repository, deadline=120)
    # One cluster for all: what each check said, None when it held.
    assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(CHECKS)
