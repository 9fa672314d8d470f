"""``shmplane top`` on a terminal: keys go in, and what a user would see comes out."""

from __future__ import annotations

import os
import re
import shutil
import struct
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import shmplane
from shmplane.cli import main
from shmplane.cli.top.looking import Look, Overview
from shmplane.cli.top.screen import draw
from shmplane.cli.top.view import View, press
from shmplane.manifest import directory_of
from shmplane.observe import Process, reading, sample_of
from tests.support.processes import run_in_child
from tests.support.terminal import on_terminal

if TYPE_CHECKING:
    import pytest

EVIL = "evil\N{RIGHT-TO-LEFT OVERRIDE}\N{ZERO WIDTH JOINER} 価格"


def _make_plane(name: str) -> None:
    with shmplane.Plane(name) as plane:
        plane["prices"] = np.arange(100_000.0)
        plane[EVIL] = b"x" * 1000


def _remove(name: str) -> None:
    with shmplane.Plane(name) as plane:
        plane.destroy()


def test_a_user_goes_from_all_planes_to_one_and_back_and_quits(plane_root: Path) -> None:
    with shmplane.Plane("market") as plane:
        plane["prices"] = np.arange(100_000.0)
        held = plane["prices"]
        with plane.lock("daily"), on_terminal("top", "--seconds", "0.2") as terminal:
            terminal.wait_for(r"(?s)BLOCKS.*PLANE.* 784 KiB .* market\n.*q quit  s sort: name")
            terminal.press("\r")
            terminal.wait_for(rf"{os.getpid()} +1 +781 KiB +1 .* alive")
            terminal.wait_for(rf"1 of 1 +{os.getpid()} +0 +lock +daily")
            terminal.wait_for(r"781 KiB +array +1 +1 +prices")
            terminal.press("s")
            terminal.wait_for("s sort: leases")
            terminal.press("r")
            terminal.wait_for(r"leases \(reversed\)")
            terminal.press(" ")
            terminal.wait_for(r"top market +paused")
            terminal.press("\x1b")
            terminal.wait_for(r"PROCS(?s:.*) market")
            terminal.press("q")
            assert terminal.wait_for_end() == 0
            # The screen from before comes back, with the cursor.
            assert b"\x1b[?1049l" in terminal.written
            assert b"\x1b[?25h" in terminal.written
        assert len(held) == 100_000
        plane.destroy()


def test_it_is_right_in_40_columns_without_colours_and_whatever_names_say(plane_root: Path) -> None:
    run_in_child(_make_plane, "market")
    with on_terminal("top", "market", "--seconds", "0.2", columns=40, lines=20, NO_COLOR="1") as terminal:
        terminal.wait_for(r"BLOCK\n(?s:.*)prices(?s:.*)evil\\x202e\\(?s:.*)q quit")
        assert max(map(len, terminal.lines)) <= 40
        terminal.resize(100, 30)
        terminal.wait_for(r"KIND +VERSION +LEASES +BLOCK(?s:.*)evil\\x202e\\x200d")
        terminal.resize(20, 6)
        terminal.wait_for(r"^shmplane top.*\n.*\n.*\n.*\n.*\nq quit")
        terminal.press("\x03")
        assert terminal.wait_for_end() == 0
        assert "\N{RIGHT-TO-LEFT OVERRIDE}".encode() not in terminal.written
        assert re.search(rb"\x1b\[[0-9;]*m", terminal.written) is None
    _remove("market")


def test_a_plane_that_vanishes_is_said_to_be_gone_and_its_next_one_is_shown(plane_root: Path) -> None:
    run_in_child(_make_plane, "market")
    with on_terminal("top", "market", "--seconds", "0.1") as terminal:
        terminal.wait_for("prices")
        _remove("market")
        terminal.wait_for(r"market: there is no plane 'market'(?s:.*)seen last(?s:.*)prices")
        run_in_child(_make_plane, "market")
        terminal.wait_for(r"^shmplane top market.*\n\[(?s:.*)prices")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    _remove("market")


