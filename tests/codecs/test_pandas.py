from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import codecs
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import open_stored, points_into, round_trip, store

pd: Any = pytest.importorskip("pandas")


def objects(*values: Any) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return pd.Series(array, dtype=object)


COLUMNS: dict[str, Any] = {
    "int": np.arange(4),
    "uint8": np.arange(4, dtype="u1"),
    "float with nan": [1.0, np.nan, 3.0, -0.0],
    "half float": np.array([1, np.nan, 2, 3], "f2"),
    "complex": np.array([1, 2j, np.nan, 4], "c16"),
    "big-endian": np.arange(4, dtype=">f8"),
    "bool": [True, False, True, True],
    "str": ["a", None, "", "ü"],
    "datetime": pd.to_datetime(["2020", None, "2021", "2022"]),
    "datetime seconds": pd.date_range("2020", periods=4, unit="s"),
    "time zone": pd.to_datetime(["2020", None, "2021", "2022"]).tz_localize("Europe/Berlin"),
    "zoneinfo": pd.date_range("2020", periods=4, tz=zoneinfo.ZoneInfo("Europe/Berlin")),
    "fixed offset": pd.date_range("2020", periods=4, tz=dt.timezone(dt.timedelta(hours=3))),
    "timedelta": pd.to_timedelta([1, None, 3, 4], unit="s"),
    "period": pd.PeriodIndex(["2020-01", None, "2020-03", "2020-04"], freq="M"),
    "interval": pd.arrays.IntervalArray.from_tuples([(0, 1), np.nan, (2, 3), (3, 4)], closed="left"),
    "interval of times": pd.interval_range(pd.Timestamp("2020"), periods=4),
    "Int64": pd.array([1, None, 3, 4], dtype="Int64"),
    "UInt8": pd.array([1, None, 3, 4], dtype="UInt8"),
    "Float32": pd.array([1, None, 3, 4], dtype="Float32"),
    "boolean": pd.array([True, None, False, True], dtype="boolean"),
    "string": pd.array(["a", None, "c", "d"], dtype="string"),
    "string of Python": pd.array(["a", None, "c", "d"], dtype="string[python]"),
    "category": pd.Categorical(["a", "b", None, "a"], categories=["b", "z", "a"]),
    "ordered category": pd.Categorical([3, 1, 3, 2], ordered=True),
    "category of times": pd.Categorical(pd.date_range("2020", periods=4)),
    "category of intervals": pd.cut([1, 2, 3, 4], 2),
    "category of nothing": pd.Categorical([None] * 4),
    "arrow int": pd.array([1, None, 3, 4], dtype="int64[pyarrow]"),
    "arrow list": pd.Series([[1], None, [], [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "arrow time": pd.Series([1, 2, None, 3], dtype=pd.ArrowDtype(pa.timestamp("us", "UTC"))),
    "arrow string": pd.Series(["a", None, "b", "c"], dtype=pd.ArrowDtype(pa.string())),
    "arrow dictionary": pd.Series(list("abca"), dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    "objects: text": objects("a", None, "c", "d"),
    "objects: text and nan": objects("a", np.nan, "c", "d"),
    "objects: int": objects(1, None, 3, 4),
    "objects: bool": objects(True, True, False, True),
    "objects: bytes": objects(b"a", b"", None, b"b"),
    "objects: decimal": objects(decimal.Decimal("1.5"), decimal.Decimal("1.25"), None, decimal.Decimal(1)),
    "objects: date": objects(*[dt.date(2020, 1, 1)] * 4),
    "objects: time": objects(*[dt.time(1, 2, 3, 4)] * 4),
    "objects: datetime": objects(*[dt.datetime(2020, 1, 1)] * 4),  # noqa: DTZ001 - pandas has naive times
    "objects: list": objects([1], None, [], [2, 3]),
    "objects: dict": objects({"a": 1}, {"a": 2}, {"a": 1}, {"a": 3}),
    "objects: None": objects(None, None, None, None),
    "objects: nan": objects(np.nan, np.nan, np.nan, np.nan),
}

INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(5, 13, 2, name="r"),
    "names": pd.Index(list("wxyz"), name="ix"),
    "no name": pd.Index([9, 8, 7, 6]),
    "same name as a column": pd.Index([9, 8, 7, 6], name="a"),
    "int name": pd.Index([1, 2, 3, 4], name=7),
    "tuple name": pd.Index([1, 2, 3, 4], name=("a", 1.5, None)),
    "float with nan": pd.Index([1.5, 2, np.nan, 4]),
    "frequency": pd.date_range("2020", periods=4, freq="D"),
    "business days": pd.bdate_range("2020", periods=4, tz="UTC", name="t"),
    "timedelta": pd.timedelta_range("1h", periods=4, freq="h"),
    "category": pd.CategoricalIndex(list("abca")),
    "period": pd.period_range("2020", periods=4, freq="M"),
    "interval": pd.interval_range(0, 4),
    "nullable": pd.Index(pd.array([1, None, 3, 4], dtype="Int64")),
    "objects": pd.Index(objects("a", None, "c", "d"), dtype=object),
    "duplicates": pd.Index([1, 1, 1, 1]),
    "levels": pd.MultiIndex.from_product([[1, 2], ["x", "y"]], names=["p", None]),
    "levels with missing": pd.MultiIndex.from_tuples([(1, "x"), (1, None), (2, "x"), (np.nan, "y")]),
    "categorical level": pd.MultiIndex.from_arrays(
        [pd.Categorical(["a", None, "a", "c"], ["z", "c", "a"]), [1, 1, 2, 2]]
    ),
    "ordered categorical level": pd.MultiIndex.from_product([pd.Categorical([2.5, 1.5], ordered=True), ["x", "y"]]),
    "categorical level of times": pd.MultiIndex.from_product([pd.Categorical(pd.date_range("2020", periods=4)), ["x"]]),
    "interval level": pd.MultiIndex.from_product([pd.interval_range(0, 2), ["x", "y"]]),
    "levels of times": pd.MultiIndex.from_product([pd.date_range("2020", periods=2, freq="D"), [1.5, 2.5]]),
}

LABELS: dict[str, Any] = {
    "range": pd.RangeIndex(2),
    "int": pd.Index([5, 7], name="k"),
    "float": pd.Index([1.5, np.nan]),
    "bool": pd.Index([True, False]),
    "times": pd.date_range("2020", periods=2),
    "category": pd.CategoricalIndex(["a", "b"]),
    "mixed": pd.Index([1, "1"], dtype=object),
    "None": pd.Index(["a", None], dtype=object),
    "tuples": pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"]),
    "categorical level": pd.MultiIndex.from_product([pd.Categorical(["b"], ["a", "b"]), [1, 2]], names=["x", "y"]),
    "surrogate": pd.Index(["\ud800", "b"], dtype=object),
}


def assert_equal(back: Any, frame: Any) -> None:
    assert type(back) is type(frame)
    compare = pd.testing.assert_frame_equal if isinstance(frame, pd.DataFrame) else pd.testing.assert_series_equal
    compare(back, frame, check_freq=True)
    assert back.attrs == frame.attrs


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS.keys())
def test_a_column_of_every_dtype_comes_back_equal(column: Any) -> None:
    frame = pd.DataFrame({"a": column, "b": range(4)})
    assert_equal(round_trip(frame), frame)
    assert_equal(round_trip(frame["a"]), frame["a"])
    assert_equal(round_trip(frame.iloc[1:3]), frame.iloc[1:3])
    assert_equal(round_trip(frame.iloc[:0]), frame.iloc[:0])
    assert_equal(round_trip(frame.iloc[::-2]), frame.iloc[::-2])


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_an_index_of_every_kind_comes_back_equal(index: Any) -> None:
    frame = pd.DataFrame({"a": range(4)}, index=index)
    back = round_trip(frame)
    assert_equal(back, frame)
    assert type(back.index) is type(frame.index)
    assert_equal(round_trip(frame["a"]), frame["a"])
    assert_equal(round_trip(frame[[]]), frame[[]])
    assert_equal(round_trip(frame.iloc[:0]), frame.iloc[:0])


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_column_labels_of_every_kind_come_back_equal(labels: Any) -> None:
    frame = pd.DataFrame(np.arange(8).reshape(4, 2), columns=labels)
    assert_equal(round_trip(frame), frame)


@pytest.mark.parametrize("name", [None, "n", 3, ("a", 1), float("inf")])
def test_the_name_of_a_series_comes_back(name: Any) -> None:
    series = pd.Series([1, 2], name=name)
    assert_equal(round_trip(series), series)


def test_empty_frames_come_back() -> None:
    assert_equal(round_trip(pd.DataFrame()), pd.DataFrame())
    assert_equal(round_trip(pd.DataFrame(index=range(4))), pd.DataFrame(index=range(4)))


def test_attrs_come_back_when_json_can_hold_them() -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"unit": ["m", None]}
    kind, root = open_stored(frame)
    codecs.present(kind, root).attrs["unit"].append("changed")
    assert_equal(codecs.present(kind, root), frame)


@pytest.mark.parametrize("attrs", [{"unit": {1, 2}}, {"unit": (1, 2)}, {1: "a"}, {"a": float("nan")}], ids=repr)
def test_attrs_that_json_cannot_hold_are_refused_and_not_dropped(attrs: dict[Any, Any]) -> None:
    for value in (pd.DataFrame({"a": [1]}), pd.Series([1])):
        value.attrs = attrs
        with pytest.raises(UnsupportedValue, match=r"attrs .* not all JSON.*attrs = \{\}"):
            codecs.encode(value)


def test_a_subclass_comes_back_as_what_it_extends_and_put_says_so() -> None:
    class Special(pd.DataFrame):  # type: ignore[misc]
        pass

    with pytest.warns(UserWarning, match="Special comes back from a plane as a plain DataFrame") as warned:
        back = round_trip(Special({"a": [1]}))
    assert warned[0].filename.endswith("harness.py"), "it is the caller of the library that is told"
    assert_equal(back, pd.DataFrame({"a": [1]}))


def test_the_flag_against_duplicate_labels_comes_back() -> None:
    for value in (pd.DataFrame({"a": [1]}), pd.Series([1])):
        assert round_trip(value).flags.allows_duplicate_labels
        assert not round_trip(value.set_flags(allows_duplicate_labels=False)).flags.allows_duplicate_labels


ARRAYS = {
    "large": pd.array([2**62 + 1, None], dtype="Int64"),
    **{name: column for name, column in COLUMNS.items() if not isinstance(pd.Series(column).dtype, np.dtype)},
}


@pytest.mark.parametrize("array", [pd.Series(each).array for each in ARRAYS.values()], ids=ARRAYS.keys())
def test_a_bare_array_of_pandas_keeps_its_dtype(array: Any) -> None:
    back = round_trip(array)
    assert type(back) is type(array)
    assert back.dtype == array.dtype
    pd.testing.assert_extension_array_equal(back, array)
    index = pd.Index(array)
    assert round_trip(index).equals(index.array)


@pytest.mark.parametrize(
    "array",
    [pd.array(np.arange(3), dtype=np.dtype("i8")), pd.Index([1, 2]), pd.date_range("2020", periods=2)],
    ids=repr,
)
def test_an_array_of_pandas_with_a_dtype_of_numpy_is_an_array(array: Any) -> None:
    back = round_trip(array)
    assert type(back) is np.ndarray
    assert back.dtype == array.to_numpy().dtype
    assert back.tolist() == array.to_numpy().tolist()


def test_columns_in_many_pieces_come_back_in_one() -> None:
    frame = pd.concat([pd.DataFrame({"s": ["a", "b"], "x": [1, 2]})] * 3)
    kind, root = open_stored(frame)
    assert {column.num_chunks for column in root.table.columns} == {1}
    assert_equal(codecs.present(kind, root), frame)


@pytest.mark.parametrize(
    "column",
    [
        objects(1, "a", 2.5, None),
        objects(1, 2.5),
        objects({1}, {2}),
        objects({"x": 1}, {"y": 2}),
        objects("a", None, np.nan),
        objects("a", pd.NaT),
        objects(pd.Timestamp("2020")),
        objects((1, 2), (3, 4)),
        objects(object()),
        pd.arrays.SparseArray([0, 0, 1]),
        np.array([1, 2], np.longdouble),
    ],
)
def test_what_would_come_back_changed_is_refused_naming_the_column(column: Any) -> None:
    with pytest.raises(UnsupportedValue, match="column 'bad one'"):
        codecs.encode(pd.DataFrame({"fine": range(len(column)), "bad one": column}))
    with pytest.raises(UnsupportedValue, match="column 'bad one'"):
        codecs.encode(pd.Series(column, name="bad one"))


def test_duplicate_columns_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedValue, match="more than one column 'twice'"):
        codecs.encode(pd.DataFrame([[1, 2]], columns=["twice", "twice"]))


