from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shmplane import codecs
from shmplane.errors import PlaneCorrupt, UnsupportedValue
from tests.codecs.harness import DiscardingSink, LeasedMemory, body_of, points_into, round_trip, store


def run_ends() -> Any:
    return pc.run_end_encode(pa.array(["a", "a", None, None, None]))


def dense_union() -> Any:
    types, offsets = pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32())
    return pa.UnionArray.from_dense(types, offsets, [pa.array([1, 2]), pa.array(["x"])])


ARRAYS: dict[str, Any] = {
    "int8": pa.array([1, None], pa.int8()),
    "half float": pa.array([1.5, None], pa.float64()).cast(pa.float16()),
    "bool": pa.array([True, None, False]),
    "null": pa.nulls(3),
    "string": pa.array(["x", None, ""]),
    "large string": pa.array(["x", None, ""], pa.large_string()),
    "string view": pa.array(["x", None, "longer than twelve bytes"], pa.string_view()),
    "binary": pa.array([b"x", None]),
    "binary view": pa.array([b"x", b"longer than twelve bytes"], pa.binary_view()),
    "fixed size binary": pa.array([b"abc", None], pa.binary(3)),
    "decimal": pa.array([decimal.Decimal("1.25"), None]),
    "decimal256": pa.array([decimal.Decimal("1.25")], pa.decimal256(50, 2)),
    "date": pa.array([dt.date(2026, 1, 1), None]),
    "time": pa.array([dt.time(1, 2, 3)], pa.time64("us")),
    "timestamp": pa.array([1, None], pa.timestamp("ns", "Europe/Berlin")),
    "duration": pa.array([1, None], pa.duration("ms")),
    "interval": pa.array([pa.MonthDayNano([1, 2, 3]), None]),
    "list": pa.array([[1], None, [], [2, 3]]),
    "large list": pa.array([[1], None], pa.large_list(pa.int8())),
    "fixed size list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
    "list view": pa.array([[1, 2], None, [3]], pa.list_view(pa.int8())),
    "large list view": pa.array([[1, 2], None], pa.large_list_view(pa.int8())),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None]),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
    "dictionary": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "nested dictionary": pa.array([["a"], ["b", "a"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "run end encoded": run_ends(),
    "dense union": dense_union(),
    "sparse union": pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", "y"])]),
}
TYPES = pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())


@TYPES
def test_every_type_comes_back_equal(array: Any) -> None:
    table = pa.table({"a": array, "b": array})
    back = round_trip(table)
    back.validate(full=True)
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back.equals(table)


LEAF_TYPES = st.sampled_from(
    [
        pa.null(),
        pa.bool_(),
        pa.int8(),
        pa.float64(),
        pa.string(),
        pa.string_view(),
        pa.binary(3),
        pa.timestamp("ns", "UTC"),
    ]
)
NESTED_TYPES = st.recursive(
    LEAF_TYPES,
    lambda inner: st.one_of(
        st.builds(pa.list_, inner),
        st.builds(pa.large_list, inner),
        st.builds(pa.list_, inner, st.integers(0, 2)),
        st.builds(lambda kind: pa.struct([("a", kind), ("b", pa.int8())]), inner),
        st.builds(lambda kind: pa.map_(pa.string(), kind), inner),
        st.builds(lambda kind, ordered: pa.dictionary(pa.int8(), kind, ordered), inner, st.booleans()),
        st.builds(lambda kind: pa.run_end_encoded(pa.int32(), kind), inner),
        st.builds(lambda one, other: pa.dense_union([pa.field("a", one), pa.field("b", other)]), inner, inner),
    ),
    max_leaves=5,
)
DICTIONARY_OF_DICTIONARIES = pa.dictionary(pa.int8(), pa.dictionary(pa.int8(), pa.string()))


@settings(max_examples=300, deadline=None)
@given(NESTED_TYPES)
@example(DICTIONARY_OF_DICTIONARIES)
@example(pa.list_(pa.struct([("a", DICTIONARY_OF_DICTIONARIES)])))
def test_types_within_types_come_back_equal_or_are_refused_by_column(kind: Any) -> None:
    try:
        table = pa.table({"fine": [1, 2], "nested": pa.nulls(2, kind)})
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return  # Arrow cannot make nulls of every type
    try:
        encoded, memory = store(table)
    except UnsupportedValue:
        with pytest.raises(UnsupportedValue, match="'nested'"):
            store(table)
        return
    back = codecs.present("table", codecs.CODECS["table"].open(encoded.frame, memory))
    back.validate(full=True)
    assert back.schema.equals(table.schema, check_metadata=True)
    assert str(back.column("nested")) == str(table.column("nested"))  # Arrow cannot compare all of them


def test_a_dictionary_of_dictionaries_is_refused_since_arrow_cannot_read_it() -> None:
    array = pa.DictionaryArray.from_arrays([0, 1], pa.array(["x", "y"]).dictionary_encode())
    with pytest.raises(UnsupportedValue, match=r"column 'odd'.*cast it first"):
        codecs.encode(pa.table({"fine": [1, 2], "odd": array}))


@TYPES
def test_slices_come_back_equal_and_no_larger(array: Any) -> None:
    whole = pa.table({"a": pa.chunked_array([array] * 3)})
    table = whole.slice(1, whole.num_rows - 2)
    back = round_trip(table)
    back.validate(full=True)
    assert back.equals(table)


@TYPES
def test_many_small_chunks_come_back_equal_and_fewer(array: Any) -> None:
    table = pa.table({"a": pa.chunked_array([array] * 100), "b": pa.chunked_array([array] * 100)})
    back = round_trip(table)
    assert back.equals(table)
    # Arrow cannot join unions' and some others' pieces; then they come back as they were.
    assert back.column("a").num_chunks in (1, 100)


@pytest.mark.parametrize("array", [pa.array([1, 2]), pa.chunked_array([[1], [2, None]]), pa.chunked_array([], "i4")])
def test_a_column_comes_back_as_a_chunked_array(array: Any) -> None:
    back = round_trip(array)
    assert isinstance(back, pa.ChunkedArray)
    assert back.equals(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]))


