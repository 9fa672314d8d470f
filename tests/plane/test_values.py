"""Every row of the contract's table of kinds, through a real plane and another process."""

from __future__ import annotations

import array
import copy
import ctypes
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import Plane, UnsupportedValue
from tests.support.processes import run_in_child

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

DAYS = pd.date_range("2026-01-01", periods=3, tz="Europe/Paris")
FRAME = pd.DataFrame(
    {
        "text": ["a", None, "ü"],
        "when": DAYS,
        "kind": pd.Categorical(["x", "y", "x"], categories=["y", "x"], ordered=True),
        "count": pd.array([1, None, 3], dtype="Int64"),
        "arrow": pd.array([1.5, None, 2.5], dtype="double[pyarrow]"),
        "number": [1.0, np.nan, 3.0],
    },
    index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["group", None]),
)
POLARS = pl.DataFrame({"s": ["a", None, "c"], "n": [1, 2, 3]}, schema_overrides={"s": pl.Categorical})
TABLE = pa.table({"a": [1, 2], "s": ["x", None]})
RECORDS = np.array([(1, 2.5), (3, 4.5)], [("a", ">i4"), ("b", "f8", (1,))])


class ArrowStream:
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return TABLE.__arrow_c_stream__(requested_schema)


class ArrowArray:
    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return pa.array([1, 2]).__arrow_c_array__(requested_schema)


class DLPack:
    def __dlpack__(self, **options: Any) -> Any:
        return np.arange(3).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class Array:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.arange(3)


# Value, kind, and what comes back. A child starts slowly, so one child reads all of them.
ROWS: dict[str, dict[str, tuple[Any, str, Any]]] = {
    "pandas and polars": {
        "frame": (FRAME, "table", FRAME),
        "no rows": (FRAME.iloc[:0], "table", FRAME.iloc[:0]),
        "no columns": (FRAME[[]], "table", FRAME[[]]),
        "labels of two levels": (frame := pd.DataFrame(np.eye(2), columns=pd.MultiIndex.from_product([["a"], [1, 2]])),
                                 "table", frame),
        "series": (FRAME["when"], "table", FRAME["when"]),
        "series without a name": (pd.Series([1.5, 2.5]), "table", pd.Series([1.5, 2.5])),
        "polars": (POLARS, "table", POLARS),
        "polars series": (POLARS["s"], "table", POLARS["s"]),
    },
    "arrow": {
        "table": (TABLE, "table", TABLE),
        "batch": (TABLE.to_batches()[0], "table", TABLE),
        "array": (pa.array([1, None]), "table", pa.chunked_array([[1, None]])),
        "chunked": (pa.chunked_array([["a"], ["b"]]), "table", pa.chunked_array([["a"], ["b"]])),
        "no chunks": (pa.chunked_array([], pa.int8()), "table", pa.chunked_array([], pa.int8())),
    },
    "numpy": {
        "array": (np.arange(6).reshape(2, 3), "array", np.arange(6).reshape(2, 3)),
        "fortran": (np.asfortranarray(np.ones((2, 3))), "array", np.asfortranarray(np.ones((2, 3)))),
        "records": (RECORDS, "array", RECORDS),
        "times": (np.array(["2026-01-01", "NaT"], "M8[ns]"), "array", np.array(["2026-01-01", "NaT"], "M8[ns]")),
        "complex": (np.array([1j, -0.0]), "array", np.array([1j, -0.0])),
        "bool": (np.array([True, False]), "array", np.array([True, False])),
        "0-d": (np.array(2.5), "array", np.array(2.5)),
        "empty": (np.empty((0, 3), "f4"), "array", np.empty((0, 3), "f4")),
        "text": (np.array(["a", "ü"]), "array", np.array(["a", "ü"])),
        "strided": (np.arange(9)[::3], "array", np.arange(9)[::3].copy()),
        "scalar": (np.float32(1.5), "array", np.array(1.5, "f4")),
        "text scalar": (np.str_("x"), "array", np.array("x")),
        "record scalar": (RECORDS[0], "array", np.array(RECORDS[0])),
    },
    "json": {
        "dict": ({"a": [1, 2.5, None, True, "ü"]}, "json", {"a": [1, 2.5, None, True, "ü"]}),
        "tuple": ((1, (2, 3)), "json", [1, [2, 3]]),
        "text": ("text", "json", "text"),
        "bool": (True, "json", True),
        "large": (2**200, "json", 2**200),
        "none": (None, "json", None),
    },
    "protocols": {
        "stream": (ArrowStream(), "table", TABLE),
        "arrow array": (ArrowArray(), "table", pa.table({"value": [1, 2]})),
        "dlpack": (DLPack(), "array", np.arange(3)),
        "__array__": (Array(), "array", np.arange(3)),
        "pandas index": (pd.Index([1, 2]), "array", np.array([1, 2])),
    },
    "bytes": {
        "bytes": (b"abc", "bytes", b"abc"),
        "empty": (b"", "bytes", b""),
        "bytearray": (bytearray(b"abc"), "bytes", b"abc"),
        "memoryview": (memoryview(b"abcdef")[::2], "bytes", b"ace"),
        "array.array": (array.array("H", [1, 2]), "bytes", b"\1\0\2\0"),
        "ctypes": ((ctypes.c_uint8 * 2)(1, 2), "bytes", b"\1\2"),
        "arrow buffer": (pa.py_buffer(b"abc"), "bytes", b"abc"),
    },
}  # fmt: skip


