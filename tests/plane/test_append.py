"""Appends: every one lands exactly once, at a cost that grows with what is appended."""

from __future__ import annotations

import collections
import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import shmplane
from shmplane.codecs import align_rows
from shmplane.plane.blocks import publish
from shmplane.plane.drafts import appending
from tests.plane.versions import edit, faults, settle
from tests.support.inside import references_of
from tests.support.processes import Child, run_in_child


def rows(count: int, *, start: int = 0, who: int = 0) -> pa.Table:
    return pa.table(
        {
            "who": np.full(count, who),
            "number": np.arange(start, start + count),
            "text": [f"row {number}" for number in range(start, start + count)],
        }
    )


def test_rows_are_added_at_the_end_as_a_new_version(plane: shmplane.Plane) -> None:
    block = plane.append("t", rows(10))
    assert (block.version, block.kind, block.shape) == (1, "table", (10, 3))
    old = plane["t"]
    block = plane.append("t", rows(5, start=10))
    assert (block.version, block.shape) == (2, (15, 3))
    assert plane["t"].equals(rows(15))
    assert old.equals(rows(10))
    assert run_in_child(_read, plane, "t") == rows(15).to_pydict()


def _read(plane: shmplane.Plane, name: str) -> Any:
    return plane[name].to_pydict()


@pytest.mark.parametrize(
    "added",
    [
        rows(2, start=100),
        rows(2, start=100).to_batches()[0],
        rows(2, start=100).select(["text", "who", "number"]),
        rows(2, start=100).to_pydict(),
        rows(2, start=100).to_pylist(),
        rows(2, start=100).to_pandas(),
    ],
    ids=["table", "batch", "other order", "dict", "list", "pandas"],
)
def test_rows_of_any_kind_are_taken(plane: shmplane.Plane, added: Any) -> None:
    plane["t"] = rows(100)
    plane.append("t", added)
    assert plane["t"].equals(rows(102))


@pytest.mark.parametrize("added", [rows(3), rows(3).to_pydict(), rows(3).to_pylist()])
def test_a_missing_table_is_created(plane: shmplane.Plane, added: Any) -> None:
    assert plane.append("t", added).version == 1
    assert plane["t"].to_pydict() == rows(3).to_pydict()


def test_a_frame_stays_a_frame(plane: shmplane.Plane) -> None:
    frame = pd.DataFrame({"a": [1, 2], "s": ["x", None], "c": pd.Categorical(["u", "v"])})
    for _ in range(40):
        plane.append("f", frame)
    expected = pd.concat([frame] * 40, ignore_index=True)
    pd.testing.assert_frame_equal(plane["f"], expected)
    plane.append("f", {"a": [3], "s": ["q"], "c": pa.array(["v"]).dictionary_encode()})
    assert len(plane["f"]) == 81
    with pytest.raises(ValueError, match="'a'"):
        plane.append("f", {"a": [None], "s": ["q"], "c": ["v"]})
    with pytest.raises(ValueError, match="'new'"):
        plane.append("f", frame.assign(c=pd.Categorical(["new", "v"])))


def test_no_rows_are_no_version(plane: shmplane.Plane) -> None:
    plane["t"] = rows(10)
    assert plane.append("t", rows(0)).version == 1
    assert plane.append("t", []).version == 1


def test_what_cannot_be_appended(plane: shmplane.Plane) -> None:
    plane["a"] = np.zeros(3)
    with pytest.raises(shmplane.UnsupportedValue, match="array"):
        plane.append("a", rows(1))
    plane["t"] = rows(10)
    plane["b"], plane["j"] = b"bytes", {}
    for name in ("b", "j"):
        with pytest.raises(shmplane.UnsupportedValue, match="a table or an array"):
            plane.append(name, rows(1))
    for value in (3, "text", np.zeros((2, 2)), [1, 2]):
        with pytest.raises(shmplane.UnsupportedValue):
            plane.append("t", value)
    for point in (3, "text", np.zeros(()), [1, 2]):
        with pytest.raises(shmplane.UnsupportedValue):
            plane.append("missing", point)
    with pytest.raises(TypeError):
        plane.append(None, rows(1))  # type: ignore[arg-type]
    assert plane.names() == ["a", "b", "j", "t"]
    assert not faults(plane)


