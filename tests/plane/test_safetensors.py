"""``.safetensors`` beside the library that defines the format: what it writes is read here, and the other way round."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import load_file, save_file

import shmplane
from tests.support.inside import creations_of
from tests.support.processes import Child

MIB = 1 << 20
DTYPES = ["?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "<c8"]
SHAPES: list[tuple[int, ...]] = [(), (1,), (3, 5), (0, 4), (2, 3, 4, 5), (100_000,)]
TENSORS = {
    f"{dtype} {shape}": (np.arange(int(np.prod(shape)), dtype="i8") % 7).astype(dtype).reshape(shape)
    for dtype in DTYPES
    for shape in SHAPES
}


def same(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


def test_what_the_library_writes_is_read(plane: shmplane.Plane, tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"format": "np", "by": "the library"})
    with plane.load("x", tmp_path / "a.safetensors") as block:
        assert block.kind == "tree"
    got = plane["x"]
    assert set(got) == set(TENSORS)
    assert all(same(got[name], tensor) for name, tensor in TENSORS.items())


def test_what_is_saved_is_read_by_the_library(plane: shmplane.Plane, tmp_path: Path) -> None:
    plane["x"] = TENSORS
    plane.save("x", tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert set(found) == set(TENSORS)
    assert all(same(found[name], tensor) for name, tensor in TENSORS.items())
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert set(file.keys()) == set(TENSORS)


def test_types_that_numpy_lacks_are_read_byte_by_byte(plane: shmplane.Plane, tmp_path: Path) -> None:
    header, data = {}, b""
    for name, nbytes in {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}.items():
        header[name] = {"dtype": name, "shape": [5, 3], "data_offsets": [len(data), len(data) + 15 * nbytes]}
        data += bytes(range(len(data), len(data) + 15 * nbytes))
    path = write(tmp_path / "a.safetensors", header, data)
    plane.load("x", path).close()
    with plane.attach("x") as block:
        body = bytes(block.buffer())
    for name, tensor in deserialize(path.read_bytes()):
        assert (tensor["dtype"], tensor["shape"]) == (name, [5, 3])
        assert bytes(tensor["data"]) in body


def write(path: Path, header: Any, data: bytes, lie: int = 0) -> Path:
    """A file whose first number is wrong by ``lie``."""
    text = json.dumps(header).encode()
    path.write_bytes((len(text) + lie).to_bytes(8, "little", signed=True) + text + data)
    return path


# Both refuse the same


F4 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
NUMBERS = st.sampled_from([-1, 0, 1, 2, 4, 7, 8, 9, 16, 2**31, 2**62, 2**63, 2**64, 1.0, True, None])
TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "F33", "", None]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
    }
)
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.one_of(st.just(F4), TENSOR), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(header=HEADERS, nbytes=st.sampled_from([0, 1, 7, 8, 9, 16]), lie=st.sampled_from([0, 0, 0, -1, 1, 100, 2**40]))
def test_what_the_library_refuses_is_refused_here(
    plane: shmplane.Plane, tmp_path: Path, header: Any, nbytes: int, lie: int
) -> None:
    path = write(tmp_path / "a.safetensors", header, bytes(nbytes), lie)
    try:
        theirs = load_file(path)
    except (SafetensorError, KeyError, OverflowError, ValueError, TypeError):
        with pytest.raises((ValueError, shmplane.FileTruncated, shmplane.UnsupportedValue), match=r"a\.safetensors"):
            # A few tensors of a type that NumPy lacks are refused by the library's NumPy side alone.
            raise_if_refused(plane, path)
        assert not creations_of(plane)
    else:
        plane.load("x", path).close()
        assert {name: same(plane["x"][name], tensor) for name, tensor in theirs.items()} == dict.fromkeys(theirs, True)
        del plane["x"]


def raise_if_refused(plane: shmplane.Plane, path: Path) -> None:
    plane.load("x", path).close()
    del plane["x"]
    try:
        deserialize(path.read_bytes())
    except SafetensorError as error:
        raise AssertionError(f"only the library refuses it: {error}") from error
    raise ValueError("the library reads a.safetensors as well")


# One load, many readers


def _look(plane: shmplane.Plane) -> tuple[dict[str, float], int]:
    """The sum of every tensor, and how much private memory that took."""
    before = _private()
    tree = plane["model"]
    sums = {name: float(tensor.sum()) for name, tensor in tree.items()}
    return sums, _private() - before


def _private() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return int(status.read().partition("RssAnon:")[2].split()[0]) * 1024


def look_in_processes(plane: shmplane.Plane, path: Path, tensors: dict[str, Any], processes: int) -> None:
    save_file(tensors, path)
    plane.load("model", path).close()
    with contextlib.ExitStack() as running:
        for child in [
            running.enter_context(Child(_look, plane, method="spawn", deadline=120)) for _ in range(processes)
        ]:
            sums, private = child.result()
            assert sums == {name: float(tensor.sum()) for name, tensor in tensors.items()}
            assert private < 4 * MIB
    assert plane.attach("model").version == 1
    assert plane.stats().blocks == 1


def test_a_file_is_loaded_once_and_processes_see_its_tensors(plane: shmplane.Plane, tmp_path: Path) -> None:
    tensors = {f"layer {number}": np.full((MIB,), number, "f4") for number in range(6)}
    look_in_processes(plane, tmp_path / "model.safetensors", tensors, 2)


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_a_file_of_a_gigabyte_is_loaded_once_and_four_processes_see_its_tensors(tmp_path: Path) -> None:
    tensors = {f"layer {number}": np.full((5_000, 2_000), number, "f4") for number in range(25)}
    with shmplane.Plane.temporary(capacity="3GiB") as plane:
        look_in_processes(plane, tmp_path / "model.safetensors", tensors, 4)
