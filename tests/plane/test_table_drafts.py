"""Edits of tables: columns and rows that were not touched are shared with the version before."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

import shmplane
from tests.plane.versions import edit, faults, settle
from tests.support.inside import references_of

ROWS = 20_000
# Polars starts its threads, with their descriptors, at its first query.
pl.concat([pl.DataFrame({"a": [1, 2]}).with_columns(b=1)] * 2)


@pytest.fixture
def table() -> Any:
    return pa.table(
        {
            "id": np.arange(ROWS),
            "name": [f"name {number % 97}" for number in range(ROWS)],
            "price": np.linspace(0, 1, ROWS),
            "kind": pa.array(["a", "b", None, "c"] * (ROWS // 4)).dictionary_encode(),
        }
    )


def rows_like(table: pa.Table, count: int) -> pa.Table:
    return table.slice(7, count)


# Columns


def test_a_column_is_added_and_the_others_are_shared(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    old, before = plane["t"], settle(plane).used_nbytes
    with edit(plane, "t") as draft:
        draft["fee"] = np.ones(ROWS, "f4")
    expected = table.append_column("fee", pa.array(np.ones(ROWS, "f4")))
    assert plane["t"].equals(expected)
    assert draft.block.table(["fee", "id"]).equals(expected.select(["fee", "id"]))
    assert old.equals(table)
    assert draft.block.schema.equals(expected.schema)
    assert draft.block.shape == (ROWS, 5)
    assert settle(plane).used_nbytes - before < 4 * ROWS + 30_000
    plane["t"].validate(full=True)


def test_columns_are_replaced_deleted_and_renamed_in_place(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        draft["name"] = list(range(ROWS))
        del draft["price"]
        draft.rename({"id": "key", "kind": "id"})
        assert draft.column_names == ["key", "name", "id"]
        assert "key" in draft
        assert "price" not in draft
        assert draft["name"].to_pylist() == list(range(ROWS))
    expected = pa.table({"key": table["id"], "name": np.arange(ROWS), "id": table["kind"]})
    assert plane["t"].equals(expected)


def test_names_can_change_places(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        draft.rename({"id": "price", "price": "id"})
    assert plane["t"].column_names == ["price", "name", "id", "kind"]


def test_rows_are_appended_and_the_old_ones_shared(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    before = settle(plane).used_nbytes
    with edit(plane, "t") as draft:
        draft.append(rows_like(table, 500))
        draft.append({"id": [1], "name": ["x"], "price": [2.0], "kind": ["new"]})
    found = plane["t"]
    assert found.num_rows == ROWS + 501
    assert found.slice(0, ROWS).equals(table)
    assert found.slice(ROWS, 500).to_pylist() == rows_like(table, 500).to_pylist()
    assert found.slice(ROWS + 500).to_pylist() == [{"id": 1, "name": "x", "price": 2.0, "kind": "new"}]
    assert settle(plane).used_nbytes - before < 100_000


def test_a_column_for_all_rows_after_rows_were_appended(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        draft["first"] = np.zeros(ROWS)
        draft.append(
            {"id": [1], "name": ["x"], "price": [2.0], "kind": pa.array(["a"]).dictionary_encode(), "first": [5.0]}
        )
        draft["second"] = np.arange(ROWS + 1)
        preview = draft.table
    found = plane["t"]
    assert found.equals(preview)
    assert found["first"].to_pylist()[-1] == 5.0
    assert found["second"].to_pylist() == list(range(ROWS + 1))


def test_edits_of_edits_are_folded_before_they_hold_too_much(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    for turn in range(40):
        with edit(plane, "t") as draft:
            draft["price"] = np.full(ROWS, float(turn))
            draft[f"extra {turn % 5}"] = np.full(ROWS, turn)
    found = plane["t"]
    assert found["price"].to_pylist() == [39.0] * ROWS
    assert found["extra 2"].to_pylist() == [37] * ROWS
    assert found["id"].equals(table["id"])
    nbytes = found.nbytes
    del found
    draft = None
    assert settle(plane).used_nbytes <= 2 * nbytes + (2 << 20)
    assert not faults(plane)


def test_a_small_table_is_simply_copied(plane: shmplane.Plane) -> None:
    plane["t"] = pa.table({"x": [1, 2, 3]})
    with edit(plane, "t") as draft:
        draft["y"] = ["a", "b", "c"]
    assert not references_of(draft.block)
    assert plane["t"].to_pydict() == {"x": [1, 2, 3], "y": ["a", "b", "c"]}


def test_everything_replaced_refers_to_nothing(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        for name in table.column_names:
            draft[name] = np.zeros(ROWS)
    assert not references_of(draft.block)
    del draft
    assert settle(plane).blocks == 1


def test_a_table_without_columns_and_one_without_rows(plane: shmplane.Plane) -> None:
    plane["t"] = pa.table({"x": pa.array([], "i8"), "s": pa.array([], "string")})
    with edit(plane, "t") as draft:
        draft.append({"x": [1], "s": ["a"]})
        draft["z"] = [None]
    assert plane["t"].to_pylist() == [{"x": 1, "s": "a", "z": None}]
    with edit(plane, "t") as draft:
        for name in ("x", "s", "z"):
            del draft[name]
        draft["new"] = [1, 2, 3]
    assert plane["t"].to_pylist() == [{"new": 1}, {"new": 2}, {"new": 3}]


# What is refused


def test_a_column_of_the_wrong_length_is_named(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        with pytest.raises(ValueError, match="'fee' has 3 values and the table 20,000 rows"):
            draft["fee"] = [1, 2, 3]
        with pytest.raises(shmplane.UnsupportedValue, match="'fee'"):
            draft["fee"] = iter([5])
        with pytest.raises(shmplane.UnsupportedValue, match="'fee'"):
            draft["fee"] = [object()] * ROWS
    assert draft.block.version == 1


def test_names_that_are_not_there_or_there_twice(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        for act in (
            lambda: draft.__delitem__("nope"),
            lambda: draft["nope"],
            lambda: draft.rename({"nope": "x"}),
        ):
            with pytest.raises(KeyError, match="nope"):
                act()
        with pytest.raises(ValueError, match="two columns 'name'"):
            draft.rename({"id": "name"})
        draft.rename({"id": "id"})
    assert draft.block.version == 1


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ({"id": [1], "name": ["x"], "price": [2.0]}, "kind"),
        ({"id": [1], "name": ["x"], "price": [2.0], "kind": ["a"], "more": [1]}, "more"),
        ({"id": pa.array([1], "i4"), "name": ["x"], "price": [2.0], "kind": ["a"]}, "id"),
        ({"id": ["one"], "name": ["x"], "price": [2.0], "kind": ["a"]}, "id"),
        ({"id": [1], "name": [b"\xff"], "price": [2.0], "kind": ["a"]}, "name"),
    ],
)
def test_rows_of_another_schema_are_refused_naming_the_field(
    plane: shmplane.Plane, table: pa.Table, rows: Any, field: str
) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        with pytest.raises(ValueError, match=f"'{field}'"):
            draft.append(rows)
    with pytest.raises(ValueError, match=f"'{field}'"):
        plane.append("t", rows)
    assert plane.attach("t").version == 1
    assert not faults(plane)


def test_drafts_of_tables_end_like_others(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    draft, other = edit(plane, "t"), edit(plane, "t")
    draft["x"] = np.zeros(ROWS)
    other["x"] = np.ones(ROWS)
    draft.commit()
    with pytest.raises(shmplane.Conflict):
        other.commit()
    other.discard()
    for use in (
        draft.commit,
        lambda: draft.table,
        lambda: draft["x"],
        lambda: draft.append(table),
        lambda: draft.rename({}),
        lambda: draft.__setitem__("x", []),
        lambda: draft.column_names,
    ):
        with pytest.raises(shmplane.ClosedError):
            use()
    assert not faults(plane)


def test_a_full_plane_in_the_middle_of_a_commit(table: pa.Table) -> None:
    with shmplane.Plane.temporary(capacity="8MiB") as plane:
        plane["t"] = table
        plane.resize(settle(plane).used_nbytes + 120_000)
        before = settle(plane)
        draft = edit(plane, "t")
        draft["a"] = np.zeros(ROWS, "f4")
        draft.append(draft.table.slice(0, 3000))
        with pytest.raises(shmplane.PlaneFull):
            draft.commit()
        draft.discard()
        del draft
        after = settle(plane)
        assert (after.blocks, after.leases) == (before.blocks, before.leases)
        assert plane.attach("t").version == 1
        assert not faults(plane)


# Kinds


def test_a_pandas_frame_stays_one(plane: shmplane.Plane) -> None:
    frame = pd.DataFrame(
        {
            "n": np.arange(ROWS),
            "s": [f"text {number % 13}" for number in range(ROWS)],
            "when": pd.date_range("2024-01-01", periods=ROWS, freq="min", tz="Europe/Berlin"),
            "c": pd.Categorical(["u", "v"] * (ROWS // 2)),
        },
        index=pd.date_range("2020-01-01", periods=ROWS, freq="h", name="hour"),
    )
    plane["f"] = frame
    with edit(plane, "f") as draft:
        draft["x"] = pd.array(np.arange(ROWS), dtype="Int32")
        draft["n"] = np.arange(ROWS) * 0.5
        del draft["when"]
        draft.rename({"s": "text"})
    expected = frame.drop(columns="when").rename(columns={"s": "text"}).assign(n=np.arange(ROWS) * 0.5)
    expected["x"] = pd.Series(np.arange(ROWS), dtype="Int32").to_numpy()
    expected["x"] = expected["x"].astype("Int32")
    assert_frame_equal(plane["f"], expected)


def test_a_pandas_series_goes_by_label_as_in_pandas(plane: shmplane.Plane) -> None:
    frames = {
        "labels": pd.DataFrame({"a": [1, 2, 3]}, index=["x", "y", "z"]),
        "range": pd.DataFrame({"a": [1, 2, 3]}),
        "levels": pd.DataFrame({"a": [1, 2, 3]}, index=pd.MultiIndex.from_tuples([(1, "x"), (1, "y"), (2, "x")])),
        "twice": pd.DataFrame({"a": [1, 2, 3]}, index=["x", "y", "x"]),
    }
    for name, frame in frames.items():
        plane[name] = frame
        labels = frame.index.unique()[::-1]
        column = pd.Series(range(10, 10 + len(labels)), index=labels)
        with edit(plane, name) as draft:
            draft["b"] = column
        assert_frame_equal(plane[name], frame.assign(b=column))
        with edit(plane, name) as draft:
            with pytest.raises(ValueError, match=r"'c'.*by label.*no row for \d of .*Reindex"):
                draft["c"] = column.iloc[1:]
            with pytest.raises(ValueError, match=r"'c' has the label .* twice"):
                draft["c"] = pd.concat([column, column])
            draft["d"] = frame["a"].set_axis(frame.index)
        assert_frame_equal(plane[name], frame.assign(b=column, d=frame["a"]))


def test_a_series_goes_by_label_after_rows_were_appended(plane: shmplane.Plane) -> None:
    plane["f"] = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    with edit(plane, "f") as draft:
        draft.append(pd.DataFrame({"a": [3]}, index=["z"]))
        draft["b"] = pd.Series([30, 20, 10, 0], index=["z", "y", "x", "not there"])
    assert_frame_equal(plane["f"], pd.DataFrame({"a": [1, 2, 3], "b": [10, 20, 30]}, index=["x", "y", "z"]))


SCALARS = [1, 2.5, True, "text", b"bytes", None, dt.datetime(2026, 1, 1), dt.date(2026, 1, 1), decimal.Decimal("1.5")]  # noqa: DTZ001


@pytest.mark.parametrize("value", [*SCALARS, np.float32(2), np.array(3, "i2"), pa.scalar(4, pa.int8())], ids=repr)
def test_one_value_stands_in_all_rows(plane: shmplane.Plane, value: Any) -> None:
    plane["arrow"] = pa.table({"a": range(ROWS)})
    plane["polars"] = pl.DataFrame({"a": range(ROWS)})
    plane["pandas"] = pd.DataFrame({"a": range(ROWS)}, index=np.arange(ROWS)[::-1])
    plain = value.as_py() if isinstance(value, pa.Scalar) else value
    for name in ("arrow", "polars", "pandas"):
        with edit(plane, name) as draft:
            draft["one"] = value
        column = plane[name]["one"]
        table: Any = plane.get(name, as_="arrow")
        assert table.column("one").to_pylist() == [plain] * ROWS
        if hasattr(value, "dtype") and name == "pandas":
            assert column.dtype == value.dtype
    assert_frame_equal(plane["pandas"][["a"]], pd.DataFrame({"a": range(ROWS)}, index=np.arange(ROWS)[::-1]))


def test_pandas_labels_of_any_kind(plane: shmplane.Plane) -> None:
    frame = pd.DataFrame(np.arange(60_000.0).reshape(-1, 3))
    plane["f"] = frame
    with edit(plane, "f") as draft:
        assert draft.column_names == [0, 1, 2]
        draft[1] = np.zeros(20_000)
        draft[3] = np.ones(20_000)
    expected = frame.copy()
    expected[1], expected[3] = 0.0, 1.0
    assert_frame_equal(plane["f"], expected, check_column_type=False)


def test_pandas_rows_go_on_with_the_index(plane: shmplane.Plane) -> None:
    frame = pd.DataFrame({"a": np.arange(30_000), "s": ["x"] * 30_000})
    plane["range"] = frame
    with edit(plane, "range") as draft:
        draft.append(frame.iloc[:100])
    assert_frame_equal(plane["range"], pd.concat([frame, frame.iloc[:100]], ignore_index=True))
    dated = frame.set_index(pd.date_range("2020-01-01", periods=30_000, freq="h", name="t"))
    plane["dated"] = dated
    with edit(plane, "dated") as draft:
        draft.append(dated.iloc[5:8])
    assert_frame_equal(plane["dated"], pd.concat([dated, dated.iloc[5:8]]), check_freq=False)
    with edit(plane, "range") as draft:
        with pytest.raises(ValueError, match="reset_index"):
            draft.append(dated)
    with edit(plane, "dated") as draft:
        with pytest.raises(ValueError, match="index"):
            draft.append(frame)
        with pytest.raises(ValueError, match="'a' is float64"):
            draft.append(dated.astype({"a": float}))


def test_polars_frames_and_single_columns_stay_what_they_are(plane: shmplane.Plane) -> None:
    frame = pl.DataFrame({"a": np.arange(ROWS), "s": ["x", "y"] * (ROWS // 2)})
    plane["pf"] = frame
    with edit(plane, "pf") as draft:
        draft["b"] = pl.Series(np.zeros(ROWS, "f4"))
        draft["c"] = ["q"] * ROWS
        draft.append(draft.table.slice(0, 2))
    found = plane["pf"]
    assert isinstance(found, pl.DataFrame)
    expected = frame.with_columns(b=pl.Series(np.zeros(ROWS, "f4")), c=pl.Series(["q"] * ROWS))
    assert found.equals(pl.concat([expected, expected.head(2)]))
    series = pd.Series(np.arange(30_000.0), name="q")
    plane["s"] = series
    with edit(plane, "s") as draft:
        draft.append(series.iloc[:3])
        with pytest.raises(ValueError, match="single column"):
            draft["more"] = np.zeros(30_003)
    assert_series_equal(plane["s"], pd.concat([series, series.iloc[:3]], ignore_index=True))


# What else a composed table is


def test_the_bytes_of_a_composed_table_are_one_stream(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        draft["fee"] = np.ones(ROWS)
    found = pa.ipc.open_stream(draft.block.buffer()).read_all()
    assert found.equals(plane["t"])
    assert draft.block.to_pandas().shape == (ROWS, 5)
    assert draft.block.to_polars().shape == (ROWS, 5)


def test_a_view_of_an_old_version_outlives_everything(plane: shmplane.Plane, table: pa.Table) -> None:
    plane["t"] = table
    with edit(plane, "t") as draft:
        draft["fee"] = np.ones(ROWS)
    del draft
    view = plane["t"]
    expected = view.to_pydict()
    plane["t"] = b"something else"
    for _ in range(3):
        plane["other"] = table
        plane["other"] = b""
    plane.gc()
    assert view.to_pydict() == expected
    del view
    plane.close()


# JSON


def test_a_json_value_is_edited_in_place_or_replaced(plane: shmplane.Plane) -> None:
    plane["j"] = {"limits": [1, 2], "on": True}
    with edit(plane, "j") as draft:
        draft.value["limits"].append(3)
        draft.value["limit"] = 5
    assert plane["j"] == {"limits": [1, 2, 3], "on": True, "limit": 5}
    with edit(plane, "j") as draft:
        draft.value = [1]
    assert plane["j"] == [1]
    with edit(plane, "j") as draft:
        draft.value[0] = 1
    assert draft.block.version == 3
    draft = edit(plane, "j")
    draft.value[0] = {1, 2}
    with pytest.raises(shmplane.UnsupportedValue):
        draft.commit()
    draft.discard()
    with pytest.raises(shmplane.ClosedError):
        draft.value  # noqa: B018
    assert plane["j"] == [1]
