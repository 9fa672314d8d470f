from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from shmplane import codecs
from shmplane.errors import PlaneCorrupt, UnsupportedValue
from tests.codecs.harness import LeasedMemory, body_of, open_stored, points_into, round_trip, store

RAN: list[str] = []


def tattle() -> str:
    RAN.append("unpickled")
    return "tattled"


class Tattling:
    def __reduce__(self) -> Any:
        return tattle, ()


def test_nothing_is_pickled_unless_asked_for() -> None:
    with pytest.raises(UnsupportedValue):
        codecs.encode(Tattling())


def test_opening_runs_no_code_and_presenting_does() -> None:
    RAN.clear()
    kind, root = open_stored(Tattling(), "pickle")
    assert RAN == []
    codecs.present(kind, root)
    assert RAN == ["unpickled"]


def test_large_buffers_lie_aligned_in_the_body_and_come_back_without_a_copy() -> None:
    value: dict[str, Any] = {"a": np.arange(1000.0), "b": b"in band", "c": np.arange(7, dtype="i1"), "d": np.empty(0)}
    encoded, memory = store(value, "pickle")
    back = codecs.present("pickle", codecs.CODECS["pickle"].open(encoded.frame, memory))
    for name in ("a", "c"):
        address = back[name].__array_interface__["data"][0]
        assert points_into(memory)(address)
        assert address % 64 == 0
        assert not back[name].flags.writeable
        assert np.array_equal(back[name], value[name])
    assert back["b"] == b"in band"
    assert back["d"].size == 0


def test_what_cannot_be_pickled_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedValue, match="pickled"):
        codecs.encode(lambda: 0, "pickle")


def test_bytes_that_are_no_pickle_are_corrupt() -> None:
    encoded = codecs.encode([1, 2], "pickle")
    root = codecs.CODECS["pickle"].open(encoded.frame, LeasedMemory(bytes(len(body_of(encoded)))))
    with pytest.raises(PlaneCorrupt):
        codecs.present("pickle", root)


@pytest.mark.parametrize("value", [None, {1, 2}, range(5), pickle.PickleBuffer(b"abc")])
def test_objects_come_back(value: Any) -> None:
    back = round_trip(value, "pickle")
    assert bytes(back) == b"abc" if isinstance(value, pickle.PickleBuffer) else back == value