@pytest.mark.parametrize(
    "table",
    [
        pa.table({}),
        pa.table({"a": [1, 2]}).select([]),
        pa.table({"a": pa.array([], "i4"), "d": pa.array([], pa.dictionary("i1", "string"))}),
        pa.table([[1], [2]], names=["twice", "twice"]),
        pa.table({"": [1], "ü": [2]}),
        pa.table({"a": [1]}, metadata={"of": "table"}).cast(
            pa.schema([pa.field("a", "i8", False, {"of": "field"})], {"of": "table"})
        ),
    ],
)
def test_odd_tables_come_back_equal_with_their_metadata(table: Any) -> None:
    back = round_trip(table)
    assert back.equals(table, check_metadata=True)
    assert back.num_rows == table.num_rows


def test_dictionaries_that_differ_between_chunks_are_unified() -> None:
    chunks = [pa.array(words).dictionary_encode() for words in (["a", "b"], ["c", "a"], ["b", None])]
    back = round_trip(pa.table({"d": pa.chunked_array(chunks)}))
    assert back.column("d").to_pylist() == ["a", "b", "c", "a", "b", None]
    assert back.column("d").chunk(0).dictionary.equals(back.column("d").chunk(2).dictionary)


def test_many_row_groups_are_combined_into_few() -> None:
    group = pa.record_batch({f"c{number}": list(range(10)) for number in range(20)})
    table = pa.Table.from_batches([group] * 500)
    back = round_trip(table)
    assert back.column(0).num_chunks <= 17
    assert back.equals(table)


def test_large_chunks_are_left_as_they_are() -> None:
    tiny, large = (pa.record_batch({"a": pa.array(range(rows))}) for rows in (10, 200_000))
    back = round_trip(pa.Table.from_batches([tiny] * 20 + [large] + [tiny] * 20))
    assert [len(chunk) for chunk in back.column(0).chunks] == [200, 200_000, 200]


def test_a_column_in_one_piece_comes_back_in_one_piece() -> None:
    assert round_trip(pa.table({"a": pa.array(range(3_000_000))})).column(0).num_chunks == 1


def test_writing_copies_no_column() -> None:
    table = pa.table({"a": pa.array(range(1_000_000)), "s": pa.array(["text"] * 1_000_000)})
    before = pa.total_allocated_bytes()
    peak = [0]

    class Sink(DiscardingSink):
        def write(self, offset: int, data: Any) -> None:
            peak[0] = max(peak[0], pa.total_allocated_bytes() - before)
            super().write(offset, data)

    encoded = codecs.encode(table)
    sink = Sink()
    encoded.write_to(sink)
    assert sink.nbytes == encoded.nbytes > table.nbytes
    assert peak[0] < 1 << 20


def test_reading_copies_no_column() -> None:
    table = pa.table({"a": pa.array(range(100_000)), "s": pa.array(["text"] * 100_000)})
    encoded, memory = store(table)
    before = pa.total_allocated_bytes()
    back = codecs.present("table", codecs.CODECS["table"].open(encoded.frame, memory))
    assert pa.total_allocated_bytes() - before < 10_000
    buffers = [buffer for column in back.columns for buffer in column.chunk(0).buffers() if buffer]
    assert all(points_into(memory)(buffer.address) and not buffer.is_mutable for buffer in buffers)