def test_a_hundred_appends_are_few_parts_and_each_row_is_written_few_times(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane["t"] = rows(200_000)
    written = []
    prepare = publish.prepare

    def counting(attachment: Any, contents: Any, *args: Any, **options: Any) -> Any:
        written.append(contents.nbytes)
        return prepare(attachment, contents, *args, **options)

    monkeypatch.setattr(publish, "prepare", counting)
    monkeypatch.setattr(appending, "prepare", counting)
    added = rows(1_000, start=200_000)
    block = None
    for _ in range(100):
        block = plane.append("t", added)
    assert block is not None
    assert len(references_of(block)) <= 8
    assert sum(written) <= 6 * 100 * added.nbytes
    table = plane["t"]
    assert table.num_rows == 300_000
    assert table.slice(0, 200_000).equals(rows(200_000))
    assert table.slice(250_000, 1_000).equals(added)
    assert table.column(0).num_chunks < 30
    del table, block
    assert settle(plane).used_nbytes < 1.5 * 300 * added.nbytes
    assert not faults(plane)


def test_a_reader_keeps_its_version_while_others_append(plane: shmplane.Plane) -> None:
    plane["t"] = rows(100_000)
    views = []
    for turn in range(30):
        plane.append("t", rows(100, start=100_000 + 100 * turn))
        views.append(plane["t"])
    for turn, view in enumerate(views):
        assert view.num_rows == 100_100 + 100 * turn
        assert view["number"].to_numpy()[-1] == 100_099 + 100 * turn
    views.clear()
    assert not faults(plane)


def test_many_appends_of_very_different_sizes(plane: shmplane.Plane) -> None:
    random = np.random.default_rng(2)
    total = 0
    for _ in range(150):
        count = int(random.choice([1, 2, 50, 3_000, 20_000]))
        plane.append("t", rows(count, start=total))
        total += count
    assert plane["t"].equals(rows(total))
    assert not faults(plane)


def test_a_table_of_a_thousand_columns(plane: shmplane.Plane) -> None:
    """Its description is too large to be written under the lock."""
    wide = pa.table({f"column {index}": [index, index + 1] for index in range(1_500)})
    for _ in range(12):
        plane.append("wide", wide)
    with Child(_append_wide, plane, wide) as other:
        for _ in range(5):
            plane.append("wide", wide)
        assert other.result() is None
    found = plane["wide"]
    assert found.shape == (44, 1_500)
    assert found["column 7"].to_pylist() == [7, 8] * 22
    assert not faults(plane)


def _append_wide(plane: shmplane.Plane, wide: pa.Table) -> None:
    for _ in range(5):
        plane.append("wide", wide)


def test_columns_that_were_edited_in_between(plane: shmplane.Plane) -> None:
    plane["t"] = rows(30_000)
    for turn in range(25):
        plane.append("t", rows(100, start=30_000 + 100 * turn))
        if turn % 6 == 0:
            with edit(plane, "t") as draft:
                draft["who"] = np.full(30_100 + 100 * turn, turn)
    found = plane["t"]
    assert found.num_rows == 32_500
    assert found["number"].to_pylist() == list(range(32_500))
    assert found["who"].to_pylist() == [24] * 32_500
    assert not faults(plane)


def test_an_edit_and_an_append_at_once_are_a_conflict_for_the_edit_alone(plane: shmplane.Plane) -> None:
    plane["t"] = rows(10_000)
    draft = edit(plane, "t")
    draft["who"] = np.ones(10_000, "i8")
    plane.append("t", rows(1))
    with pytest.raises(shmplane.Conflict):
        draft.commit()
    draft.discard()
    assert plane["t"].num_rows == 10_001


def test_an_append_to_a_table_that_changes_its_schema_meanwhile(plane: shmplane.Plane) -> None:
    plane["t"] = rows(30_000)
    module: Any = appending

    def replaced_meanwhile(*args: Any) -> Any:
        module.align_rows = align_rows
        found = align_rows(*args)
        plane["t"] = pa.table({"other": [1]})
        return found

    module.align_rows = replaced_meanwhile
    with pytest.raises(ValueError, match="'other'"):
        plane.append("t", rows(5))
    assert plane["t"].to_pydict() == {"other": [1]}
    assert not faults(plane)


def test_a_full_plane_appends_nothing() -> None:
    with shmplane.Plane.temporary(capacity="4MiB") as plane:
        plane["t"] = rows(20_000)
        before = settle(plane)
        plane.resize(before.used_nbytes + 50_000)
        with pytest.raises(shmplane.PlaneFull):
            plane.append("t", rows(20_000))
        after = settle(plane)
        assert (after.used_nbytes, after.blocks, after.leases) == (before.used_nbytes, before.blocks, 0)
        assert plane.attach("t").version == 1
        assert not faults(plane)


# Many at once

WORKERS, APPENDS = 4, 40


def _append_many(plane: shmplane.Plane, who: int, sizes: list[int]) -> int:
    start = 0
    for size in sizes:
        plane.append("t", rows(size, start=start, who=who))
        start += size
    return start


def test_concurrent_appends_of_processes_all_land_exactly_once_and_in_their_order(plane: shmplane.Plane) -> None:
    random = np.random.default_rng(5)
    sizes = [random.choice([1, 10, 3_000], APPENDS, p=[0.5, 0.4, 0.1]).tolist() for _ in range(WORKERS)]
    children = [Child(_append_many, plane, who, sizes[who], method="fork", deadline=100) for who in range(WORKERS)]
    try:
        totals = [child.result() for child in children]
    finally:
        for child in children:
            child.__exit__(None, None, None)
    found = plane["t"].to_pandas()
    assert plane.attach("t").version == WORKERS * APPENDS
    assert len(found) == sum(totals)
    for who, total in enumerate(totals):
        assert found.number[found.who == who].tolist() == list(range(total))
    del found
    assert not faults(plane)


def test_concurrent_appends_of_threads(plane: shmplane.Plane) -> None:
    threads = [threading.Thread(target=_append_many, args=(plane, who, [7] * 30)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = collections.Counter(plane["t"]["who"].to_pylist())
    assert counts == dict.fromkeys(range(4), 210)
    assert not faults(plane)


def test_nobody_starves(plane: shmplane.Plane) -> None:
    """A slow one among fast ones gets through at its own pace."""
    plane["t"] = rows(10)
    fast = [Child(_append_for, plane, who, 2.0, method="fork") for who in (1, 2)]
    try:
        began = time.monotonic()
        for turn in range(10):
            plane.append("t", rows(2_000, start=2_000 * turn))
        took = time.monotonic() - began
        others = [child.result() for child in fast]
    finally:
        for child in fast:
            child.__exit__(None, None, None)
    assert took < 20
    counts = collections.Counter(plane["t"]["who"].to_pylist())
    assert counts == {0: 20_010, 1: others[0], 2: others[1]}


def _append_for(plane: shmplane.Plane, who: int, seconds: float) -> int:
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        plane.append("t", rows(1, who=who))
        count += 1
    return count


def test_a_killed_appender_has_appended_or_not(plane: shmplane.Plane) -> None:
    plane["t"] = rows(5_000, who=9)
    for _ in range(6):
        with Child(_append_until_killed, plane, method="fork") as child:
            assert child.next() == "going"
            time.sleep(0.05)
            child.kill()
        plane.gc()
        found = plane["t"]
        assert (found.num_rows - 5_000) % 50 == 0
        numbers = found["number"].to_pylist()[5_000:]
        assert numbers == list(range(50)) * (len(numbers) // 50)
        del found
        assert not faults(plane)


def _append_until_killed(plane: shmplane.Plane) -> Any:
    yield "going"
    while True:
        plane.append("t", rows(50))


# Arrays


@pytest.mark.parametrize("start", [0, 1, 3_000, 100_000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_added_to_an_array_along_axis_0(plane: shmplane.Plane, start: int, order: Any) -> None:
    random = np.random.default_rng(start)
    expected = np.asarray(random.random((start, 3)), order=order)
    plane["a"] = expected
    old, before = plane["a"], expected.copy()
    for count in (1, 200, 0, 5_000, 1, 1, 60_000, 7):
        added = random.random((count, 3))
        block = plane.append("a", added)
        expected = np.concatenate([expected, added])
        assert np.array_equal(plane["a"], expected)
        assert (block.shape, block.kind) == (expected.shape, "array")
    assert block.version == 8
    if start > 1:
        assert plane["a"].flags.f_contiguous == (order == "F")
    assert np.array_equal(old, before)
    assert run_in_child(_sum, plane, "a") == pytest.approx(expected.sum())
    del old, block
    assert not faults(plane)


def _sum(plane: shmplane.Plane, name: str) -> float:
    return float(plane[name].sum())


def test_appends_and_edits_of_an_array_follow_each_other(plane: shmplane.Plane) -> None:
    random = np.random.default_rng(1)
    expected = random.random(50_000)
    plane["a"] = expected
    for turn in range(60):
        if turn % 3 == 1:
            with edit(plane, "a") as draft:
                for at in random.integers(0, len(expected), 5):
                    draft.array[at] = expected[at] = turn
        else:
            added = random.random(int(random.integers(1, 4_000)))
            plane.append("a", added)
            expected = np.concatenate([expected, added])
        assert np.array_equal(plane["a"], expected)
    assert settle(plane).used_nbytes < 3 * expected.nbytes + (1 << 20)
    assert not faults(plane)


def test_many_small_appends_to_a_large_array_hold_little_more_than_its_rows(plane: shmplane.Plane) -> None:
    plane["a"] = np.zeros((200_000, 2))
    before = settle(plane).used_nbytes
    for turn in range(100):
        plane.append("a", np.full((1, 2), float(turn)))
    assert plane["a"].shape == (200_100, 2)
    assert plane["a"][200_000:, 1].tolist() == list(range(100))
    assert settle(plane).used_nbytes - before < 2 << 20


def test_a_missing_array_is_created(plane: shmplane.Plane) -> None:
    assert plane.append("a", np.arange(3)).version == 1
    assert plane.append("a", [3, 4]).version == 2
    assert plane["a"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("added", "says"),
    [
        (np.ones((2, 4)), r"shape \(2, 4\); array 'a' takes rows of shape \(n, 3\)"),
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((1, 3), "f4"), "dtype float32 and array 'a' of float64; use astype"),
        (np.ones((1, 3), ">f8"), "dtype >f8"),
        ([["x", "y", "z"]], "no array of dtype float64"),
        ([1, 2, 3], r"shape \(3,\)"),
    ],
    ids=["shape", "dimensions", "dtype", "byte order", "text", "a row alone"],
)
def test_rows_that_do_not_fit_an_array_are_refused_saying_what_differs(
    plane: shmplane.Plane, added: Any, says: str
) -> None:
    plane["a"] = np.zeros((5, 3))
    with pytest.raises(ValueError, match=says):
        plane.append("a", added)
    plane["point"] = np.array(1.0)
    with pytest.raises(ValueError, match="no dimensions"):
        plane.append("point", [1.0])
    assert plane.attach("a").version == 1


def test_a_mutable_array_takes_no_rows(plane: shmplane.Plane) -> None:
    plane.mutable("m", (3,), "f8")
    with pytest.raises(shmplane.UnsupportedValue, match="mutable"):
        plane.append("m", np.ones(2))


def test_concurrent_appends_to_one_array_all_land_exactly_once_and_in_their_order(plane: shmplane.Plane) -> None:
    random = np.random.default_rng(6)
    sizes = [random.choice([1, 30, 9_000], APPENDS, p=[0.5, 0.4, 0.1]).tolist() for _ in range(WORKERS)]
    children = [Child(_append_numbers, plane, who, sizes[who], method="fork", deadline=100) for who in range(WORKERS)]
    try:
        totals = [child.result() for child in children]
    finally:
        for child in children:
            child.__exit__(None, None, None)
    found = np.array(plane["a"])
    assert plane.attach("a").version == WORKERS * APPENDS
    assert len(found) == sum(totals)
    for who, total in enumerate(totals):
        assert found[found[:, 0] == who, 1].tolist() == list(range(total))
    assert not faults(plane)


def _append_numbers(plane: shmplane.Plane, who: int, sizes: list[int]) -> int:
    start = 0
    for size in sizes:
        plane.append("a", np.stack([np.full(size, who), np.arange(start, start + size)], axis=1))
        start += size
    return start
