"""Records: many small values as one block, each decoded alone."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmplane
from tests.support.processes import run_in_child

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SAMPLES = [{"text": f"sample {number}", "label": number % 3} for number in range(1000)]


def read(name: str, root: str) -> tuple[int, Any]:
    with shmplane.Plane(name, root=root, create=False) as plane:
        samples = plane["samples"]
        return len(samples), samples[-1]


def sum_labels(samples: Any) -> int:
    return sum(sample["label"] for sample in samples)


def test_records_come_back_one_by_one_in_any_process(plane_root: Any) -> None:
    with shmplane.Plane("data", root=plane_root) as plane:
        block = plane.put("samples", shmplane.Records(SAMPLES))
        assert block.kind == "records"
        assert block.shape == (1000,)
        assert list(plane["samples"]) == SAMPLES
        assert run_in_child(read, "data", str(plane_root), method="spawn") == (1000, SAMPLES[-1])
        plane.destroy()


def test_records_are_a_sequence(plane: shmplane.Plane) -> None:
    plane["samples"] = shmplane.Records(SAMPLES)
    samples = plane["samples"]
    assert len(samples) == 1000
    assert samples[0] == samples[np.int64(0)] == samples[-1000] == SAMPLES[0]
    assert samples[999] == samples[-1] == SAMPLES[-1]
    assert SAMPLES[7] in samples
    assert samples.index(SAMPLES[7]) == 7
    assert samples == SAMPLES
    assert repr(samples) == "<1,000 records>"


@pytest.mark.parametrize("index", [1000, -1001, 2**70])
def test_an_index_out_of_range_says_how_many_there_are(plane: shmplane.Plane, index: int) -> None:
    plane["samples"] = shmplane.Records(SAMPLES)
    with pytest.raises(IndexError, match="1,000 records"):
        plane["samples"][index]


@pytest.mark.parametrize("index", ["0", 1.0, None])
def test_an_index_that_is_no_int_is_refused(plane: shmplane.Plane, index: Any) -> None:
    plane["samples"] = shmplane.Records(SAMPLES)
    with pytest.raises(TypeError):
        plane["samples"][index]


def test_slices_are_sequences_of_the_same_records(plane: shmplane.Plane) -> None:
    plane["samples"] = shmplane.Records(SAMPLES)
    samples = plane["samples"]
    for part in (slice(10, 20), slice(None, None, -7), slice(5000, None), slice(-3, None)):
        assert list(samples[part]) == SAMPLES[part]
        assert list(samples[part][1:]) == SAMPLES[part][1:]


@given(st.lists(JSON | st.binary(max_size=50), max_size=20))
def test_what_comes_back_is_what_was_put(values: list[Any]) -> None:
    with shmplane.Plane.temporary(capacity="8MiB") as plane:
        plane["x"] = shmplane.Records(iter(values))
        found = [bytes(value) if isinstance(value, memoryview) else value for value in plane["x"]]
        assert found == values


def test_arrays_and_buffers_are_shown_where_they_lie(plane: shmplane.Plane) -> None:
    arrays = [np.arange(number, dtype="f4") for number in range(5)]
    plane["x"] = shmplane.Records([*arrays, b"bytes", {"image": np.ones((2, 3)), "label": 3}, [1, 2]])
    records = plane["x"]
    for array, found in zip(arrays, records[:5], strict=True):
        assert found.dtype == array.dtype
        assert found.tolist() == array.tolist()
        assert not found.flags.writeable
    assert bytes(records[5]) == b"bytes"
    assert records[6]["image"].tolist() == np.ones((2, 3)).tolist()
    assert records[7] == [1, 2]


def test_a_record_outlives_its_sequence_and_its_block(plane: shmplane.Plane) -> None:
    plane["x"] = shmplane.Records([np.arange(1000)])
    array = plane["x"][0]
    del plane["x"]
    gc.collect()
    plane.gc()
    assert array.sum() == 499_500
    assert plane.stats().blocks == 1
    del array
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == 0


def test_records_pickle_as_a_handle(plane: shmplane.Plane) -> None:
    plane["samples"] = shmplane.Records(SAMPLES)
    samples = plane["samples"]
    pickled = pickle.dumps(samples[100:200])
    assert len(pickled) < 600
    again = pickle.loads(pickled)
    assert list(again) == SAMPLES[100:200]
    assert run_in_child(sum_labels, samples, method="spawn") == sum_labels(SAMPLES)


def test_append_adds_records(plane: shmplane.Plane) -> None:
    plane.append("samples", shmplane.Records(SAMPLES[:10]))
    before = plane["samples"]
    plane.append("samples", SAMPLES[10:20])
    plane.append("samples", iter([b"bytes", np.arange(3)]))
    after = plane["samples"]
    assert list(before) == SAMPLES[:10]
    assert list(after[:20]) == SAMPLES[:20]
    assert bytes(after[20]) == b"bytes"
    assert after[21].tolist() == [0, 1, 2]
    assert len(after) == 22


def test_records_that_were_read_can_be_put_again(plane: shmplane.Plane) -> None:
    plane["x"] = shmplane.Records([1, "two", np.arange(3)])
    plane["y"] = plane["x"]
    plane["z"] = plane["x"][:2]
    assert plane["y"][2].tolist() == [0, 1, 2]
    assert list(plane["z"]) == [1, "two"]


def test_no_records_are_a_sequence_too(plane: shmplane.Plane) -> None:
    plane["x"] = shmplane.Records()
    assert len(plane["x"]) == 0
    assert list(plane["x"]) == []
    assert plane.get("x", as_="python") == []


@pytest.mark.parametrize("value", [object(), {1: 2}, float("nan"), {"a": {2, 3}}])
def test_a_value_that_is_no_record_is_refused_by_its_number(value: Any) -> None:
    with pytest.raises(shmplane.UnsupportedValue, match="record 300"):
        shmplane.Records([*range(300), value])


def test_nested_records_are_refused() -> None:
    with pytest.raises(shmplane.UnsupportedValue, match=r"record 0.*cannot be a record"):
        shmplane.Records([shmplane.Records([1])])
