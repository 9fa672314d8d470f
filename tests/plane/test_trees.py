"""Trees in a plane: one block, one lease, one version, whoever reads it."""

from __future__ import annotations

import collections
import gc
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings

import shmplane
from shmplane import Plane, UnsupportedValue
from shmplane.cli import main
from tests.codecs.test_trees import TREES, assert_same
from tests.plane.versions import faults, settle
from tests.support.processes import Child, run_in_child

TABLE = pa.table({"a": [1, 2], "s": ["x", None]})


def batch() -> dict[str, Any]:
    return {
        "text": ["a", "b"],
        "embedding": np.arange(60_000.0).reshape(2, 30_000),
        "meta": {"ids": (np.arange(3), [b"raw" * 50, None])},
        "table": TABLE,
        "scale": np.float32(0.5),
    }


def test_a_tree_is_one_block_of_one_version(plane: Plane) -> None:
    block = plane.put("batch", batch())
    assert (block.kind, block.version, block.dtype, block.shape, block.schema) == ("tree", 1, None, None, None)
    assert plane.stats().blocks == 1
    assert_same(plane["batch"], batch())
    assert_same(block.value(), batch())
    plane["batch"] = {"a": np.ones(1)}
    assert plane.attach("batch").version == 2
    assert_same(block.value(), batch())


def differs(plane: Plane) -> str:
    try:
        assert_same(plane["batch"], batch())
        assert_same(plane.get("small"), [np.arange(3), "x"])
    except AssertionError as error:
        return str(error) or "differs"
    return ""


def test_what_one_process_puts_another_gets(plane: Plane) -> None:
    plane["batch"] = batch()
    plane["small"] = [np.arange(3), "x"]
    assert run_in_child(differs, plane) == ""


def puts_a_tree(plane: Plane) -> Any:
    plane["batch"] = batch()
    yield "put"


def test_a_tree_outlives_the_process_that_put_it(plane: Plane) -> None:
    with Child(puts_a_tree, plane) as child:
        assert child.next() == "put"
        child.kill()
    plane.gc()
    assert_same(plane["batch"], batch())


def test_any_leaf_keeps_the_lease_and_the_last_one_ends_it(plane: Plane) -> None:
    for take in (
        lambda value: value["embedding"][1, 5:],
        lambda value: value["meta"]["ids"][1][0],
        lambda value: value["table"],
        lambda value: value["meta"],
    ):
        plane["batch"] = batch()
        leaf = take(plane["batch"])
        plane["batch"] = 1
        settle(plane)
        assert plane.stats().leases == 1
        gc.collect()
        if isinstance(leaf, np.ndarray):
            assert leaf[0] == 30_005.0
        del leaf
        assert settle(plane).leases == 0


def test_leaves_show_shared_memory_without_a_copy(plane: Plane) -> None:
    plane["batch"] = batch()
    one, other = plane["batch"], plane["batch"]
    assert one is not other
    assert np.shares_memory(one["embedding"], other["embedding"])
    assert not one["embedding"].flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        one["embedding"].flags.writeable = True


def test_each_reader_may_change_the_frames_of_his_own(plane: Plane) -> None:
    plane["x"] = {"frame": pd.DataFrame({"a": np.arange(20_000.0)})}
    mine = plane["x"]
    mine["frame"].loc[0, "a"] = 7.0
    assert plane["x"]["frame"].loc[0, "a"] == 0.0


def test_a_tree_that_was_got_is_put_again_as_it_is(plane: Plane) -> None:
    plane["x"] = batch()
    plane["y"] = plane["x"]
    plane["z"] = plane.attach("x")
    assert_same(plane["y"], batch())
    assert_same(plane["z"], batch())


