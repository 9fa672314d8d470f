"""The layout of a plane's memory: what is shown, what is left out, and that nothing shown can do harm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import ClosedError, Layout, Plane, PlaneCorrupt
from shmplane.observe import layout_of, reading
from tests.support.inside import look, row_of
from tests.support.page import Page
from tests.support.page import page_of as page_of_html
from tests.support.processes import Child
from tests.support.stuck import lock_taken

MIB = 1 << 20


def page_of(layout: Layout) -> Page:
    return page_of_html(layout.html())


def test_a_plane_shows_its_segments_blocks_and_who_leases_them(plane: Plane) -> None:
    plane["prices"] = np.zeros(MIB)
    plane["config"] = {"limit": 5}
    view = plane["prices"]
    layout = plane.layout()
    assert layout.used_nbytes + layout.recycled_nbytes + layout.free_nbytes == layout.capacity
    assert [(block.label, block.kind, len(block.holders)) for block in layout.blocks] == [
        ("prices", "array", 1), ("config", "json", 0),
    ]  # fmt: skip
    assert layout.segments[0].what == "prices version 1"
    assert any("small blocks: 1 of" in segment.what for segment in layout.segments)
    for text in (layout.text(), page_of(layout).text):
        assert "prices" in text
        assert "8.00 MiB" in text
        assert str(layout.processes[0].pid) in text
    assert view.shape == (MIB,)


def test_every_kind_has_a_letter_and_a_colour_of_its_own() -> None:
    from shmplane.manifest import KINDS
    from shmplane.observe import picture_html

    marks = picture_html._KINDS
    assert set(KINDS.values()) <= set(marks)
    assert len({letter for letter, _ in marks.values()}) == len({colour for _, colour in marks.values()}) == len(marks)


def test_this_process_and_the_room_that_edits_took_are_marked(plane: Plane) -> None:
    plane["flights"] = pa.table({"a": np.arange(50_000), "fee": np.arange(50_000)})
    with plane.edit("flights") as draft:
        draft["fee"] = np.zeros(50_000, "i8")
    layout = plane.layout()
    assert "what edits and appends added" in {segment.what for segment in layout.segments}
    assert "this one" in page_of(layout).text
    assert f"{layout.processes[0].pid}*" in layout.text()


def test_an_empty_plane_has_a_layout(plane: Plane) -> None:
    layout = plane.layout()
    assert [*layout.blocks, *layout.segments, *layout.advice] == []
    assert "no blocks" in page_of(layout).text
    assert layout.to_arrow().num_rows == 0


def test_an_edited_array_shows_which_pages_come_from_where(plane: Plane) -> None:
    plane["grid"] = np.zeros(MIB)
    with plane.edit("grid") as draft:
        draft.array[5 * 512] = 1.0
    shares = next(block.shares for block in plane.layout().blocks if block.version == 2)
    assert {(share.source, share.amount, share.runs) for share in shares} == {
        ("grid version 1", 2047, (5, -1, 2042)),
        ("edits", 1, (-5, 1, -2042)),
    }
    assert "2,047 pages from grid version 1" in plane.layout().text()
    assert "1 page from edits" in page_of(plane.layout()).text


def test_what_was_spilled_says_that_it_is_on_disk(plane_root: Path, tmp_path: Path) -> None:
    with Plane("market", root=str(plane_root), capacity=2 * MIB, spill=tmp_path) as plane:
        plane["grid"] = np.zeros(65_536)
        with plane.edit("grid") as draft:
            draft.array[0] = 1
        for number in range(6):
            plane[f"n/{number}"] = np.full(65_536, number, "i4")
        layout = plane.layout()
        assert layout.spilled_nbytes == plane.stats().spilled_nbytes > 0
        places = {block.label: block.place for block in layout.blocks if block.version == 1}
        assert places["n/5"] == "memory"
        assert [segment.place for segment in layout.segments] == sorted(segment.place for segment in layout.segments)
        for text in (layout.text(), page_of(layout).text, run("map", "market")):
            assert "on disk" in text
            assert "spilled to disk" in text
            assert "pages from grid version 1" in text
        assert set(layout.to_arrow()["place"].to_pylist()) == {"spill", "memory"}
        assert json.loads(run("map", "market", "--json"))["spilled_nbytes"] == layout.spilled_nbytes
        spilled = next(label for label, place in places.items() if label != "grid" and place == "spill")
        assert "on disk" in run("info", "market", spilled)
        assert json.loads(run("info", "market", spilled, "--json"))["block"]["place"] == "spill"
        plane.destroy()


def test_an_edited_tree_shows_which_pages_come_from_where(plane: Plane) -> None:
    plane["model"] = {"weights": np.zeros(100_000), "bias": np.zeros(10)}
    with plane.edit("model") as draft:
        draft.tree["weights"][50_000] = 1.0
    shares = next(block.shares for block in plane.layout().blocks if block.version == 2)
    assert [(share.source, share.amount) for share in shares] == [("model version 1", 195), ("edits", 1)]


def test_where_pages_come_from_many_places_in_turn_each_stretch_shows_the_rarest(plane: Plane) -> None:
    plane["grid"] = np.zeros((4_000, 512))
    with plane.edit("grid") as draft:
        draft.array[1_000:2_000:20] = 1.0
    shares = next(block.shares for block in plane.layout().blocks if block.version == 2)
    assert [(share.source, share.amount, share.is_whole, share.runs) for share in shares] == [
        ("grid version 1", 3_950, False, (1_000, -1_000, 2_000)),
        ("edits", 50, False, (-1_000, 1_000, -2_000)),
    ]
    assert "rarest" in page_of(plane.layout()).text


def test_an_edited_table_shows_which_columns_come_from_where(plane: Plane) -> None:
    plane["flights"] = pa.table({"a": np.arange(50_000), "b": np.arange(50_000.0), "fee": np.arange(50_000)})
    with plane.edit("flights") as draft:
        draft["fee"] = np.zeros(50_000)
    shares = next(block.shares for block in plane.layout().blocks if block.version == 2)
    assert [(share.source, share.columns) for share in shares] == [
        ("flights version 1", ("a", "b")),
        ("what edits and appends added", ("fee",)),
    ]


def holds_and_makes(name: str, root: str):
    plane = Plane(name, root=root)
    held = plane["held"]
    with plane.create("half made", 200_000, "u1"):
        yield held.shape


def test_what_an_ended_process_left_comes_first_with_the_cure(plane_root: Path) -> None:
    with Plane("p", root=str(plane_root)) as plane:
        plane["held"] = np.zeros(10_000)
        for number in range(20):
            plane[f"large {number}"] = np.zeros(100_000)
        with Child(holds_and_makes, "p", str(plane_root)) as child:
            child.next()
            child.kill()
        layout = plane.layout()
        assert {block.label for block in layout.blocks if block.is_stale} == {"held", "(being made)"}
        assert all(block.is_stale for block in layout.blocks[:2])
        assert (len(layout.blocks), layout.more_blocks) == (8, 14)
        assert not layout.processes[0].alive
        assert "1 process ended and left 1 lease" in layout.text()
        text = page_of(layout).text
        assert "Warning: 1 process ended" in text
        assert "shmplane gc p" in text
        assert "ended" in text
        plane.gc()
        assert not any(block.is_stale for block in plane.layout().blocks)
        plane.destroy()


def test_old_versions_that_are_kept_here_are_told_of(plane: Plane) -> None:
    plane["x"] = np.zeros(10_000)
    old = plane["x"]
    plane["x"] = np.ones(10_000)
    layout = plane.layout()
    assert any("keeps 1 old version" in advice.what and "%reset" in advice.cure for advice in layout.advice)
    assert "%reset -f out" in layout.text()
    assert {(block.version, block.state) for block in layout.blocks} == {(1, "superseded"), (2, "live")}
    del old


def test_a_plane_that_is_nearly_full_is_told_of() -> None:
    with Plane.temporary(capacity=MIB) as plane:
        plane["x"] = np.zeros(MIB - 40_000, "u1")
        told = plane.layout().advice
        assert any("in use" in advice.what and "plane.resize" in advice.cure for advice in told)
        assert {advice.what for advice in told} == {check.found for check in plane.health().checks if check.cure}


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b", "é" * 60, "x" * 120]
)
def test_names_are_text_whatever_is_in_them(plane: Plane, name: str) -> None:
    plane[name] = {"a": 1}
    plane["table"] = pa.table({name: np.zeros(20_000), "other": np.zeros(20_000)})
    with plane.edit("table") as draft:
        draft["other"] = np.ones(20_000)
    layout = plane.layout()
    assert name[:20] in page_of(layout).text
    assert all(len(line) <= 100 for line in layout.text().splitlines())


def test_all_blocks_are_in_the_table(plane: Plane) -> None:
    for number in range(30):
        plane[f"b{number:02}"] = {"n": number}
    view = plane["b07"]
    plane["array"] = held = np.zeros(20_000)
    held = plane["array"]
    table = plane.layout().to_arrow()
    rows = {row["name"]: row for row in table.to_pylist()}
    assert len(rows) == 31
    assert (rows["array"]["leases"], rows["array"]["nbytes"], rows["array"]["kind"]) == (1, 160_000, "array")
    assert rows["b07"]["version"] == 1
    frame = plane.layout().to_pandas()
    assert frame.shape == (31, table.num_columns)
    del view, held


def test_a_plane_with_many_blocks_has_a_small_page() -> None:
    with Plane.temporary(capacity="64MiB") as plane:
        for number in range(5_000):
            plane[f"block <{number}> " + "x" * 90] = number
        layout = plane.layout()
        assert layout.more_blocks == 4_992
        assert len(layout.html().encode()) < 60_000
        page_of(layout)


def test_a_layout_is_of_its_moment_also_when_the_plane_is_gone() -> None:
    plane = Plane.temporary()
    plane["x"] = np.zeros(10_000)
    layout = plane.layout()
    plane.destroy()
    assert "x" in page_of(layout).text
    assert layout.to_arrow().num_rows == 1
    with pytest.raises(ClosedError):
        plane.layout()


def test_planes_show_their_memory_in_notebooks_and_never_raise(plane: Plane) -> None:
    plane["x"] = np.zeros(10_000)
    bundle = plane._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == repr(plane)
    assert "x version 1" in Page(bundle["text/html"]).text
    # The same thread holds the lock: nobody may wait here.
    assert set(look(plane, lambda _: plane._repr_mimebundle_())) == {"text/plain"}
    shown = plane.layout()._repr_mimebundle_()
    assert shown["text/html"] == plane.layout().html()
    plane.close()
    assert plane._repr_mimebundle_() == {"text/plain": repr(plane)}


@pytest.mark.parametrize(
    "show", [lambda plane: plane._repr_mimebundle_(), lambda plane: plane.layout().html()], ids=["plane", "layout"]
)
def test_a_plane_that_vanishes_while_it_is_shown_is_no_error(
    show: Any, plane_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shmplane.observe import sharing

    read = sharing._read

    def destroy_and_read(*args: Any) -> Any:
        Plane("market", root=str(plane_root)).destroy()
        return read(*args)

    with Plane("market", root=str(plane_root)) as plane:
        plane["x"] = np.zeros(10_000)
        with plane.edit("x") as draft:
            draft.array[0] = 1
        with monkeypatch.context() as patched:
            patched.setattr(sharing, "_read", destroy_and_read)
            assert "market" in str(show(plane))
        with pytest.raises(ClosedError):
            plane.layout()


def test_a_plane_of_another_version_says_so(plane_root: Path) -> None:
    with Plane("market", root=str(plane_root)) as plane:

        def write(tx: Any, version: int) -> int:
            before: int = tx.header.format[0]
            tx.header.format[0] = version
            return before

        before = look(plane, write, 99)
        done = command("map", "market")
        assert done.returncode != 0
        assert "another release" in done.stderr
        look(plane, write, before)
        assert plane.name in plane._repr_mimebundle_()["text/plain"]
        plane.destroy()


def test_to_look_leases_nothing(plane: Plane) -> None:
    plane["x"] = np.zeros(10_000)
    with plane.edit("x") as draft:
        draft.array[0] = 1
    leases = plane.stats().leases
    layouts = [plane.layout() for _ in range(3)]
    assert plane.stats().leases == leases
    assert len({layout.html() for layout in layouts}) == 1


def test_a_plane_whose_lock_is_held_for_long_is_shown_as_it_is_and_says_so(plane_root: Path) -> None:
    with Plane("market", root=str(plane_root)) as plane:
        plane["prices"] = np.zeros(10_000)
        with lock_taken(plane) as neighbour:
            assert set(plane._repr_mimebundle_()) == {"text/plain"}
            shown = layout_from_outside("market", plane_root)
            assert neighbour.has_it
        assert "prices" in shown.text()
        assert any("held for over a second" in advice.what for advice in shown.advice)
        plane.destroy()


def layout_from_outside(name: str, root: Path) -> Layout:
    with reading(name, str(root)) as plane:
        return layout_of(plane)


def test_the_command_shows_the_same(plane_root: Path) -> None:
    with Plane("market", root=str(plane_root)) as plane:
        plane["prices"] = np.zeros(10_000)
        with plane.edit("prices") as draft:
            draft.array[0] = 1
        shown = run("map", "market")
        assert "prices" in shown
        assert re.search(r"pages? from prices version 1", shown)
        said = json.loads(run("map", "market", "--json"))
        assert said["schema_version"] == 1
        assert [block["label"] for block in said["blocks"]] == ["prices", "prices"]
        plane.destroy()


def run(*arguments: str) -> str:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shmplane", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "column", ["created", "body_nbytes", "version", "segment", "name", "references", "owner", "cell"]
)
@pytest.mark.parametrize("word", [2**64 - 1, 2**63, 2**40, 1])
def test_hostile_words_are_a_typed_error_or_a_layout(plane: Plane, column: str, word: int) -> None:
    plane["x"] = np.zeros(10_000)
    with plane.edit("x") as draft:
        draft.array[0] = 1
    row = row_of(plane.attach("x"))

    def write(tx: Any) -> int:
        before: int = getattr(tx.blocks, column)[row]
        getattr(tx.blocks, column)[row] = word
        return before

    def mend(tx: Any, before: int) -> None:
        getattr(tx.blocks, column)[row] = before

    before = look(plane, write)
    try:
        layout = plane.layout()
        page_of(layout)
        layout.text()
        layout.to_arrow()
    except PlaneCorrupt:
        pass
    finally:
        look(plane, mend, before)


def test_a_hostile_table_of_extents_is_not_believed(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    from shmplane.observe import sharing

    plane["x"] = np.zeros(100_000)
    with plane.edit("x") as draft:
        draft.array[0] = 1
    read = sharing._read
    forgeries: list[Any] = [
        lambda stored, frame: (stored, frame[:-1] + b"\0"),
        lambda stored, frame: (stored[:-1], frame),
        lambda stored, frame: (b"\xff" * len(stored), frame),
        lambda stored, frame: (b"", frame),
    ]
    for forge in forgeries:
        monkeypatch.setattr(sharing, "_read", lambda path, block, forge=forge: forge(*read(path, block)))
        for block in plane.layout().blocks:
            assert block.shares == ()
        page_of(plane.layout())
