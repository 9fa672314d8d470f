from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import codecs
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import convert, open_stored

TABLE = pa.table({"a": [1, 2], "s": ["x", None]})
COLUMN = pa.chunked_array([[1.5, 2.5]])
RECORDS = np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")])


@pytest.mark.parametrize(
    ("value", "as_", "wanted"),
    [
        (np.arange(4).reshape(2, 2), "python", [[0, 1], [2, 3]]),
        (np.array(2.5), "python", 2.5),
        (np.asfortranarray([[1, 2], [3, 4]]).astype("i1"), "bytes", bytes([1, 3, 2, 4])),
        (np.arange(3).astype("M8[s]"), "bytes", np.arange(3).tobytes()),
        (np.empty(0), "bytes", b""),
        (np.array([1.0, np.nan]), "arrow", pa.array([1.0, np.nan])),
        (RECORDS, "arrow", pa.table({"a": pa.array([1, 3], "i4"), "b": [2.5, 4.5]})),
        (TABLE, "arrow", TABLE),
        (TABLE, "python", [{"a": 1, "s": "x"}, {"a": 2, "s": None}]),
        (COLUMN, "arrow", COLUMN),
        (COLUMN, "python", [1.5, 2.5]),
        (b"abc", "bytes", b"abc"),
        (b"abc", "python", b"abc"),
        (b"abc", "arrow", pa.py_buffer(b"abc")),
        ({"a": [1]}, "python", {"a": [1]}),
        ({"a": [1]}, "bytes", b'{"a":[1]}'),
    ],
)
def test_a_value_is_had_as_another_kind(value: Any, as_: str, wanted: Any) -> None:
    got = convert(value, as_)
    # Arrow's arrays hold NaN to differ from itself; their text does not.
    assert str(got) == str(wanted) if isinstance(wanted, pa.Array) else got == wanted


def test_arrays_are_had_from_what_has_one_column() -> None:
    for value in (COLUMN, pa.table({"a": COLUMN})):
        array = convert(value, "array")
        assert array.tolist() == [1.5, 2.5]
        assert not array.flags.writeable
    assert convert(b"abc", "array").tolist() == [97, 98, 99]
    assert convert(np.arange(3), "array").tolist() == [0, 1, 2]


def test_pandas_is_had_from_arrays_and_tables() -> None:
    pd = pytest.importorskip("pandas")
    assert convert(np.arange(3), "pandas").equals(pd.Series(np.arange(3)))
    assert convert(np.ones((2, 3)), "pandas").shape == (2, 3)
    assert list(convert(RECORDS, "pandas").columns) == ["a", "b"]
    assert convert(TABLE, "pandas").to_dict("list")["a"] == [1, 2]
    assert isinstance(convert(COLUMN, "pandas"), pd.Series)
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    assert convert(frame, "pandas").equals(frame)
    assert convert(frame, "arrow").column("a").to_pylist() == [1, 2]
    assert convert(frame["a"], "array").tolist() == [1, 2]


def test_polars_is_had_from_arrays_and_tables() -> None:
    pl = pytest.importorskip("polars")
    assert convert(np.arange(3), "polars").to_list() == [0, 1, 2]
    assert convert(np.array(["a", "b"]), "polars").to_list() == ["a", "b"]
    assert convert(np.ones((2, 3)), "polars").shape == (2, 3)
    assert convert(RECORDS, "polars").columns == ["a", "b"]
    assert convert(TABLE, "polars").rows() == [(1, "x"), (2, None)]
    assert isinstance(convert(COLUMN, "polars"), pl.Series)
    series = pl.Series("a", ["x", "y"], dtype=pl.Categorical)
    assert convert(series, "polars").equals(series)
    assert convert(series, "python") == ["x", "y"]


def test_a_pickle_is_had_as_python_alone() -> None:
    kind, root = open_stored({1, 2}, "pickle")
    assert codecs.as_kind(kind, root, "python") == {1, 2}
    with pytest.raises(UnsupportedValue, match="Possible: python"):
        codecs.as_kind(kind, root, "array")


@pytest.mark.parametrize(
    ("value", "as_", "says"),
    [
        (np.ones((2, 2)), "arrow", "2 dimensions"),
        (np.ones(2, "c16"), "arrow", "complex128"),
        (np.ones((2, 2, 2)), "pandas", "3 dimensions"),
        (np.ones((2, 2, 2)), "polars", "3 dimensions"),
        (TABLE, "array", "2 columns"),
        (TABLE, "bytes", "Possible: array, arrow"),
        (pa.chunked_array([["x"]]), "array", "Python objects"),
        (b"abc", "pandas", "Possible: array, arrow, bytes, python"),
        ([1, 2], "array", "Possible: bytes, python"),
    ],
)
def test_what_has_no_such_form_is_refused_with_what_is_possible(value: Any, as_: str, says: str) -> None:
    if as_ in ("pandas", "polars"):
        pytest.importorskip(as_)
    with pytest.raises(UnsupportedValue, match=says):
        convert(value, as_)


def test_a_library_that_cannot_convert_is_a_refusal_with_its_reason() -> None:
    far = pa.table({"t": pa.array([2**62], pa.timestamp("s"))})
    with pytest.raises(UnsupportedValue, match="cannot be had as_='python'"):
        convert(far, "python")


@pytest.mark.parametrize("value", [np.arange(3.0), RECORDS, COLUMN, TABLE, b"abc"])
def test_nothing_converted_can_be_written(value: Any) -> None:
    if isinstance(value, bytes | np.ndarray):
        assert convert(value, "bytes").readonly
    if isinstance(arrow := convert(value, "arrow"), pa.Array | pa.ChunkedArray):
        chunks = arrow.chunks if isinstance(arrow, pa.ChunkedArray) else [arrow]
        assert not any(buffer.is_mutable for chunk in chunks for buffer in chunk.buffers() if buffer)


def test_an_unknown_kind_is_a_bad_argument() -> None:
    with pytest.raises(ValueError, match="array, numpy, arrow, pandas, polars, bytes, python, torch"):
        convert(b"abc", "xarray")