def difference(got: Any, wanted: Any) -> str:
    """Empty when both are equal, of one kind, and nothing of ``got`` can be written."""
    if isinstance(wanted, bytes):
        return "" if isinstance(got, memoryview) and got.readonly and got.tobytes() == wanted else f"{got!r}"
    if isinstance(got, (dict, list)):
        got = copy.copy(got)  # what is read-only copies as what was put
    if type(got) is not type(wanted):
        return f"{type(got)} instead of {type(wanted)}"
    if isinstance(wanted, np.ndarray):
        same_order = got.flags.f_contiguous == wanted.flags.f_contiguous
        same = (got.dtype, got.shape) == (wanted.dtype, wanted.shape) and got.tobytes() == wanted.tobytes()
        return "" if same and same_order and not got.flags.writeable else f"{got!r} {got.flags}"
    try:
        if isinstance(wanted, pd.DataFrame):
            pd.testing.assert_frame_equal(got, wanted)
        elif isinstance(wanted, pd.Series):
            pd.testing.assert_series_equal(got, wanted)
        elif isinstance(wanted, (pl.DataFrame, pl.Series)):
            assert got.equals(wanted)
            assert (got.schema if isinstance(got, pl.DataFrame) else got.dtype) == (
                wanted.schema if isinstance(wanted, pl.DataFrame) else wanted.dtype
            )
        else:
            assert got.equals(wanted) if isinstance(wanted, (pa.Table, pa.ChunkedArray)) else got == wanted
    except AssertionError as error:
        return str(error) or f"{got!r}"
    return ""


CELLS = {f"{row}/{name}": cell for row, cells in ROWS.items() for name, cell in cells.items()}


def differences(plane: Plane) -> dict[str, str]:
    return {name: found for name, (_, _, wanted) in CELLS.items() if (found := difference(plane[name], wanted))}


def test_what_one_process_puts_another_gets(plane: Plane) -> None:
    kinds = {name: plane.put(name, value).kind for name, (value, _, _) in CELLS.items()}
    assert kinds == {name: kind for name, (_, kind, _) in CELLS.items()}
    assert differences(plane) == {}
    assert run_in_child(differences, plane) == {}


def test_setting_an_item_is_a_put(plane: Plane) -> None:
    for name, (value, _, _) in CELLS.items():
        plane[name] = value
    assert differences(plane) == {}


# Values of two kinds at once: the earlier row has them.


class FrameWithArrow(pd.DataFrame):  # type: ignore[misc, name-defined]
    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("a frame is a frame")

    __dlpack_device__ = DLPack.__dlpack_device__


class NumpyWithArrow(np.ndarray[Any, Any]):
    __arrow_c_stream__ = ArrowStream.__arrow_c_stream__


class DictWithArrow(dict[str, int]):
    __arrow_c_stream__ = ArrowStream.__arrow_c_stream__
    __array__ = Array.__array__


class FloatWithArray(float):
    __array__ = Array.__array__


class ArrowWithArray(ArrowStream, DLPack, Array):
    pass


class BytesWithArrow(bytes):
    __arrow_c_stream__ = ArrowStream.__arrow_c_stream__


class BytesWithDLPack(bytearray):
    __dlpack__ = DLPack.__dlpack__
    __dlpack_device__ = DLPack.__dlpack_device__


