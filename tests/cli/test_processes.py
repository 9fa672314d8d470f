"""The command as a process: start-up, pipes that close, streams that are closed or cannot show every letter."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import shmplane
from tests.support.processes import run_python

SHMPLANE = f"{sys.executable} -X dev -W error -m shmplane"
MODULES_AFTER = """
import sys
from shmplane.cli import main
assert main(sys.argv[1:]) == 0
print(*sorted({"numpy", "pyarrow", "pandas", "psutil", "shmplane.plane", "json"} & set(sys.modules)), file=sys.stderr)
"""


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script.replace("shmplane", SHMPLANE)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **env},
    )


def test_ls_loads_neither_numpy_nor_pyarrow_nor_what_writes_planes(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane:
        plane["x"] = b"bytes"
        assert run_python(MODULES_AFTER, "ls").stderr.strip() == ""
        assert run_python(MODULES_AFTER, "ls", "p").stderr.strip() == ""
        assert run_python(MODULES_AFTER, "ls", "--json").stderr.strip() == "json"
        plane.destroy()


@pytest.mark.parametrize(
    "options", ["ls p", "ls p --json", "info p --json", "doctor --layout", "doctor --layout --json"]
)
def test_a_reader_that_goes_away_is_no_reason_for_noise(plane_root: Path, options: str) -> None:
    with shmplane.Plane("p") as plane:
        for number in range(500):
            plane[f"block {number}"] = number
        done = shell(f"shmplane {options} | head -n 1")
        assert done.stderr == ""
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 1
        assert shell(f"shmplane {options} | true").stderr == ""
        plane.destroy()


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "</dev/null >/dev/null"])
def test_closed_streams_are_no_error(plane_root: Path, streams: str) -> None:
    for command in ("ls", "ls --json", "gc"):
        done = shell(f"shmplane {command} {streams}")
        assert done.returncode == 0, done.stderr


def test_messages_never_go_where_data_goes(plane_root: Path) -> None:
    assert shell("shmplane info missing 2>&-").stdout == ""
    assert shell("shmplane 2>&-").stdout == ""


def test_a_full_disk_under_stdout_is_said(plane_root: Path) -> None:
    done = shell("shmplane ls --json > /dev/full")
    assert done.returncode == 1
    assert "No space left" in done.stderr


def test_letters_that_the_terminal_lacks_are_replaced(plane_root: Path) -> None:
    with shmplane.Plane("p") as plane:
        plane["größe"] = 1
        done = shell("shmplane ls p", PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert "gr??e" in done.stdout or "gr" in done.stdout
        plane.destroy()


@pytest.mark.parametrize("columns", [60, 200])
def test_on_a_terminal_lines_are_cut_to_its_width_and_in_a_pipe_they_are_not(plane_root: Path, columns: int) -> None:
    with shmplane.Plane("p") as plane:
        plane["n" * 100] = 1
        shown = on_terminal(columns, "-m", "shmplane", "ls", "p")
        assert max(map(len, shown.splitlines())) <= columns
        assert ("n" * 100 in shown) == (columns == 200)
        assert ("…" in shown) == (columns == 60)
        assert "n" * 100 in shell("shmplane ls p", COLUMNS=f"{columns}").stdout
        plane.destroy()


def on_terminal(columns: int, *arguments: str) -> str:
    """What a program of this interpreter shows on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown = b""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen([sys.executable, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO: nobody has the other side any more
            while piece := os.read(ours, 65_536):
                shown += piece
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}])
def test_names_of_blocks_are_utf_8_in_every_locale(plane_root: Path, locale: dict[str, str]) -> None:
    with shmplane.Plane("p") as plane:
        plane["größe"] = plane["Ω/prices"] = 1
        done = shell("shmplane info p größe --json && shmplane rm p größe", **locale)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["block"]["name"] == "größe"
        assert list(plane) == ["Ω/prices"]
        plane.destroy()


def test_version() -> None:
    assert shell("shmplane --version").stdout == f"shmplane {shmplane.__version__}\n"
