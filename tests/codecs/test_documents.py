from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmplane import codecs
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import body_of, open_stored, round_trip

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def itself() -> Any:
    value: list[Any] = []
    value += [value, value, {"again": value}]
    return value


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_a_json_value_comes_back_equal(value: Any) -> None:
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


def test_tuples_come_back_as_lists() -> None:
    assert round_trip({"a": (1, (2,))}) == {"a": [1, [2]]}


def test_large_integers_come_back() -> None:
    assert round_trip(10**300) == 10**300


def test_every_reader_gets_a_value_of_its_own() -> None:
    kind, root = open_stored({"a": [1]})
    codecs.present(kind, root)["a"].append(2)
    assert codecs.present(kind, root) == {"a": [1]}


def test_the_body_is_json_text() -> None:
    assert body_of(codecs.encode({"ü": [1, None]})) == '{"ü":[1,null]}'.encode()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "no such number"),
        ([{"a": float("inf")}], "no such number"),
        ({1: 2}, "keys are str"),
        ([{"a": {None: 1}}], "keys are str"),
        ("\ud800", "Unicode"),
        ({"\udfff": 1}, "Unicode"),
        ([{"a": {1, 2}}], "set"),
        ([b"x"], "bytes"),
        (10**5000, "number"),
        (nested(100_000), "deep"),
        (nested(202), "deep"),
        (itself(), "contains itself"),
    ],
    ids=[
        "nan",
        "inf",
        "int key",
        "None key",
        "surrogate",
        "surrogate key",
        "set",
        "bytes",
        "huge",
        "bomb",
        "deep",
        "cycle",
    ],
)
def test_what_json_cannot_hold_is_refused(value: Any, says: str) -> None:
    with pytest.raises(UnsupportedValue, match=says):
        codecs.encode(value)


def test_what_is_just_shallow_enough_comes_back() -> None:
    assert round_trip(nested(200)) == nested(200)