class BytesWithArray(bytes):
    __array__ = Array.__array__


class BytearrayWithArray(bytearray):
    __array__ = Array.__array__


TWO_KINDS: list[tuple[Any, str, Any]] = [
    (FrameWithArrow({"a": [1]}), "table", pd.DataFrame({"a": [1]})),
    (np.arange(2).view(NumpyWithArrow), "array", np.arange(2)),
    (np.float64(1.5), "array", np.array(1.5)),  # it is also a float
    (np.str_("x"), "array", np.array("x")),  # it is also a str
    (DictWithArrow(a=1), "json", {"a": 1}),
    (FloatWithArray(1.5), "json", 1.5),
    (ArrowWithArray(), "table", TABLE),
    (BytesWithArrow(b"xy"), "table", TABLE),
    (BytesWithDLPack(b"xy"), "array", np.arange(3)),
    (BytesWithArray(b"xy"), "array", np.arange(3)),
    (BytearrayWithArray(b"xy"), "array", np.arange(3)),
]


@pytest.mark.filterwarnings("ignore:a FrameWithArrow comes back:UserWarning")
def test_a_value_of_two_kinds_is_stored_as_the_first(plane: Plane, subtests: pytest.Subtests) -> None:
    for value, kind, wanted in TWO_KINDS:
        with subtests.test(type(value).__name__):
            assert plane.put("x", value).kind == kind
            assert difference(plane["x"], wanted) == ""


def test_a_block_that_is_put_keeps_its_kind(plane: Plane, subtests: pytest.Subtests) -> None:
    for value in (np.arange(3), {"a": 1}, b"abc", TABLE, FRAME):
        with subtests.test(type(value).__name__):
            first = plane.put("x", value)
            second = plane.put("y", first)
            plane["z"] = first
            assert second.kind == first.kind
            assert difference(plane["y"], value) == difference(plane["z"], value) == ""


def test_a_duckdb_relation_is_put_as_a_table(plane: Plane) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        plane["x"] = connection.sql("select 1 as a, 'x' as b")
    assert plane["x"].to_pylist() == [{"a": 1, "b": "x"}]


def test_duckdb_polars_and_pandas_read_a_block(plane: Plane) -> None:
    duckdb = pytest.importorskip("duckdb")
    block = plane.put("x", TABLE)
    trades = block.table()
    with duckdb.connect() as connection:
        assert connection.sql("select sum(a) from trades").fetchall() == [(3,)]
    del trades
    assert pl.DataFrame(block).rows() == [(1, "x"), (2, None)]
    read = getattr(pd.DataFrame, "from_arrow", None) or (lambda block: pa.table(block).to_pandas())  # pandas 3 has it
    assert read(block)["a"].tolist() == [1, 2]


def test_a_tensor_is_put_as_an_array(plane: Plane) -> None:
    torch = pytest.importorskip("torch")
    plane["x"] = torch.arange(3)
    assert plane["x"].tolist() == [0, 1, 2]


# Conversions


CONVERSIONS: list[tuple[Any, Any, Any]] = [
    (np.arange(2), "array", np.arange(2)),
    (np.arange(2), "arrow", pa.array([0, 1])),
    (np.arange(2), "pandas", pd.Series([0, 1])),
    (np.arange(2), "polars", pl.Series([0, 1])),
    (np.arange(2, dtype="u1"), "bytes", b"\0\1"),
    (np.arange(2), "python", [0, 1]),
    (TABLE, "arrow", TABLE),
    (pa.table({"a": [1, 2]}), "array", np.array([1, 2])),
    (TABLE, "polars", pl.DataFrame({"a": [1, 2], "s": ["x", None]})),
    (TABLE, "python", TABLE.to_pylist()),
    (FRAME, "pandas", FRAME),
    (POLARS["n"], "array", np.array([1, 2, 3])),
    (b"ab", "array", np.array([97, 98], "u1")),
    (b"ab", "arrow", pa.py_buffer(b"ab")),
    (b"ab", "bytes", b"ab"),
    (b"ab", "python", b"ab"),
    ({"a": 1}, "python", {"a": 1}),
    ({"a": 1}, "bytes", b'{"a":1}'),
]


