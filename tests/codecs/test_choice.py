from __future__ import annotations

import array
import ctypes
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import codecs
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import round_trip


class _Arrow:
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return pa.table({"a": [1, 2]}).__arrow_c_stream__(requested_schema)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ones(2)


class _Array:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ones(2)


class _Broken:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.ones(2), "array"),
        (np.float64(1), "array"),
        (np.str_("x"), "array"),
        (pa.table({"a": [1]}), "table"),
        (pa.record_batch({"a": [1]}), "table"),
        (pa.array([1]), "table"),
        (_Arrow(), "table"),
        (_Array(), "array"),
        (b"x", "bytes"),
        (bytearray(b"x"), "bytes"),
        (array.array("d", [1.0]), "bytes"),
        ((ctypes.c_int * 3)(), "bytes"),
        (pa.py_buffer(b"x"), "bytes"),
        (None, "json"),
        (True, "json"),
        ("x", "json"),
        ((1, 2), "json"),
        ({"a": 1}, "json"),
    ],
)
def test_the_first_codec_that_takes_a_value_stores_it(value: Any, kind: str) -> None:
    assert codecs.encode(value).kind == kind


def test_a_record_batch_comes_back_as_a_table() -> None:
    batch = pa.record_batch({"a": [1, 2]})
    assert round_trip(batch).equals(pa.Table.from_batches([batch]))


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, 1j, lambda: 0, object, np.array([{}]), np.ma.array([1], mask=[True])]
)
def test_what_no_codec_takes_is_refused_with_the_kinds_there_are(value: Any) -> None:
    with pytest.raises(UnsupportedValue, match=r"NumPy arrays.*JSON.*pickle"):
        codecs.encode(value)


@pytest.mark.parametrize(
    ("value", "codec", "kind"),
    [
        ([1, 2], "array", "array"),
        (array.array("d", [1.0]), "array", "array"),
        (_Arrow(), "array", "array"),
        (np.arange(3).astype("M8[s]"), "bytes", "bytes"),
        (np.ones((3, 3))[::2], "bytes", "bytes"),
        (b"x", "pickle", "pickle"),
        ([1], "json", "json"),
    ],
)
def test_a_named_codec_is_used(value: Any, codec: str, kind: str) -> None:
    assert codecs.encode(value, codec).kind == kind


@pytest.mark.parametrize(
    ("value", "codec"),
    [({}, "array"), ("x", "array"), (np.ones(2), "table"), (1, "bytes"), ("x", "bytes"), (b"", "json")],
)
def test_a_named_codec_refuses_what_it_cannot_take(value: Any, codec: str) -> None:
    with pytest.raises(UnsupportedValue):
        codecs.encode(value, codec)


def test_an_unknown_codec_is_a_bad_argument() -> None:
    with pytest.raises(ValueError, match="array, table, bytes, json, pickle, tree"):
        codecs.encode(1, "zip")


def test_what_foreign_code_raises_stays_as_the_cause() -> None:
    with pytest.raises(UnsupportedValue) as caught:
        codecs.encode(_Broken())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_duckdb_relation_is_a_table() -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        back = round_trip(connection.sql("select 1 as a, 'x' as b"))
    assert back.to_pylist() == [{"a": 1, "b": "x"}]


def test_a_tensor_is_an_array() -> None:
    torch = pytest.importorskip("torch")
    assert round_trip(torch.arange(3)).tolist() == [0, 1, 2]
    with pytest.raises(UnsupportedValue):
        codecs.encode(torch.ones(2, requires_grad=True))


class _PutOff:
    """Its elements are those in memory with another sign, as with a torch tensor that has the negative bit."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return -np.arange(3)

    def __dlpack__(self, **options: Any) -> Any:
        return np.arange(3).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class _DLPackAlone:
    def __dlpack__(self, **options: Any) -> Any:
        return np.arange(3).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def test_elements_are_stored_and_not_what_stands_for_them_in_memory() -> None:
    assert round_trip(_PutOff()).tolist() == [0, -1, -2]
    assert round_trip(_DLPackAlone()).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "lazy", ["z.conj()", "z.imag", "z.conj().imag", "torch._neg_view(z.real)", "z.conj()[::2].imag"]
)
def test_what_a_tensor_has_put_off_is_carried_out(lazy: str) -> None:
    torch = pytest.importorskip("torch")
    z = torch.tensor([1 + 2j, 3 - 4j, 5j])
    tensor = eval(lazy, {"torch": torch, "z": z})
    assert round_trip(tensor).tolist() == tensor.tolist()


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        ("{'a': [1, 'x']}", set()),
        ("b'bytes'", set()),
        ("object()", set()),
        ("__import__('numpy').ones(3)", {"numpy"}),
    ],
)
def test_no_library_is_loaded_to_ask_what_a_value_is(value: str, loaded: set[str]) -> None:
    script = f"""
import sys
from shmplane import codecs
from shmplane.errors import UnsupportedValue
try:
    encoded = codecs.encode({value})
    codecs.describe(encoded.kind, encoded.frame)
except UnsupportedValue:
    pass
print(*({{"numpy", "pyarrow", "pandas", "polars"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == loaded