@pytest.fixture
def copy_on_write() -> Iterator[None]:
    """The mode that pandas 3 is always in; pandas 2 gets copies without it."""
    if pd.__version__.startswith("2."):
        with pd.option_context("mode.copy_on_write", True):
            yield
    else:
        yield


@pytest.mark.usefixtures("copy_on_write")
def test_writing_and_reading_copy_no_column_that_the_libraries_share() -> None:
    rows = 200_000
    frame = pd.DataFrame(
        {
            "int": np.arange(rows),
            "float": np.where(np.arange(rows) % 7 == 0, np.nan, 1.5),
            "time": pd.date_range("2020", periods=rows, freq="s"),
            "zone": pd.date_range("2020", periods=rows, freq="s", tz="UTC"),
            "code": pd.Categorical(np.arange(rows) % 3),
        }
    )
    before = pa.total_allocated_bytes()
    encoded, memory = store(frame)
    back = codecs.present("table", codecs.CODECS["table"].open(encoded.frame, memory))
    assert pa.total_allocated_bytes() - before < 100_000
    inside = points_into(memory)
    for name in ("int", "float", "time"):
        assert inside(back[name].to_numpy().__array_interface__["data"][0]), name
    assert inside(back["zone"].array.asi8.__array_interface__["data"][0])
    assert inside(back["code"].array.codes.__array_interface__["data"][0])
    assert_equal(back, frame)


@pytest.mark.usefixtures("copy_on_write")
def test_a_frame_cannot_be_written_through() -> None:
    frame = pd.DataFrame({"a": np.arange(4.0), "b": [1, 2, 3, 4]})
    kind, root = open_stored(frame)
    back = codecs.present(kind, root)
    with pytest.raises(ValueError, match="read-only"):
        back["a"].to_numpy()[0] = 9
    with pytest.raises(ValueError, match="WRITEABLE"):
        back["a"].to_numpy().flags.writeable = True
    with contextlib.suppress(ValueError):
        back.iloc[0, 0] = 9  # some versions copy on write, others refuse
    back["b"] = 0
    assert_equal(codecs.present(kind, root), frame)
