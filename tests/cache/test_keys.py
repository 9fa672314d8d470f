"""Keys: taken by their exact types, read back as they were."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane.cache.keys import decode_key, digest_of, encode_key

scalars = st.one_of(
    st.text(), st.binary(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.integers(-3, 3)
)
keys = st.recursive(scalars, lambda items: st.lists(items, max_size=4).map(tuple), max_leaves=8)


def typed(key: Any) -> Any:
    """A key with its types: what two keys have in common that are the same."""
    return (tuple, tuple(map(typed, key))) if isinstance(key, tuple) else (type(key), key)


@given(keys)
def test_an_encoding_is_read_back(key: Any) -> None:
    assert typed(decode_key(encode_key(key))) == typed(key)


@given(keys, keys)
def test_two_keys_have_one_encoding_only_when_they_are_the_same(first: Any, second: Any) -> None:
    assert (encode_key(first) == encode_key(second)) == (typed(first) == typed(second))


def test_equal_values_of_different_types_are_different_keys() -> None:
    assert len({digest_of(encode_key(key)) for key in (1, 1.0, True, "1", b"1", (1,))}) == 6


def test_minus_zero_is_zero() -> None:
    assert encode_key(-0.0) == encode_key(0.0)


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "key",
    [[1], {1}, {"a": 1}, np.float64(1), np.int64(1), Colour.RED, object(), (1, [2])],
    ids=lambda key: type(key).__name__,
)
def test_other_types_are_refused_with_the_cure(key: object) -> None:
    with pytest.raises(TypeError, match="Convert it first"):
        encode_key(key)


@pytest.mark.parametrize("key", [math.nan, (1, math.nan)])
def test_nan_is_no_key(key: object) -> None:
    with pytest.raises(ValueError, match="NaN"):
        encode_key(key)


def test_a_key_that_is_too_deep_or_too_long_is_refused() -> None:
    deep: Any = ()
    for _ in range(100):
        deep = (deep,)
    with pytest.raises(ValueError, match="hash"):
        encode_key(deep)
    with pytest.raises(ValueError, match="hash"):
        encode_key("x" * (2 << 20))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_key_or_refused(data: bytes) -> None:
    try:
        key = decode_key(data)
    except ValueError:
        return
    if not (isinstance(key, float) and math.isnan(key)):
        repr(key)


@given(keys, st.data())
def test_a_damaged_encoding_is_another_key_or_refused(key: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode_key(key))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        decode_key(bytes(encoded))
    except ValueError:
        return
