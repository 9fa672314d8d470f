from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest

from shmplane import codecs
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import convert, points_into, round_trip, store

pl: Any = pytest.importorskip("polars")

WHEN = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - Polars has naive times

COLUMNS: dict[str, Any] = {
    "int": pl.Series([1, None, 3]),
    "float": pl.Series([1.0, float("nan"), None]),
    "text": pl.Series(["x", None, "longer than twelve bytes"]),
    "binary": pl.Series([b"x", None]),
    "bool": pl.Series([True, None]),
    "category": pl.Series(["x", "y", None, "x"], dtype=pl.Categorical),
    "enum": pl.Series(["x", None], dtype=pl.Enum(["y", "x"])),
    "date": pl.Series([WHEN.date(), None]),
    "time": pl.Series([dt.time(1, 2, 3), None]),
    "datetime": pl.Series([WHEN, None]).cast(pl.Datetime("ms")),
    "time zone": pl.Series([WHEN, None]).dt.replace_time_zone("Europe/Berlin"),
    "duration": pl.Series([dt.timedelta(1), None]),
    "decimal": pl.Series([decimal.Decimal("1.5"), None]),
    "list": pl.Series([[1], None, [2, 3]]),
    "array": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int32, 2)),
    "struct": pl.Series([{"x": 1, "e": "q"}, None], dtype=pl.Struct({"x": pl.Int8, "e": pl.Enum(["q"])})),
    "null": pl.Series([None, None]),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS.keys())
@pytest.mark.parametrize("name", ["a", ""])
def test_a_column_of_every_type_comes_back_equal(column: Any, name: str) -> None:
    series = column.alias(name)
    frame = pl.DataFrame([series, series.alias("b")])
    for wanted in (frame, frame.slice(1, 1), frame.clear(), pl.concat([frame, frame], rechunk=False)):
        back = round_trip(wanted)
        assert back.schema == wanted.schema
        assert back.equals(wanted, null_equal=True)
    back = round_trip(series)
    assert (back.dtype, back.name) == (series.dtype, name)
    assert back.equals(series, null_equal=True)


def test_a_frame_without_columns_comes_back() -> None:
    assert round_trip(pl.DataFrame()).shape == (0, 0)


@pytest.mark.parametrize("dtype", [getattr(pl, name) for name in ("Object", "Int128") if hasattr(pl, name)])
def test_what_arrow_cannot_hold_is_refused_naming_the_column(dtype: Any) -> None:
    frame = pl.DataFrame({"fine": [1], "odd": pl.Series([1], dtype=dtype)})
    with pytest.raises(UnsupportedValue, match="column 'odd'"):
        codecs.encode(frame)
    with pytest.raises(UnsupportedValue, match="column 'odd'"):
        codecs.encode(frame["odd"])


@pytest.mark.parametrize("dtype", [pl.Array(pl.Int8, 0), pl.List(pl.Array(pl.Int8, 0))], ids=str)
def test_arrays_of_no_elements_are_refused_since_polars_panics_at_them(dtype: Any) -> None:
    with pytest.raises(UnsupportedValue, match="column 'odd'"):
        codecs.encode(pl.DataFrame({"odd": pl.Series([], dtype=dtype)}))
    table = pa.table({"odd": pa.array([[], []], pa.list_(pa.int8(), 0))})
    with pytest.raises(UnsupportedValue, match="no elements"):
        convert(table, "polars")


def test_reading_copies_no_column() -> None:
    frame = pl.DataFrame({"a": range(100_000), "s": ["longer than twelve bytes"] * 100_000})
    encoded, memory = store(frame)
    before = pa.total_allocated_bytes()
    back = codecs.present("table", codecs.CODECS["table"].open(encoded.frame, memory))
    assert pa.total_allocated_bytes() - before < 10_000
    inside = points_into(memory)
    for column in back.to_arrow(compat_level=pl.CompatLevel.newest()).columns:
        assert all(inside(buffer.address) for buffer in column.chunk(0).buffers() if buffer and buffer.size > 64)
