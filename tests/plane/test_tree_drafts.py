"""Drafts of trees: arrays are written in place, and only the pages that were touched are copied."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import Plane, TreeDraft, UnsupportedValue
from shmplane.system import PAGE_NBYTES
from tests.codecs.test_trees import assert_same
from tests.plane.versions import edit, faults, settle
from tests.support.processes import run_in_child

PAGE = PAGE_NBYTES
TABLE = pa.table({"a": [1, 2]})


def model() -> dict[str, Any]:
    return {
        "weights": np.arange(300 * PAGE // 8, dtype="f8"),
        "layers": [np.zeros((100, 50), "f4"), (np.asfortranarray(np.ones((40, 60))), b"raw", TABLE)],
        "name": "m",
        "step": np.int64(3),
    }


def changed() -> dict[str, Any]:
    value = model()
    value["weights"][1000] = -1.0
    value["layers"][0][3] = 7.0
    value["layers"][1][0][:, 5] = 2.0
    value["step"] = np.int64(4)
    return value


def change(tree: Any) -> None:
    tree["weights"][1000] = -1.0
    tree["layers"][0][3] = 7.0
    tree["layers"][1][0][:, 5] = 2.0
    tree["step"] += 1


@pytest.mark.parametrize("size", ["small", "large"])
def test_arrays_are_written_in_place_and_published_together(plane: Plane, size: str) -> None:
    value = model() if size == "large" else {"a": [np.zeros(3), 1], "b": b"x"}
    plane["x"] = value
    old = plane["x"]
    with edit(plane, "x") as draft:
        assert isinstance(draft, TreeDraft)
        if size == "large":
            change(draft.tree)
        else:
            draft.tree["a"][0][1] = 5.0
    assert (draft.block.version, draft.block.kind) == (2, "tree")
    assert_same(old, value)
    assert_same(plane["x"], changed() if size == "large" else {"a": [np.array([0.0, 5.0, 0.0]), 1], "b": b"x"})
    assert_same(draft.block.value(), plane.attach("x").value())
    del old, draft
    assert faults(plane) == []


def differs(plane: Plane) -> str:
    try:
        assert_same(plane["x"], changed())
    except AssertionError as error:
        return str(error) or "differs"
    return ""


def test_another_process_sees_the_edit(plane: Plane) -> None:
    plane["x"] = model()
    with edit(plane, "x") as draft:
        change(draft.tree)
    assert run_in_child(differs, plane) == ""


def test_only_touched_pages_are_copied(plane: Plane) -> None:
    plane["x"] = model()
    before = settle(plane).used_nbytes
    with edit(plane, "x") as draft:
        draft.tree["weights"][0] = draft.tree["weights"][200 * PAGE // 8] = 1.0
        assert draft.dirty_nbytes <= 3 * PAGE
    del draft
    assert settle(plane).used_nbytes - before < 100_000 < model()["weights"].nbytes


def test_an_edit_of_an_edit_is_one_tree(plane: Plane) -> None:
    plane["x"] = model()
    wanted = model()
    for step in range(5):
        with edit(plane, "x") as draft:
            draft.tree["weights"][step * 700] = wanted["weights"][step * 700] = -1.0
    assert plane.attach("x").version == 6
    assert_same(plane["x"], wanted)


def test_an_edit_that_touched_nothing_publishes_nothing(plane: Plane) -> None:
    plane["x"] = model()
    with edit(plane, "x") as draft:
        assert draft.tree["weights"].flags.writeable
        assert float(draft.tree["weights"].sum()) > 0
    assert plane.attach("x").version == 1


def test_an_exception_discards_and_a_conflict_changes_nothing(plane: Plane) -> None:
    plane["x"] = model()
    with contextlib.suppress(ZeroDivisionError), edit(plane, "x") as draft:
        draft.tree["weights"][0] = 9.0
        raise ZeroDivisionError
    assert_same(plane["x"], model())
    draft = edit(plane, "x")
    draft.tree["weights"][0] = 9.0
    plane["x"] = [np.ones(1)]
    with pytest.raises(shmplane.Conflict):
        draft.commit()
    draft.discard()
    assert_same(plane["x"], [np.ones(1)])


def test_the_containers_are_those_that_were_put(plane: Plane) -> None:
    plane["x"] = model()
    with edit(plane, "x") as draft:
        tree = draft.tree
        assert list(tree) == list(model())
        assert isinstance(tree["layers"], list)
        assert isinstance(tree["layers"][1], tuple)
        assert tree["name"] == "m"
        assert bytes(tree["layers"][1][1]) == b"raw"
        assert tree["layers"][1][2].equals(TABLE)
        assert tree["layers"][1][0].flags.f_contiguous


REPLACEMENTS: dict[str, Any] = {
    "replace": lambda tree: tree.__setitem__("weights", np.zeros(3)),
    "replace by an equal one": lambda tree: tree.__setitem__("weights", tree["weights"].copy()),
    "replace a JSON leaf": lambda tree: tree.__setitem__("name", "n"),
    "add": lambda tree: tree.__setitem__("more", 1),
    "remove": lambda tree: tree.__delitem__("weights"),
    "pop": lambda tree: tree.pop("name"),
    "update": lambda tree: tree.update(name="n"),
    "clear": lambda tree: tree.clear(),
    "replace in a list": lambda tree: tree["layers"].__setitem__(0, 1),
    "a slice of a list": lambda tree: tree["layers"].__setitem__(slice(None), []),
    "append": lambda tree: tree["layers"].append(1),
    "extend": lambda tree: tree["layers"].__iadd__([1]),
    "del of a list": lambda tree: tree["layers"].__delitem__(0),
}


@pytest.mark.parametrize("replace", REPLACEMENTS.values(), ids=REPLACEMENTS.keys())
def test_another_leaf_is_refused_with_what_to_do(plane: Plane, replace: Any) -> None:
    plane["x"] = model()
    with pytest.raises(UnsupportedValue, match="put the value anew"), edit(plane, "x") as draft:
        replace(draft.tree)
    with pytest.raises(UnsupportedValue, match="put the value anew"), edit(plane, "x") as draft:
        draft.tree = {}
    assert plane.attach("x").version == 1


def test_an_operator_in_place_puts_back_what_it_changed(plane: Plane) -> None:
    plane["x"] = {"a": np.ones(3), "l": [np.ones(2)]}
    with edit(plane, "x") as draft:
        draft.tree["a"] *= 3
        draft.tree["l"][0] += 1
    assert_same(plane["x"], {"a": np.full(3, 3.0), "l": [np.full(2, 2.0)]})


def test_arrays_kept_after_the_end_stay_private(plane: Plane) -> None:
    plane["x"] = model()
    with edit(plane, "x") as draft:
        weights = draft.tree["weights"]
        weights[0] = 1.0
    weights[0] = 99.0
    assert plane["x"]["weights"][0] == 1.0
    with pytest.raises(shmplane.ClosedError):
        draft.tree  # noqa: B018
