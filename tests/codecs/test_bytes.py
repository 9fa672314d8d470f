from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

from shmplane import codecs
from tests.codecs.harness import body_of, points_into, round_trip, store


@pytest.mark.parametrize(
    "value",
    [
        b"abc",
        b"",
        bytearray(b"abc"),
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef")[::-1],
        np.arange(12.0).reshape(3, 4).data,
        np.asfortranarray(np.arange(12.0).reshape(3, 4)).data,
        np.arange(200_000, dtype="f4").data[::3],
        array.array("d", [1.0, 2.0]),
        array.array("d"),
        np.empty((0, 3)).data,
    ],
)
def test_a_buffer_comes_back_as_its_bytes_in_c_order(value: Any) -> None:
    back = round_trip(value)
    assert isinstance(back, memoryview)
    assert (back.format, back.ndim, back.readonly) == ("B", 1, True)
    assert back.tobytes() == memoryview(value).tobytes()


@pytest.mark.parametrize("value", [np.arange(3).astype("M8[s]"), np.ones((4, 4))[::2], np.array(1.0)])
def test_an_array_can_be_put_as_bytes(value: Any) -> None:
    assert bytes(body_of(codecs.encode(value, "bytes"))) == value.tobytes()


def test_reading_bytes_copies_none() -> None:
    encoded, memory = store(bytes(range(256)))
    view = codecs.present("bytes", codecs.CODECS["bytes"].open(encoded.frame, memory))
    assert points_into(memory)(np.frombuffer(view, "u1").__array_interface__["data"][0])
    assert codecs.describe("bytes", encoded.frame).shape == (256,)
