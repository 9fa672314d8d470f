"""Tensors of torch in a plane: shared weights, on pages of one's own once they are written. CI installs torch for these."""

from __future__ import annotations

import contextlib
import copy
import gc
import warnings
from typing import Any

import numpy as np
import psutil
import pytest

import shmplane
from shmplane import Plane
from tests.plane.versions import edit, settle
from tests.support.processes import Child

torch: Any = pytest.importorskip("torch")


def model() -> Any:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Embedding(3000, 256), torch.nn.Linear(256, 512), torch.nn.BatchNorm1d(512), torch.nn.Linear(512, 4)
    )


def test_a_state_dict_comes_back_and_can_be_loaded(plane: Plane) -> None:
    wanted = model().state_dict()
    block = plane.put("model", wanted)
    assert block.kind == "tree"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = plane.get("model", as_="torch")
    assert type(state) is dict
    assert list(state) == list(wanted)
    assert all(
        torch.equal(state[name], tensor) and state[name].dtype == tensor.dtype for name, tensor in wanted.items()
    )
    other = model()
    other.load_state_dict(state, assign=True)
    assert other[1].weight.data_ptr() == state["1.weight"].data_ptr()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "bool", "complex64"])
@pytest.mark.parametrize("count", [7, 100_000])
def test_writing_a_tensor_reaches_neither_the_block_nor_others(plane: Plane, dtype: str, count: int) -> None:
    tensor = torch.ones(count).to(getattr(torch, dtype))
    for name, value in (("x", tensor), ("t", {"a": [tensor]})):
        plane[name] = value

        def get(name: str = name) -> Any:
            got = plane.get(name, as_="torch")
            return got if name == "x" else got["a"][0]

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mine, other = get(), get()
            mine[3:5] = torch.zeros(2).to(mine.dtype)
        assert mine.to(torch.complex64)[3] == 0
        for unchanged in (other, get()):
            assert unchanged.dtype == tensor.dtype
            assert bool((unchanged.to(torch.complex64) == 1).all())


def test_a_block_gives_tensors_of_arrays_bytes_and_trees(plane: Plane) -> None:
    assert plane.put("x", np.arange(6).reshape(2, 3)).to_torch().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert plane.put("f", np.asfortranarray(np.arange(6).reshape(2, 3))).to_torch().stride() == (1, 2)
    assert plane.put("b", b"abc").to_torch().tolist() == [97, 98, 99]
    assert plane.put("e", np.empty((0, 3))).to_torch().shape == (0, 3)
    tree = plane.put("t", {"a": (np.float32(1.5), "text", None)}).to_torch()
    assert tree == {"a": (torch.tensor(1.5), "text", None)}
    with pytest.raises(shmplane.UnsupportedValue, match="Possible: bytes, python"):
        plane.put("j", {"a": 1}).to_torch()
    with pytest.raises(shmplane.UnsafeCodec):
        plane.put("p", {1, 2}, codec="pickle").to_torch()
    assert plane.get("missing", 3, as_="torch") == 3


def test_tensors_of_types_that_numpy_lacks_are_appended_edited_and_consumed(plane: Plane) -> None:
    ml_dtypes: Any = pytest.importorskip("ml_dtypes")
    plane["x"] = torch.ones(3, dtype=torch.bfloat16)
    plane.append("x", torch.zeros(2, dtype=torch.bfloat16))
    plane.append("x", np.array([4.0], ml_dtypes.bfloat16))
    with edit(plane, "x") as draft:
        draft.array[0] = 5
    wanted = [5, 1, 1, 0, 0, 4]
    consumed = torch.from_dlpack(plane.attach("x"))
    assert (consumed.dtype, consumed.tolist()) == (torch.bfloat16, wanted)
    consumed[0] = 9
    assert plane.get("x", as_="torch").tolist() == wanted
    with pytest.raises(ValueError, match="the rows are of dtype float32"):
        plane.append("x", torch.zeros(2))


def test_a_tensor_keeps_the_lease_and_the_last_one_ends_it(plane: Plane) -> None:
    for value in (np.ones(50_000), {"a": np.ones(50_000), "b": np.zeros(9)}):
        plane["x"] = value
        got = plane.get("x", as_="torch")
        tensor = got["a"][10:] if isinstance(got, dict) else got[10:]
        plane["x"] = 1
        del got
        assert settle(plane).leases == 1
        for _ in range(3):
            plane["y"] = np.zeros(50_000)
        assert bool((tensor == 1).all())
        del tensor
        gc.collect()
        assert settle(plane).leases == 0


def test_edits_are_seen_by_the_next_tensors_alone(plane: Plane) -> None:
    plane["model"] = model().state_dict()
    before = plane.get("model", as_="torch")
    with edit(plane, "model") as draft:
        draft.tree["1.bias"][...] = 5.0
    assert bool((plane.get("model", as_="torch")["1.bias"] == 5).all())
    assert not bool((before["1.bias"] == 5).any())


def test_tensors_of_what_changes_in_place_are_a_snapshot(plane: Plane) -> None:
    array = plane.mutable("x", (50_000,), "f4")
    tensor = plane.get("x", as_="torch")
    array[:] = 7
    assert bool((tensor == 0).all())


def test_a_tree_that_was_got_is_put_again_and_copied(plane: Plane) -> None:
    plane["x"] = {"w": torch.arange(3), "n": 1}
    plane["y"] = plane.get("x", as_="torch")
    mine = copy.deepcopy(plane["y"])
    mine["w"][0] = 9
    assert plane["x"]["w"].tolist() == plane["y"]["w"].tolist() == [0, 1, 2]


def reads_the_model(plane: Plane) -> Any:
    import torch

    torch.set_num_threads(1)
    shmplane.Block  # noqa: B018 - loaded at its first use
    float(torch.ones(10).sum())
    yield "imported"
    before = psutil.Process().memory_full_info().uss
    state = plane.get("model", as_="torch")
    yield len(state)
    sums = {name: tensor.double().sum().item() for name, tensor in list(state.items())[1:]}
    for row in state["weight"]:
        row[::512].sum().item()  # a page at a time: what is computed takes memory too
    yield sums
    yield psutil.Process().memory_full_info().uss - before


def test_four_processes_share_the_weights(plane: Plane) -> None:
    """64 MiB of them; less than 2 MB belong to each reader alone."""
    state = {"weight": torch.ones(64, 1 << 18), "bias": torch.arange(1000)}
    plane["model"] = state
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(reads_the_model, plane, method="spawn", deadline=120)) for _ in range(4)]
        assert [child.next() for child in children] == ["imported"] * 4
        assert [child.next() for child in children] == [2] * 4
        assert [child.next() for child in children] == [{"bias": 499_500.0}] * 4
        private = [child.next() for child in children]
    assert max(private) <= 2_000_000
