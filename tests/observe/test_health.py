"""The health of a plane: what is to be done about it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import shmplane
from shmplane import observe
from tests.observe import killed

CHECKS = ["lock", "ended processes", "blocks", "processes", "memory"]


def test_a_fresh_plane_passes(plane: shmplane.Plane) -> None:
    health = plane.health()
    assert type(health) is shmplane.Health
    assert (health.status, [check.name for check in health.checks]) == ("pass", CHECKS)
    assert all(check.found and not check.cure for check in health.checks)


def test_a_call_that_gives_garbage_back_in_passing_is_no_unfinished_one(plane: shmplane.Plane) -> None:
    def make_garbage() -> None:
        plane["x"] = bytes(100_000)
        assert len(plane["x"]) == 100_000

    for _ in range(5):
        make_garbage()
        assert plane.health().status == "pass"
        make_garbage()
        assert plane.layout().advice == ()


def test_a_plane_that_is_nearly_full_says_how_to_make_room(plane_root: Path) -> None:
    with shmplane.Plane("p", capacity="8MiB", max_blocks=64, max_processes=4) as plane:
        plane["most"] = bytes(7_700_000)
        for number in range(60):
            plane[f"small-{number}"] = b"x"
        health = plane.health()
        assert health.status == "warn"
        assert {check.name: check.cure for check in health.checks if check.status == "warn"} == {
            "blocks": "Make the plane with a larger max_blocks=.",
            "memory": "Delete blocks, or plane.resize(capacity).",
        }
        plane.destroy()
        with pytest.raises(shmplane.ClosedError):
            plane.health()


def test_what_a_killed_process_left_is_said_until_it_is_reclaimed(plane_root: Path) -> None:
    killed.leave_stale("p", plane_root)
    ended = {check.name: check for check in observe.plane_checks(observe.snapshot_of("p"))}["ended processes"]
    assert (ended.status, ended.cure) == ("warn", "shmplane gc p")
    assert "2 leases" in ended.found
    with shmplane.Plane("p", create=False) as plane:
        plane.gc()
        assert plane.health().status == "pass"
        plane.destroy()
