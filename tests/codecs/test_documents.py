from __future__ import annotations

import copy
import functools
import json
import operator
import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmplane import codecs
from shmplane.errors import UnsupportedValue
from tests.codecs.harness import body_of, convert, open_stored, round_trip

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
    assert isinstance(back, type(value))
    assert type(copy.deepcopy(back)) is type(value)
    assert json.loads(json.dumps(back)) == value


def test_tuples_come_back_as_lists() -> None:
    assert round_trip({"a": (1, (2,))}) == {"a": [1, [2]]}


def test_large_integers_come_back() -> None:
    assert round_trip(10**300) == 10**300


CHANGES: dict[str, Callable[[Any], Any]] = {
    "item": lambda value: value["dict"].__setitem__("b", 1),
    "del": lambda value: value.__delitem__("dict"),
    "update": lambda value: value.update(a=1),
    "|=": lambda value: operator.ior(value, {"a": 1}),
    "setdefault": lambda value: value.setdefault("b", 1),
    "setdefault of what is there": lambda value: value.setdefault("dict", 1),
    "pop": lambda value: value.pop("dict"),
    "popitem": lambda value: value.popitem(),
    "clear": lambda value: value["dict"].clear(),
    "list item": lambda value: value["list"].__setitem__(0, 1),
    "list slice": lambda value: value["list"].__setitem__(slice(None), []),
    "list del": lambda value: value["list"].__delitem__(0),
    "append": lambda value: value["list"].append(1),
    "extend": lambda value: value["list"].extend([1]),
    "insert": lambda value: value["list"].insert(0, 1),
    "list pop": lambda value: value["list"].pop(),
    "remove": lambda value: value["list"].remove(1),
    "reverse": lambda value: value["list"].reverse(),
    "sort": lambda value: value["list"].sort(),
    "list clear": lambda value: value["list"].clear(),
    "+=": lambda value: operator.iadd(value["list"], [1]),
    "*=": lambda value: operator.imul(value["list"], 2),
    "deep": lambda value: value["list"][1]["deep"].append(1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_refused_with_the_cure(change: Callable[[Any], Any]) -> None:
    before = {"dict": {"a": None}, "list": [1, {"deep": []}]}
    value = round_trip(before)
    with pytest.raises(TypeError, match=r"read-only.*plane\.edit\(name\).*deepcopy"):
        change(value)
    assert value == before


def test_no_method_that_changes_a_plain_one_is_left() -> None:
    changing = {dict: set(dir(dict)) - set(dir(Mapping)), list: set(dir(list)) - set(dir(Sequence))}
    harmless = {"copy", "fromkeys", "__getattribute__", "__or__", "__ror__", "__add__", "__mul__", "__rmul__"}
    for kind, plain in ((type(round_trip({})), dict), (type(round_trip([])), list)):
        kept = {name for name in changing[plain] - harmless if getattr(kind, name) is getattr(plain, name)}
        assert kept <= {"__new__", "__init__", "__sizeof__", "__ge__", "__gt__", "__le__", "__lt__", "__eq__", "__ne__"}


def _pickled(protocol: int, value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "method": lambda value: value.copy(),
    **{f"pickle {protocol}": functools.partial(_pickled, protocol) for protocol in range(6)},
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_copies_and_pickles_are_plain(copied: Callable[[Any], Any]) -> None:
    for before in ({"a": [1, {}]}, [[1], {"a": 2}]):
        back = copied(round_trip(before))
        assert back == before
        assert type(back) is type(before)
        back.clear()


def test_deep_copies_and_pickles_are_plain_all_the_way_down() -> None:
    value = round_trip({"a": [{"b": [1]}]})
    for back in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), convert({"a": [{"b": [1]}]}, "python")):
        back["a"][0]["b"].append(2)
        assert back == {"a": [{"b": [1, 2]}]}
    assert copy.deepcopy(round_trip(nested(200))) == nested(200)


def test_it_is_used_like_a_plain_one() -> None:
    value = round_trip({"a": [3, 1, 2], "b": {"c": 1}})
    assert isinstance(value, dict)
    assert isinstance(value["a"], list)
    assert value | {"d": 1} == {"a": [3, 1, 2], "b": {"c": 1}, "d": 1}
    assert value["a"] + [4] == [3, 1, 2, 4]
    assert sorted(value["a"]) == [1, 2, 3]
    assert repr(value) == "{'a': [3, 1, 2], 'b': {'c': 1}}"
    assert codecs.encode(value).kind == "json"
    match value:
        case {"b": {"c": found}, "a": [first, *_]}:
            assert (found, first) == (1, 3)


@pytest.mark.parametrize("text", ["x", "x" * 100_000])
def test_a_document_is_decoded_once_while_its_value_is_in_use(text: str) -> None:
    kind, root = open_stored({"a": [text]})
    value = codecs.present(kind, root)
    assert codecs.present(kind, root) is value


def test_a_large_document_is_kept_by_its_value_and_not_the_other_way_round() -> None:
    kind, root = open_stored(["x" * 100_000])
    value = codecs.present(kind, root)
    seen, found = weakref.ref(root), weakref.ref(value)
    del root
    assert seen() is not None
    del value
    assert (seen(), found()) == (None, None)


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
        "huge",
        "bomb",
        "deep",
        "cycle",
    ],
)
def test_what_json_cannot_hold_is_refused(value: Any, says: str) -> None:
    with pytest.raises(UnsupportedValue, match=says):
        codecs.encode(value)


def test_a_value_with_other_leaves_is_no_json_when_that_is_asked_for() -> None:
    for value, where in (([1, b"x"], r"value\[1\] is"), ({"a": {"b": {2: 3}}}, r'value\["a"\]\["b"\] is')):
        with pytest.raises(UnsupportedValue, match=f"{where} no JSON value"):
            codecs.encode(value, "json")


def test_a_refusal_says_where_the_number_or_text_is() -> None:
    for value, where in (
        ({"a": [0.0, {"b": float("nan")}]}, r'value\["a"\]\[1\]\["b"\]: JSON has'),
        ([["x", "\ud800"]], r"value\[0\]\[1\]: the text"),
        ([{"\udfff": 1}], r"value\[0\]: the text"),
        ([1, -(10**5000)], r"value\[1\]: JSON has"),
    ):
        with pytest.raises(UnsupportedValue, match=where):
            codecs.encode(value)


def test_what_is_just_shallow_enough_comes_back() -> None:
    assert round_trip(nested(200)) == nested(200)
