from __future__ import annotations

import tracemalloc
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmplane import codecs
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import DiscardingSink, body_of, open_stored, points_into, round_trip, store

Array = np.ndarray[Any, Any]

SCALAR_TYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.byte_string_dtypes(min_len=1),
    hnp.unicode_string_dtypes(min_len=1),
    st.sampled_from([np.dtype(text) for text in ("g", "G", "V7", "M8[25s]", "m8", ">c16")]),
)
DTYPES = st.one_of(
    SCALAR_TYPES,
    st.sampled_from([np.dtype("V0"), np.dtype("S0"), np.dtype("U0")]),
    hnp.array_dtypes(SCALAR_TYPES, allow_subarrays=True, max_size=4),
)


def bits(array: Array) -> bytes:
    """The bytes of all elements in C order, without the padding of structures, which NumPy does not copy."""
    if array.dtype.names is None:
        return array.tobytes()
    return b"".join(bits(array[name]) for name in array.dtype.names)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Arrays of any dtype and any strides, negative ones too."""
    dtype = draw(DTYPES)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    array = np.zeros(shape, dtype if dtype.subdtype is None else [("f", dtype)])
    if array.nbytes:
        random = np.random.default_rng(draw(st.integers(0, 2**32)))
        array.reshape(-1).view("u1")[:] = random.integers(0, 256, array.nbytes)
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    steps = draw(st.tuples(*(st.sampled_from([1, 1, 2, -1, -2]) for _ in array.shape)))
    view: Array = array[(*(slice(None, None, step) for step in steps), ...)]  # type: ignore[arg-type]
    return view


@settings(max_examples=300, deadline=None)
@given(arrays())
def test_an_array_of_any_dtype_shape_and_strides_comes_back_equal(array: Array) -> None:
    back = round_trip(array)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert bits(back) == bits(array)
    assert not back.flags.writeable
    assert back.flags.c_contiguous or back.flags.f_contiguous


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_comes_back(order: Any) -> None:
    back = round_trip(np.ones((3, 4, 5), order=order))
    assert back.flags.c_contiguous == (order == "C")
    assert back.flags.f_contiguous == (order == "F")


def test_other_strides_become_the_closer_order() -> None:
    assert round_trip(np.ones((4, 6))[::2, ::2]).flags.c_contiguous
    assert round_trip(np.ones((4, 6)).T[::2, ::2]).flags.f_contiguous


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
        np.dtype([("a", "i1"), ("b", [("c", "M8[ns]"), ("d", "S3", (2, 2))])]),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [4, 0], "itemsize": 16}),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 0]}),
        np.dtype([(("a title", "a"), "i4"), ("b", "f4")]),
        np.dtype([("ü", ">i4")]),
        np.dtype([]),
    ],
    ids=str,
)
def test_layout_and_names_of_a_structure_come_back(dtype: np.dtype[Any]) -> None:
    back = round_trip(np.zeros(3, dtype))
    assert back.dtype == dtype
    assert back.dtype.itemsize == dtype.itemsize
    assert back.dtype.isalignedstruct == dtype.isalignedstruct


@pytest.mark.parametrize(
    "scalar",
    [np.float64(1.5), np.int8(-3), np.bool_(1), np.str_("ü"), np.bytes_(b"x"), np.datetime64("2026-01-01")],
    ids=repr,
)
def test_a_numpy_scalar_is_an_array_without_dimensions(scalar: Any) -> None:
    back = round_trip(scalar)
    assert isinstance(back, np.ndarray)
    assert (back.shape, back.dtype) == ((), scalar.dtype)
    assert back[()] == scalar


class Subclass(np.ndarray[Any, Any]):
    pass


def test_subclasses_come_back_as_plain_arrays() -> None:
    record = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    assert type(round_trip(record)) is np.ndarray
    assert type(round_trip(np.ones(2).view(Subclass))) is np.ndarray


def test_arrays_of_all_dimensions_that_numpy_has_come_back() -> None:
    most = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    for ndim in (0, 1, 32, most):
        array = np.full((1,) * ndim, 7)
        back = round_trip(array)
        assert (back.shape, back.sum()) == (array.shape, 7)


def test_masked_arrays_are_refused_since_their_mask_would_be_lost() -> None:
    with pytest.raises(UnsupportedValue, match="mask"):
        codecs.encode(np.ma.masked_array([1, 2], [True, False]))


@pytest.mark.parametrize("dtype", ["O", [("a", "i4"), ("b", [("c", "O")])]], ids=str)
def test_objects_are_refused_however_deep(dtype: Any) -> None:
    with pytest.raises(UnsupportedValue, match="dtype"):
        codecs.encode(np.zeros(2, dtype))


def test_strings_of_variable_width_are_refused() -> None:
    variable = getattr(np.dtypes, "StringDType", None)
    if variable is None:
        pytest.skip("NumPy 2 has them")
    with pytest.raises(UnsupportedValue, match="StringDType"):
        codecs.encode(np.array(["a"], variable()))


def test_a_contiguous_array_is_one_write_of_its_own_memory() -> None:
    class Sink:
        def write(self, offset: int, data: Any) -> None:
            self.address = np.asarray(data).__array_interface__["data"][0]

    for array in (np.ones((3, 4)), np.ones((3, 4), order="F")):
        sink = Sink()
        codecs.encode(array).write_to(sink)
        assert sink.address == array.__array_interface__["data"][0]


@pytest.mark.parametrize("view", [np.s_[::2], np.s_[::-1], np.s_[:, ::2]], ids=str)
def test_a_strided_array_is_never_copied_as_a_whole(view: Any) -> None:
    array = np.ones((4_000, 1_000))[view]
    tracemalloc.start()
    try:
        codecs.encode(array).write_to(DiscardingSink())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20 < array.nbytes


def test_reading_takes_no_memory_for_the_elements() -> None:
    encoded, memory = store(np.ones(8 << 20, "u1"))
    tracemalloc.start()
    try:
        back = codecs.present("array", codecs.CODECS["array"].open(encoded.frame, memory))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert points_into(memory)(back.__array_interface__["data"][0])


def test_views_of_one_root_keep_it_and_cannot_change_each_other() -> None:
    kind, root = open_stored(np.arange(6))
    one, other = codecs.present(kind, root), codecs.present(kind, root)
    assert one.base is root
    one = one.reshape(2, 3)
    assert other.shape == (6,)


def test_an_array_is_described_without_its_body() -> None:
    said = codecs.describe("array", codecs.encode(np.ones((2, 3), "f4")).frame)
    assert (said.dtype, said.shape, said.schema) == (np.dtype("f4"), (2, 3), None)


def test_the_body_is_the_elements() -> None:
    assert body_of(codecs.encode(np.array([1, 2], "<i4"))) == b"\1\0\0\0\2\0\0\0"
