"""A draft used as one of another kind says what it is and what to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import ArrayDraft, Draft, JsonDraft, Plane, TableDraft, TreeDraft, UnsupportedValue

VALUES: dict[str, tuple[Any, type[Draft], str]] = {
    "array": (np.zeros(3), ArrayDraft, "is an array: use draft.array"),
    "bytes": (b"xyz", ArrayDraft, "is bytes: use draft.array"),
    "table": (pa.table({"a": [1]}), TableDraft, "is a table: use draft.table"),
    "json": ({"a": 1}, JsonDraft, "is a JSON value: use draft.value"),
    "tree": ({"a": np.zeros(3)}, TreeDraft, "is a tree: use draft.tree"),
}


def assign_value(draft: Draft) -> None:
    draft.value = 3


def assign_tree(draft: Draft) -> None:
    draft.tree = {}


USES: dict[str, tuple[Callable[[Draft], object], set[str]]] = {
    "array": (lambda draft: draft.array, {"array", "bytes"}),
    "dirty_nbytes": (lambda draft: draft.dirty_nbytes, {"array", "bytes", "tree"}),
    "table": (lambda draft: draft.table, {"table"}),
    "column_names": (lambda draft: draft.column_names, {"table"}),
    "append": (lambda draft: draft.append([{"a": 2}]), {"table"}),
    "rename": (lambda draft: draft.rename({"a": "b"}), {"table"}),
    "read a column": (lambda draft: draft["a"], {"table"}),
    "assign a column": (lambda draft: draft.__setitem__("a", [2]), {"table"}),
    "delete a column": (lambda draft: draft.__delitem__("a"), {"table"}),
    "ask for a column": (lambda draft: "a" in draft, {"table"}),
    "value": (lambda draft: draft.value, {"json"}),
    "assign a value": (assign_value, {"json"}),
    "tree": (lambda draft: draft.tree, {"tree"}),
    "assign a tree": (assign_tree, set()),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("use", USES)
def test_the_wrong_use_of_a_draft_names_the_right_one(plane: Plane, use: str, kind: str) -> None:
    value, kind_of_draft, message = VALUES[kind]
    do, right = USES[use]
    plane["x"] = value
    draft = plane.edit("x")
    assert isinstance(draft, kind_of_draft)
    assert isinstance(draft, shmplane.Draft)
    if kind in right:
        do(draft)
    else:
        with pytest.raises(
            UnsupportedValue, match=message if use != "assign a tree" or kind != "tree" else "anew"
        ) as raised:
            do(draft)
        assert raised.value.name == "x"
        assert raised.value.kind == kind
        assert "draft" in str(raised.value)
    draft.discard()


def test_a_draft_is_no_sequence(plane: Plane) -> None:
    plane["x"] = np.zeros(3)
    with pytest.raises(TypeError, match="not iterable"), plane.edit("x") as draft:
        list(draft)  # type: ignore[call-overload]
