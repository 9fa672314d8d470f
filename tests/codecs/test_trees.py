from __future__ import annotations

import collections
import copy
import enum
import json
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from shmplane import codecs
from shmplane.codecs.envelope import seal
from shmplane.codecs.tree import parse_tree
from shmplane.errors import PlaneCorrupt, UnsupportedValue
from tests.codecs.harness import LeasedMemory, body_of, convert, points_into, round_trip, store

TABLE = pa.table({"a": [1, 2], "s": ["x", None]})

DTYPES = st.one_of(
    st_numpy.scalar_dtypes().filter(lambda dtype: dtype.itemsize > 0),
    st.sampled_from([np.dtype("S3"), np.dtype("<U2"), np.dtype([("a", "i1"), ("b", ">f8", (2,))])]),
)


LAYOUTS: list[Callable[[Any], Any]] = [
    lambda array: array,
    np.asfortranarray,
    lambda array: array[::2] if array.ndim else array,
    lambda array: array.T,
]


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape = draw(st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    dtype = draw(DTYPES)
    nbytes = dtype.itemsize * int(np.prod(shape))
    array = np.frombuffer(draw(st.binary(min_size=nbytes, max_size=nbytes)), "u1").view(dtype).reshape(shape)
    return draw(st.sampled_from(LAYOUTS))(array)


JSON_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
LEAVES = st.one_of(JSON_LEAVES, arrays(), st.binary(max_size=200), st.just(TABLE), st.just(np.float32(1.5)))
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=30,
).filter(lambda value: isinstance(value, (dict, list, tuple)))


def assert_same(got: Any, wanted: Any) -> None:
    """Equal, with containers of the same kind, and bytes as buffers."""
    if isinstance(wanted, dict):
        assert isinstance(got, dict)
        assert list(got) == list(wanted)
        for key, value in wanted.items():
            assert_same(got[key], value)
    elif isinstance(wanted, (list, tuple)):
        assert isinstance(got, tuple if isinstance(wanted, tuple) else list)
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, (np.ndarray, np.generic)):
        wanted = np.asarray(wanted)
        assert isinstance(got, np.ndarray)
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        assert got.tobytes() == wanted.tobytes()
        assert not got.flags.writeable
    elif isinstance(wanted, bytes):
        assert isinstance(got, memoryview)
        assert got.readonly
        assert bytes(got) == wanted
    elif isinstance(wanted, pa.Table):
        assert got.equals(wanted)
    else:
        assert type(got) is type(wanted)
        assert got == wanted


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_a_tree_comes_back_equal(value: Any) -> None:
    encoded, memory = store(value, "tree")
    assert_same(codecs.present("tree", codecs.CODECS["tree"].open(encoded.frame, memory)), value)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_what_json_can_hold_is_json_and_all_else_is_a_tree(value: Any) -> None:
    try:
        json.dumps(value)
        kind = "json"
    except TypeError:
        kind = "tree"
    assert codecs.encode(value).kind == kind


def test_leaves_are_read_where_they_lie_and_large_ones_are_aligned() -> None:
    value = {"a": np.arange(100.0), "b": [b"x" * 100, np.int8(1)], "c": (np.arange(7, dtype="i2"), TABLE)}
    encoded, memory = store(value)
    inside = points_into(memory)
    back = codecs.present("tree", codecs.CODECS["tree"].open(encoded.frame, memory))
    arrays = [back["a"], np.asarray(back["b"][0]), back["b"][1], back["c"][0], back["c"][1]["a"].chunk(0).to_numpy()]
    for array in arrays:
        start = array.__array_interface__["data"][0]
        assert inside(start)
        assert (start - memory.address) % (64 if array.nbytes >= 64 else 8) == 0


def test_frames_and_columns_come_back_as_what_was_put() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame, series = pd.DataFrame({"a": [1.5, 2.5]}, index=["x", "y"]), pl.Series("s", ["a", None])
    back = round_trip({"pandas": frame, "polars": [series], "column": pa.chunked_array([[1, 2]])})
    pd.testing.assert_frame_equal(back["pandas"], frame)
    assert back["polars"][0].equals(series)
    assert back["column"].equals(pa.chunked_array([[1, 2]]))


def test_each_reader_has_frames_of_its_own() -> None:
    pd = pytest.importorskip("pandas")
    encoded, memory = store([pd.DataFrame({"a": [1.5, 2.5]})])
    root = codecs.CODECS["tree"].open(encoded.frame, memory)
    one, other = codecs.present("tree", root), codecs.present("tree", root)
    one[0].loc[0, "a"] = 7.0
    assert other[0]["a"].tolist() == [1.5, 2.5]