def test_what_cannot_be_read_is_said_with_the_reason_and_ends_nothing(plane_root: Path) -> None:
    harms = ["another version", "cut", "open to others", "written over"]
    for harm in harms:
        run_in_child(_make_plane, harm.replace(" ", "-"))
    with on_terminal("top", "--seconds", "0.1") as terminal:
        terminal.wait_for(r"written-over\n")
        for harm in harms:
            _harm(Path(directory_of(str(plane_root))) / harm.replace(" ", "-"), harm)
        for row, harm in enumerate(harms):
            name = harm.replace(" ", "-")
            terminal.wait_for(r"\n".join(rf".*- +{harm.replace(' ', '-')}: .*" for harm in harms))
            terminal.press("j" * row + "\r")
            terminal.wait_for(rf"(?m)^{name}: ")
            terminal.press("\x1b")
        terminal.wait_for(r"- +cut: ")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    for harm in harms:
        shutil.rmtree(Path(directory_of(str(plane_root))) / harm.replace(" ", "-"))


def _harm(directory: Path, harm: str) -> None:
    manifest = directory / "manifest"
    if harm == "open to others":
        directory.chmod(0o777)
    elif harm == "cut":
        # A shorter file would end whoever has it mapped: another one takes its place.
        with manifest.open("rb") as file:
            (directory / "shorter").write_bytes(file.read(4096))
        (directory / "shorter").chmod(0o600)
        (directory / "shorter").rename(manifest)
    else:
        with manifest.open("r+b") as file:
            file.seek(8 if harm == "another version" else 0)
            file.write(struct.pack("<Q", 99) if harm == "another version" else b"\xff" * 512)


def test_without_a_terminal_it_refuses_and_names_what_to_use(
    plane_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top"]) == 4
    assert "shmplane ls --json" in capsys.readouterr().err


def test_a_plane_that_is_not_there_is_said_before_anything_is_drawn(plane_root: Path) -> None:
    with on_terminal("top", "nowhere") as terminal:
        assert terminal.wait_for_end() == 3
        assert b"\x1b[?1049h" not in terminal.written
        assert "there is no plane 'nowhere'" in terminal.shown


def test_the_end_of_the_terminal_or_of_patience_is_an_end_like_any_other(plane_root: Path) -> None:
    with on_terminal("top") as terminal:
        terminal.wait_for("no planes")
        os.kill(terminal.pid, 15)
        assert terminal.wait_for_end() == 0
        assert b"\x1b[?1049l" in terminal.written


def test_every_screen_has_its_size_however_much_there_is_to_show(plane_root: Path) -> None:
    with shmplane.Plane.temporary() as plane:
        for number in range(70):
            plane[f"{number:03} {EVIL}"] = number
        held = [plane.lock(f"lock {number}") for number in range(12)]
        for lock in held:
            lock.acquire()
        with reading(plane.name, str(plane_root)) as looked_at:
            sample = sample_of(looked_at)
        many = [Process(slot, 10**6 + slot, 1, alive=slot % 3 > 0, leases=(1,)) for slot in range(256)]
        summary = sample.summary
        crowded = sample._replace(summary=replace(summary, processes=tuple(many)))
        for seen in (
            Look("p", crowded, {"puts": 1e6}),
            Look("p", sample, None, "gone " * 30),
            Look("p", None, None, "never seen"),
            Overview((summary,) * 90, {"bad": "why " * 40}),
            Overview(),
        ):
            plane_of = None if isinstance(seen, Overview) else "p"
            for row, width, height in product((0, 5, 1000), (20, 40, 80, 133), (4, 10, 24, 60)):
                lines = draw(View(plane_of, row=row), seen, width, height, "12:00:00")
                assert len(lines) == height
                assert max(line.cell_len for line in lines) <= width
        for lock in held:
            lock.release()


def test_the_marked_row_stays_among_those_there_are() -> None:
    view = View()
    for key in ["down", "down", "page down", "up", "j", "k"]:
        view = press(view, key, ["a", "b", "c"], 3)
        assert 0 <= view.row < 3
    assert press(View(row=2), "enter", ["a", "b", "c"], 3).plane == "c"
    assert press(View(row=2), "enter", ["a"], 1).plane is None
    assert press(View("p"), "escape", [], 0).plane == "p"