def test_get_converts(plane: Plane, subtests: pytest.Subtests) -> None:
    for value, as_, wanted in CONVERSIONS:
        with subtests.test(f"{type(value).__name__} as {as_}"):
            plane["x"] = value
            got = plane.get("x", as_=as_)
            if as_ == "python":
                assert got == wanted
            elif as_ == "arrow":
                assert got.equals(wanted)
            else:
                assert difference(got, wanted) == ""


def test_get_gives_the_default_in_any_form(plane: Plane) -> None:
    assert plane.get("missing") is None
    assert plane.get("missing", 3) == 3
    assert plane.get("missing", 3, as_="array") == 3


def test_a_form_that_is_not_there_is_refused_with_those_that_are(plane: Plane) -> None:
    plane["x"] = {"a": 1}
    with pytest.raises(UnsupportedValue, match="Possible: bytes, python"):
        plane.get("x", as_="array")


def test_an_unknown_form_is_a_bad_argument_whether_the_name_is_there_or_not(plane: Plane) -> None:
    plane["x"] = 1
    for name in ("x", "missing"):
        with pytest.raises(ValueError, match="choose one of array"):
            plane.get(name, as_="xarray")  # type: ignore[call-overload]


def test_numpy_is_another_word_for_array(plane: Plane) -> None:
    plane["x"] = np.arange(3)
    plane["t"] = pa.table({"a": [1.5]})
    assert np.array_equal(plane.get("x", 0, as_="numpy"), [0, 1, 2])
    assert np.array_equal(plane.get("t", 0, as_="numpy"), [1.5])


# Pickles


class Anything:
    def __init__(self, values: Any) -> None:
        self.values = values


class RaisesKeyError:
    def __reduce__(self) -> Any:
        return dict.__getitem__, ({}, "no such key")


class LeavesATrace:
    """Unpickling it imports a module that nobody else does."""

    def __reduce__(self) -> Any:
        return __import__, ("this",)


def test_a_pickle_is_written_only_when_asked_for(plane: Plane) -> None:
    with pytest.raises(UnsupportedValue, match='codec="pickle"'):
        plane.put("x", Anything(1))
    assert plane.put("x", Anything(1), codec="pickle").kind == "pickle"


def test_a_pickle_is_not_read_without_trust(plane: Plane) -> None:
    block = plane.put("x", LeavesATrace(), codec="pickle")
    for read in (
        lambda: plane["x"],
        lambda: plane.get("x"),
        lambda: plane.get("x", as_="python"),
        lambda: plane.get("x", as_="array"),
        lambda: plane.pop("x"),
        lambda: dict(plane),
        lambda: list(plane.items()),
        plane.popitem,
        lambda: plane.put("y", block),
        block.value,
        block.array,
        block.table,
        block.to_pandas,
        block.to_polars,
        lambda: np.asarray(block),
        lambda: pa.table(block),
    ):
        with pytest.raises(shmplane.UnsafeCodec, match="trust_pickle=True") as caught:
            read()
        assert caught.value.name == "x"
    assert "this" not in sys.modules
    assert "x" in plane  # what failed took nothing away
    block._repr_mimebundle_()
    plane.clear()
    assert len(plane) == 0
    assert "this" not in sys.modules


def read_trusting(name: str) -> Any:
    with Plane(name, create=False, trust_pickle=True) as trusting:
        value = trusting["x"]
        return type(value).__name__, value.values["array"].tolist(), value.values["array"].flags.writeable


def test_a_pickle_is_read_with_trust_and_its_arrays_are_views(plane: Plane) -> None:
    plane.put("x", Anything({"array": np.arange(5), "set": {1, 2}}), codec="pickle")
    assert run_in_child(read_trusting, plane.name) == ("Anything", [0, 1, 2, 3, 4], False)


def test_an_error_of_what_is_unpickled_is_not_taken_for_a_missing_name(plane: Plane) -> None:
    plane.put("x", RaisesKeyError(), codec="pickle")
    with Plane(plane.name, create=False, trust_pickle=True) as trusting:
        for form in (None, "python"):
            with pytest.raises(KeyError, match="no such key"):
                trusting.get("x", "default", as_=form)


def test_what_cannot_be_pickled_is_refused(plane: Plane) -> None:
    with pytest.raises(UnsupportedValue, match="cannot be pickled"):
        plane.put("x", lambda: 0, codec="pickle")


# Bad input


