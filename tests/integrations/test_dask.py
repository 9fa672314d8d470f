"""Blocks in a real cluster of Dask on one host. One of two hosts is in ``test_two_hosts.py``."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    "a_dataframe_is_made_of_views",
    "a_worker_that_comes_later_is_asked_as_well",
]


@pytest.fixture(scope="module")
def said() -> Iterator[dict[str, str | None]]:
    """What became of each check."""
    root = tempfile.mkdtemp(prefix="dask-", dir=os.environ["SHMPLANE_ROOT"])
    repository = str(Path(__file__).parents[2])
    env = {"SHMPLANE_ROOT": root, "PYTHONPATH": repository, "DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s"}
    done = run_python(PROGRAM, env=env, cwd=repository, deadline=120)
    yield json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(root)


@pytest.mark.parametrize("check", CHECKS)
def test_on_one_host(said: dict[str, str | None], check: str) -> None:
    assert said[check] is None


def test_every_check_is_looked_at(said: dict[str, str | None]) -> None:
    assert said.keys() == set(CHECKS)