def test_columns_can_be_read_alone_and_in_any_order() -> None:
    table = pa.table({"a": [1], "b": pa.array(["x"]).dictionary_encode(), "c": [{"d": 2}], "e": [4.0]})
    encoded, memory = store(table)
    for columns in (["c", "a"], ["b"], ["a", "a"], [], ["e", "c", "b", "a"]):
        assert codecs.open_table(encoded.frame, memory, columns).equals(table.select(columns))
    assert codecs.open_table(encoded.frame, memory).equals(table)


@pytest.mark.parametrize(("columns", "error"), [(["a", "z"], ValueError), (["t"], ValueError), ("a", TypeError)])
def test_columns_that_are_not_there_once_are_bad_arguments(columns: Any, error: type[Exception]) -> None:
    encoded, memory = store(pa.table([[1], [2], [3]], names=["a", "t", "t"]))
    with pytest.raises(error, match=columns[-1]):
        codecs.open_table(encoded.frame, memory, columns)


def test_a_table_is_described_without_its_body() -> None:
    table = pa.table({"a": [1, 2], "b": ["x", "y"]}, metadata={"k": "v"})
    said = codecs.describe("table", codecs.encode(table).frame)
    assert (said.dtype, said.shape, said.origin) == (None, (2, 2), "arrow")
    assert said.schema is not None
    assert said.schema.equals(table.schema, check_metadata=True)


class Foreign(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.foreign")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Any:
        return cls()


@pytest.mark.parametrize(
    "wrap", [lambda array: array, lambda array: pa.ListArray.from_arrays([0, 1, 2], array)], ids=["plain", "nested"]
)
def test_foreign_extension_types_are_refused_by_column_however_deep(wrap: Any) -> None:
    array = wrap(pa.ExtensionArray.from_storage(Foreign(), pa.array([1, 2])))
    with pytest.raises(UnsupportedValue, match=r"'odd'.*tests\.foreign.*storage"):
        codecs.encode(pa.table({"fine": [1, 2], "odd": array}))


def test_arrows_own_extension_types_come_back() -> None:
    storage = pa.array([[1, 2, 3, 4], None], pa.list_(pa.int8(), 4))
    table = pa.table({"id": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int8(), [2, 2]), storage)})
    assert round_trip(table).equals(table)


def test_a_type_too_deep_for_the_format_is_refused() -> None:
    kind = pa.int8()
    for _ in range(100):
        kind = pa.list_(kind)
    with pytest.raises(UnsupportedValue):
        codecs.encode(pa.table({"a": pa.array([], kind)}))


def test_a_sink_that_fails_says_so_itself() -> None:
    class Full:
        def write(self, offset: int, data: Any) -> None:
            raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        codecs.encode(pa.table({"a": list(range(10_000))})).write_to(Full())


class InterruptedSink:
    """Ctrl-C arrives in the first write; like any traceback, it keeps the view that was being written."""

    def write(self, offset: int, data: Any) -> None:
        interrupt = KeyboardInterrupt()
        interrupt.view = memoryview(data)  # type: ignore[attr-defined]
        raise interrupt


def test_ctrl_c_in_a_sink_stays_ctrl_c() -> None:
    for rows in (0, 1, 100_000):
        encoded = codecs.encode(pa.table({"a": pa.array(range(rows), pa.int64()), "b": pa.nulls(rows)}))
        with pytest.raises(KeyboardInterrupt):
            encoded.write_to(InterruptedSink())


def test_a_body_whose_lengths_do_not_fit_its_buffers_is_corrupt() -> None:
    encoded = codecs.encode(pa.table({"a": [1, 2, 3]}))
    body = body_of(encoded)
    caught = 0
    for position in range(0, len(body), 8):
        damaged = body.copy()
        damaged[position : position + 8] = b"\xff\xff\xff\x7f\0\0\0\0"
        memory = LeasedMemory(damaged)
        try:
            codecs.CODECS["table"].open(encoded.frame, memory).to_pylist()
        except PlaneCorrupt:
            caught += 1
    assert caught


def test_values_out_of_bounds_are_found_by_reading_everything() -> None:
    encoded = codecs.encode(pa.table({"s": ["aaaa", "bbbb"]}))
    body = body_of(encoded)
    offsets = bytes(body).index(b"\0\0\0\0\4\0\0\0\x08\0\0\0")
    body[offsets + 4 : offsets + 8] = b"\xff\xff\0\0"
    with pytest.raises(PlaneCorrupt):
        codecs.check_table(codecs.open_table(encoded.frame, LeasedMemory(body)))