REFUSED: list[tuple[Any, str]] = [
    (pd.DataFrame({"fine": [1, 2], "mixed": [1, "x"]}), "column 'mixed'"),
    (pd.DataFrame({"fine": [1, 2], "objects": [object(), object()]}), "column 'objects'"),
    (pd.Series([1, "x"], name="mixed"), "column 'mixed'"),
    (pd.DataFrame([[1, 2]], columns=["twice", "twice"]), "more than one column 'twice'"),
    (pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}), "column 'o'"),
    (float("nan"), "no such number"),
    ({"a": [float("inf")]}, "no such number"),
    ({1: "x"}, "keys are str; found 1"),
    ({"a": {("x",): 1}}, "keys are str"),
    ([np.ones(2), {3}], r"value\[1\]: set cannot"),
    ({"a": b"x", "b": [0, object()]}, r'value\["b"\]\[1\]: object cannot'),
    ("\ud800", "lone surrogate"),
    (np.array([1, None]), "dtype object"),
    (np.ma.array([1], mask=[True]), "masked"),
    (object(), "NumPy arrays"),
    ({1, 2}, "JSON values"),
    (1j, "JSON values"),
    (range(3), "JSON values"),
]


def test_what_cannot_be_stored_is_refused_and_changes_nothing(plane: Plane, subtests: pytest.Subtests) -> None:
    plane["x"] = "before"
    for value, says in REFUSED:
        with subtests.test(says):
            with pytest.raises(UnsupportedValue, match=says) as caught:
                plane["x"] = value
            assert isinstance(caught.value, TypeError)
    assert plane["x"] == "before"
    assert plane.attach("x").version == 1
    assert plane.stats().blocks == 1


def test_an_arrow_table_may_have_a_name_twice(plane: Plane) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    block = plane.put("x", twice)
    assert plane["x"].equals(twice)
    with pytest.raises(ValueError, match="more than one column 'a'"):
        block.table(["a"])


def test_a_device_that_numpy_cannot_read_is_refused_with_its_reason(plane: Plane) -> None:
    class OnAnotherDevice:
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it lies elsewhere")

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    with pytest.raises(UnsupportedValue, match=r"OnAnotherDevice.*"):
        plane["x"] = OnAnotherDevice()


def test_a_mapped_file_is_put_as_bytes(plane: Plane) -> None:
    with mmap.mmap(-1, 4096) as mapped:
        plane["x"] = mapped
    assert plane["x"] == bytes(4096)


@pytest.mark.parametrize("option", ["max_blocks", "max_processes"])
@pytest.mark.parametrize("value", ["8", 8.0, None, True])
def test_a_size_of_the_tables_is_an_int(plane_root: Path, option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{option} is an int, not {type(value).__name__}"):
        Plane("sized", **{option: value})
    assert not any(plane_root.iterdir())


def test_an_unknown_codec_is_a_bad_argument(plane: Plane) -> None:
    for codec in ("zip", "", "Array"):
        with pytest.raises(ValueError, match="array, table, bytes, json, pickle, tree"):
            plane.put("x", 1, codec=codec)


def test_bad_options_are_bad_arguments(plane: Plane, subtests: pytest.Subtests) -> None:
    bad: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"linger": -1}, ValueError),
        ({"linger": float("nan")}, ValueError),
        ({"linger": float("inf")}, ValueError),
        ({"linger": "1"}, TypeError),
        ({"expected_version": -1}, ValueError),
        ({"expected_version": "1"}, TypeError),
        ({"expected_version": 1.0}, TypeError),
    ]
    for options, kind in bad:
        with subtests.test(str(options)), pytest.raises(kind):
            plane.put("x", 1, **options)
    assert len(plane) == 0


def test_a_very_long_linger_is_no_error(plane: Plane) -> None:
    assert plane.put(None, 1, linger=1e300).value() == 1


def test_an_anonymous_block_has_no_version_to_expect(plane: Plane) -> None:
    with pytest.raises(ValueError, match="anonymous"):
        plane.put(None, 1, expected_version=0)


def test_an_index_of_several_levels_alone_is_refused_with_what_to_put(plane: shmplane.Plane) -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    with pytest.raises(UnsupportedValue, match=r"index\.to_frame"):
        plane["x"] = index
    plane["x"] = index.to_frame(index=False)
    assert list(plane["x"].itertuples(index=False, name=None)) == [("a", 1), ("b", 2)]
