"""The leak report: a function that leaks one kind of thing is caught for that kind, and no other is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import HANG_S

ROOT = Path(__file__).parents[2]


def report(
    function: str | None, out: Path, *, cycles: int = 5
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command = [sys.executable, "-m", "shmplane.testing.leaks", "--out", str(out), "--cycles", str(cycles)]
    if function is not None:
        command.append(f"tests.testing.seeded:{function}")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=4 * HANG_S, check=False)
    said = out / "leaks.json"
    return done, json.loads(said.read_text()) if said.exists() else {}


def test_the_library_leaks_nothing(tmp_path: Path) -> None:
    done, said = report(None, tmp_path / "leaks", cycles=20)
    assert (done.returncode, said["exceeded"], said["left"]) == (0, [], {}), done.stderr
    text = (tmp_path / "leaks" / "leaks.md").read_text()
    assert text.startswith("# Leaks: none\n")
    assert "| leases | 0 | 0 |" in text
    assert "<html" in (tmp_path / "leaks" / "leaks.html").read_text().lower()


def test_what_is_left_behind_is_counted_by_kind(tmp_path: Path) -> None:
    done, said = report("everything", tmp_path)
    counts = {left: sum(things.values()) for left, things in said["left"].items()}
    assert (done.returncode, said["processes"]) == (1, 1), done.stderr
    # A lease is on a block that is left too.
    assert counts == {"planes": 5, "segments": counts["segments"], "leases": 5, "permits": 5, "descriptors": 5}
    assert counts["segments"] >= 5
    text = (tmp_path / "leaks.md").read_text()
    for kind, count in counts.items():
        assert f"\n{kind}: " in f"\n{done.stderr}"
        assert f"| {kind} | 0 | {count} |" in text
    assert "seeded.py:" in said["heap"][0]["where"]
    assert said["heap"][0]["nbytes"] >= 200_000
    assert "\nheap: " in done.stderr


def test_memory_that_workers_keep_is_reported_with_its_line(tmp_path: Path) -> None:
    done, said = report("in_workers", tmp_path, cycles=2)
    assert (done.returncode, said["left"], said["processes"]) == (1, {}, 7), done.stderr
    kept = [found for found in said["heap"] if found["nbytes"] > 64 * 1024]
    # Two workers a cycle, spawned and forked; the third keeps nothing.
    assert [found["where"].partition(" ")[0] for found in kept] == ["_keep"] * 4
    assert len({found["process"] for found in kept}) == 4


def test_a_function_that_fails_makes_no_report(tmp_path: Path) -> None:
    done, said = report("fails", tmp_path)
    assert (done.returncode, said) == (2, {})
    assert "on purpose" in done.stderr
    assert "no report was made" in done.stderr


@pytest.mark.parametrize("wrong", [["--cycles", "0"], ["--cycles", "many"], ["no_colon"]])
def test_wrong_arguments_are_usage(wrong: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shmplane.testing.leaks", "--out", str(tmp_path), *wrong],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert not os.listdir(tmp_path)