def test_subclasses_of_dict_and_list_come_back_plain_as_in_json() -> None:
    ordered = collections.OrderedDict(b=np.ones(2), a=collections.defaultdict(list, x=[np.zeros(1)]))
    back = round_trip(ordered)
    assert list(back) == ["b", "a"]
    assert_same(back, {"b": np.ones(2), "a": {"x": [np.zeros(1)]}})


def test_scalars_of_numpy_are_leaves_also_those_that_are_floats_or_text() -> None:
    back = round_trip({"f": np.float64(1.5), "s": np.str_("x"), "b": np.bool_(True), "n": 1.5})
    assert {key: getattr(value, "dtype", None) for key, value in back.items()} == {
        "f": np.dtype("f8"),
        "s": np.dtype("<U1"),
        "b": np.dtype("?"),
        "n": None,
    }
    assert codecs.encode([np.float64(1.5)], "json").kind == "json"  # it is a float, when JSON is asked for


def test_members_of_enums_are_their_value_as_in_json() -> None:
    class Colour(enum.IntEnum):
        RED = 1

    assert round_trip([Colour.RED, np.ones(1)])[0] == 1


class Subclass(np.ndarray[Any, Any]):
    pass


def test_subclasses_of_arrays_come_back_as_arrays() -> None:
    back = round_trip([np.ones(2).view(Subclass), np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])])
    assert [type(leaf) for leaf in back] == [np.ndarray, np.ndarray]
    assert back[1]["b"].tolist() == [2.0]


class Writes:
    def write_to(self, path: str) -> None: ...


def test_an_object_that_looks_a_little_like_a_described_leaf_is_refused() -> None:
    with pytest.raises(UnsupportedValue, match=r"value\[0\]: Writes cannot be stored"):
        codecs.encode([Writes(), np.ones(1)])


def test_a_described_leaf_is_taken_as_it_is() -> None:
    array, buffer = codecs.encode(np.arange(20.0)), codecs.encode(b"some bytes")
    assert_same(round_trip({"a": array, "b": (buffer,)}), {"a": np.arange(20.0), "b": (b"some bytes",)})


# Read-only, and copies