def test_a_block_among_the_leaves_is_its_value(plane: Plane) -> None:
    array, table = plane.put("a", np.arange(3)), plane.put("t", TABLE)
    plane["x"] = {"array": array, "more": [table]}
    assert_same(plane["x"], {"array": np.arange(3), "more": [TABLE]})
    with pytest.raises(UnsupportedValue, match=r'value\["j"\]: a block of kind .json. cannot be a leaf'):
        plane["x"] = {"j": plane.put("j", {"a": 1}), "array": array}


def test_a_handle_and_an_anonymous_block_are_as_with_other_kinds(plane: Plane) -> None:
    block = plane.put(None, batch())
    assert_same(run_in_child(value_as_python, block), block_as_python())


def value_as_python(block: shmplane.Block) -> Any:
    return json.dumps(block.value()["text"])


def block_as_python() -> Any:
    return json.dumps(batch()["text"])


def test_get_converts_a_tree(plane: Plane) -> None:
    plane["x"] = {"a": np.arange(3), "t": (1, b"xy"), "table": TABLE}
    assert plane.get("x", as_="python") == {"a": [0, 1, 2], "t": (1, b"xy"), "table": TABLE.to_pylist()}
    for as_ in ("array", "arrow", "pandas", "polars", "bytes"):
        with pytest.raises(UnsupportedValue, match="Possible: python, torch"):
            plane.get("x", as_=as_)
    with pytest.raises(UnsupportedValue, match="is no table"):
        plane.attach("x").table()
    with pytest.raises(UnsupportedValue, match="append adds rows"):
        plane.append("x", {"a": [1]})


def test_an_ordered_dict_is_put_as_a_dict(plane: Plane) -> None:
    plane["x"] = collections.OrderedDict(b=np.ones(2), a=np.zeros(1))
    assert list(plane["x"]) == ["b", "a"]


def test_what_is_refused_changes_nothing(plane: Plane) -> None:
    plane["x"] = "before"
    loop: list[Any] = [np.ones(2)]
    loop.append(loop)
    for value, says in (
        ({"a": [np.ones(2), 1, 2, object()]}, r'value\["a"\]\[3\]: object'),
        ({"a": np.ones(2), 3: 1}, "keys are str"),
        (loop, "contains itself"),
    ):
        with pytest.raises(UnsupportedValue, match=says):
            plane["x"] = value
    assert plane["x"] == "before"
    assert plane.stats().blocks == 1


def test_a_block_shows_how_many_leaves_it_has(plane: Plane) -> None:
    block = plane.put("x", batch())
    assert repr(block).startswith("<Block 'x' version 1: tree of 5 leaves, ")
    assert "leaves" in block._repr_mimebundle_()["text/html"]
    assert repr(plane.put("y", [np.ones(1)])).startswith("<Block 'y' version 1: tree of 1 leaf, ")


def test_info_shows_a_tree(plane: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    plane["x"] = batch()
    assert main(["info", plane.name, "x", "--root", plane.root, "--json"]) == 0
    block = json.loads(capsys.readouterr().out)["block"]
    assert (block["kind"], block["leaves"], block["dtype"], block["schema"]) == ("tree", 5, None, None)
    assert main(["info", plane.name, "x", "--root", plane.root]) == 0
    assert "leaves" in capsys.readouterr().out


@pytest.mark.default_root
def test_a_tree_has_a_name_for_other_programs(plane_name: str) -> None:
    with Plane(plane_name) as plane:
        block = plane.put("x", {"a": np.arange(30_000.0)})
        shared = block.shared_memory()
        assert shared.buf is not None
        assert bytes(shared.buf[block.shm_offset : block.shm_offset + block.nbytes]) == bytes(block.buffer())
        shared.close()
        plane.destroy()


def test_random_trees_come_back_from_a_plane(plane: Plane) -> None:
    @settings(max_examples=60, deadline=None)
    @given(TREES)
    def check(value: Any) -> None:
        plane.put("x", value, codec="tree").close()
        assert_same(plane["x"], value)

    check()
    del plane["x"]
    assert faults(plane) == []