CHANGES: dict[str, Callable[[Any], Any]] = {
    "item": lambda value: value.__setitem__("a", 1),
    "del": lambda value: value.__delitem__("a"),
    "update": lambda value: value.update(a=1),
    "|=": lambda value: operator.ior(value, {"a": 1}),
    "append": lambda value: value["l"].append(1),
    "+=": lambda value: operator.iadd(value["l"], [1]),
    "within a tuple": lambda value: value["t"][0].pop(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_refused_with_the_cure(change: Callable[[Any], Any]) -> None:
    before = {"a": np.ones(2), "l": [1], "t": ([1],)}
    value = round_trip(before)
    with pytest.raises(TypeError, match=r"read-only.*plane\.edit\(name\).*deepcopy"):
        change(value)
    assert_same(value, before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_deep_copies_and_pickles_are_plain_and_private(copied: Callable[[Any], Any]) -> None:
    back = copied(round_trip({"a": np.arange(3), "t": ([b"xy"], {"n": 1}), "table": TABLE}))
    assert [type(item) for item in (back, back["t"], back["t"][0], back["t"][1])] == [dict, tuple, list, dict]
    back["a"][0] = 7
    assert back["a"].tolist() == [7, 1, 2]
    assert back["t"][0] == [b"xy"]  # Python can copy no memoryview
    assert back["table"].equals(TABLE)


def test_a_tree_as_python_is_plain_all_the_way_down() -> None:
    value = {"a": np.arange(3), "t": (np.float32(1.5), b"xy"), "table": [TABLE], "n": None, "s": np.zeros(2, "S2")}
    back = convert(value, "python")
    assert back == {"a": [0, 1, 2], "t": (1.5, b"xy"), "table": [TABLE.to_pylist()], "n": None, "s": [b"", b""]}
    assert type(back) is dict
    assert type(back["table"]) is list


@pytest.mark.parametrize("as_", ["array", "numpy", "arrow", "pandas", "polars", "bytes"])
def test_a_form_that_a_tree_has_not_is_refused_with_those_it_has(as_: str) -> None:
    with pytest.raises(UnsupportedValue, match="Possible: python, torch"):
        convert({"a": np.ones(2)}, as_)


# Bad input


class Named(collections.namedtuple("Named", "a b")):  # noqa: PYI024 - as users have them
    __slots__ = ()


def nested(levels: int, leaf: Any) -> Any:
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def itself() -> Any:
    value: dict[str, Any] = {"a": np.ones(2)}
    value["b"] = [value, (value, value)]
    return value


ONES = np.ones(2)
REFUSED: dict[str, tuple[Any, str]] = {
    "object": ({"a": [ONES, 1, 2, object()]}, r'value\["a"\]\[3\]: object cannot be stored'),
    "object in a tuple": ((ONES, ("x", {1})), r"value\[1\]\[1\]: set cannot be stored"),
    "object alone": ({"a": {"b": object()}}, r'value\["a"\]\["b"\]: object'),
    "array of objects": ({"a": np.array([None])}, r'value\["a"\]: an array of dtype object'),
    "masked": ([ONES, np.ma.array([1], mask=[True])], r"value\[1\]: a masked array"),
    "int key": ({"a": ONES, "b": {1: 2}}, r'value\["b"\]: keys are str; found 1 of type int'),
    "bytes key": ({b"a": ONES}, r"value: keys are str; found b'a' of type bytes"),
    "tuple key": ([[{("x",): ONES}]], r"value\[0\]\[0\]: keys are str"),
    "nan": ({"a": ONES, "b": [0.0, float("nan")]}, r'value\["b"\]\[1\]: JSON has no such number'),
    "inf": ({"a": ONES, "b": float("-inf")}, r'value\["b"\]: JSON has no such number'),
    "huge": ({"a": ONES, "b": 10**5000}, r'value\["b"\]: JSON has no such number'),
    "surrogate": ([ONES, "\ud800"], r"value\[1\]: the text is not valid Unicode"),
    "surrogate key": ([{"\udfff": ONES}], r"value\[0\]: the text is not valid Unicode"),
    "named tuple": ({"a": Named(ONES, 1)}, r'value\["a"\]: a Named would come back as a plain tuple.*_asdict'),
    "named tuple alone": (Named(ONES, 1), r"value: a Named would come back"),
    "deep": (nested(202, ONES), "nested more than 200 deep"),
    "10,000 levels": (nested(10_000, ONES), "nested more than 200 deep"),
    "10,000 levels beside an array": ([ONES, nested(10_000, 1)], "nested more than 200 deep"),
    "cycle": (itself(), "contains itself"),
    "frame of mixed objects": ({"t": [pa.table({"a": pa.array([1]).cast(pa.int8())}), {2}]}, r'value\["t"\]\[1\]: set'),
}


@pytest.mark.parametrize(("value", "says"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("codec", [None, "tree"])
def test_what_a_tree_cannot_hold_is_refused_with_its_place(value: Any, says: str, codec: str | None) -> None:
    with pytest.raises(UnsupportedValue, match=says) as caught:
        codecs.encode(value, codec)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), UnsupportedValue)


def test_a_place_is_a_fact_of_the_refusal_and_short() -> None:
    with pytest.raises(UnsupportedValue) as caught:
        codecs.encode({"x" * 1000: nested(100, {"a": {1}, "b": ONES})})
    assert len(caught.value.where) < 300
    assert "..." in caught.value.where


def test_what_is_just_shallow_enough_comes_back() -> None:
    assert_same(round_trip(nested(201, ONES)), nested(201, ONES))


def test_what_is_no_container_is_no_tree() -> None:
    for value in (np.ones(2), b"x", "text", 1, None, {1, 2}):
        with pytest.raises(UnsupportedValue, match="cannot be stored as tree"):
            codecs.encode(value, "tree")


# Hostile indexes, with right checksums


def forge(text: bytes, words: list[int], frames: bytes = b"", *, leaves: int | None = None, body: int = 256) -> Any:
    from zlib import crc32

    text += b" " * (-len(text) % 8)
    index = text + b"".join(word.to_bytes(8, "little") for word in words) + frames
    start = -(-len(index) // 64) * 64
    memory = LeasedMemory(index.ljust(start, b"\0") + bytes(body))
    count = text.count(b"[]") if leaves is None else leaves
    sizes = [count, len(text), 8 * len(words), len(frames), crc32(index)]
    payload = memory.nbytes.to_bytes(8, "little") + b"".join(size.to_bytes(4, "little") for size in sizes)
    return codecs.present("tree", codecs.CODECS["tree"].open(seal(b"N", payload), memory))


def test_the_forger_can_make_a_right_one() -> None:
    assert_same(forge(b'[["<f8"],[1,[],5]]', [1 << 8, 64, 2]), (np.zeros(2), 5))


FORGED: dict[str, tuple[Any, ...]] = {
    "no text": (b"", []),
    "no JSON": (b"[[", []),
    "no pair": (b"[[]]", []),
    "dtypes that are no list": (b"[1,{}]", []),
    "dtypes that are no text": (b"[[1],{}]", []),
    "an object dtype": (b'[["|O"],[0,[]]]', [1 << 8, 0, 2]),
    "a list without a tag": (b'[[],["x"]]', []),
    "a list with a tag that is true": (b"[[],[true,1]]", []),
    "a list with another tag": (b"[[],[2,1]]", []),
    "a leaf alone, without words": (b"[[],[]]", []),
    "no container": (b"[[],5]", []),
    "more marks than leaves": (b'[["<f8"],[0,[],[]]]', [1 << 8, 0, 2], b"", 1),
    "more leaves than marks": (b'[["<f8"],[0,[]]]', [1 << 8, 0, 2, 1 << 8, 0, 2], b"", 2),
    "another count": (b'[["<f8"],[0,[]]]', [1 << 8, 0, 2], b"", 3),
    "words cut short": (b'[["<f8"],[0,[]]]', [1 << 8]),
    "a shape cut short": (b'[["<f8"],[0,[]]]', [2 << 8, 0, 2]),
    "a dtype that is not there": (b'[["<f8"],[0,[]]]', [1 << 8 | 1 << 16, 0, 2]),
    "a kind that is not there": (b'[["<f8"],[0,[]]]', [99, 0, 2, 0]),
    "beyond the memory": (b'[["<f8"],[0,[]]]', [1 << 8, 0, 33]),
    "behind the memory": (b'[["<f8"],[0,[]]]', [1 << 8, 256, 1]),
    "far behind the memory": (b'[["<f8"],[0,[]]]', [1 << 8, 2**63, 1]),
    "an empty leaf behind the memory": (b'[["<f8"],[0,[]]]', [1 << 8, 512, 0]),
    "a length that overflows": (b'[["<f8"],[0,[]]]', [1 << 8, 0, 2**63]),
    "lengths that overflow": (b'[["<f8"],[0,[]]]', [2 << 8, 0, 2**32, 2**32]),
    "lengths that wrap to a small product": (b'[["<f8"],[0,[]]]', [3 << 8, 0, 2**62, 4, 1]),
    "lengths that overflow beside a zero": (b'[["<f8"],[0,[]]]', [3 << 8, 0, 0, 2**62, 2**62]),
    "Fortran lengths that overflow beside a zero": (b'[["<f8"],[0,[]]]', [3 << 8 | 1, 0, 0, 2**62, 2**62]),
    "an odd offset": (b'[["<f8"],[0,[]]]', [1 << 8, 4, 2]),
    "a frame that is not there": (b"[[],[0,[]]]", [4, 0, 2, 10]),
    "a frame of no codec": (b"[[],[0,[]]]", [4, 0, 2, 10], bytes(10)),
    "a frame of another kind": (b"[[],[0,[]]]", [3, 0, 2, 14], seal(b"B", (2).to_bytes(8, "little"))),
    "a frame that claims more than its leaf": (b"[[],[0,[]]]", [4, 0, 2, 14], seal(b"B", (3).to_bytes(8, "little"))),
    "a frame too many": (b"[[],[0]]", [], bytes(10)),
    "65 dimensions": (b'[["<f8"],[0,[]]]', [65 << 8, 0, *[1] * 65]),
    "100,000 levels": (b"[[]," + b"[0," * 100_000 + b"1" + b"]" * 100_000 + b"]", []),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_a_forged_index_is_corrupt(forged: tuple[Any, ...]) -> None:
    text, words, frames, leaves = (*forged, b"", None)[:4] if len(forged) == 2 else (*forged, None)[:4]
    with pytest.raises(PlaneCorrupt):
        forge(text, words, frames, leaves=leaves)


def test_a_damaged_index_is_corrupt() -> None:
    encoded = codecs.encode({"a": np.arange(3), "b": [1, (b"x",)]})
    body = body_of(encoded)
    for position in range(parse_tree(encoded.frame).index_nbytes):
        damaged = bytearray(body)
        damaged[position] ^= 4
        with pytest.raises(PlaneCorrupt):
            codecs.CODECS["tree"].open(encoded.frame, LeasedMemory(damaged))
