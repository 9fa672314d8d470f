"""Rows of names are used again: no reader and no writer ever takes one life of a row or of a name for another."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.inside import index_of, name_words_of, remembered, use_name_rows_again_at

REUSES = 1 << 8


def an_array(text: str) -> Any:
    return np.full(64, ord(text), "u1")


def a_document(text: str) -> Any:
    return {"value": text}


@pytest.fixture
def plane() -> Any:
    with shmplane.Plane.temporary(capacity="16MiB", max_blocks=64, max_processes=4) as plane:
        use_name_rows_again_at(plane, 0)  # so that a few names do what takes thousands otherwise
        yield plane


@pytest.mark.parametrize("value", [an_array, a_document])
@pytest.mark.parametrize("reuses", [1, REUSES, 2 * REUSES])
def test_a_name_that_came_back_to_its_row_by_renames_is_not_the_one_that_was_read(
    plane: shmplane.Plane, value: Callable[[str], Any], reuses: int
) -> None:
    plane["a"] = value("O")
    held = plane["a"]
    row, word = remembered(plane, "a")
    plane.rename("a", "kept")
    for number in range(reuses - 1):
        plane[f"other/{number}"] = 0
        del plane[f"other/{number}"]
    plane.rename("kept", "in its row")  # the same block, under the row that "a" had

    assert index_of(plane).find(b"in its row") == row
    assert name_words_of(plane)[row] != word
    with pytest.raises(shmplane.BlockNotFound):
        plane["a"]
    plane["a"] = value("N")
    assert np.array_equal(plane["a"], value("N")) if value is an_array else plane["a"] == value("N")
    del held


def test_no_name_row_has_a_word_twice(plane: shmplane.Plane) -> None:
    chance, seen, names = random.Random(7), set[tuple[int, int]](), [f"name/{number}" for number in range(12)]
    words = name_words_of(plane)
    before = words[:128].tolist()
    for _ in range(6_000):
        one, other = chance.sample(names, 2)
        act: Any = chance.choice([plane.put, plane.rename, plane.delete])
        try:
            act(one, b"x") if act == plane.put else act(one, other) if act == plane.rename else act(one)
        except shmplane.BlockNotFound:
            continue
        now = words[:128].tolist()
        new = {(row, word) for row, word in enumerate(now) if word and word != before[row]}
        assert not new & seen
        seen |= new
        before = now
    assert len(seen) > 1_000


def test_versions_go_on_above_the_highest_when_the_row_of_a_name_was_used_for_others(plane: shmplane.Plane) -> None:
    for _ in range(5):
        plane["cfg"] = 0
    del plane["cfg"]
    plane["other"] = 0  # takes its row

    assert index_of(plane).find(b"cfg") == -1
    assert plane.put("cfg", 1).version == 6
    with pytest.raises(shmplane.Conflict):
        plane.put("cfg", 2, expected_version=5)
    assert plane.wait("cfg", newer_than=5, timeout=0).version == 6


def test_a_name_of_its_own_row_counts_from_one_as_long_as_no_row_was_used_again() -> None:
    with shmplane.Plane.temporary(capacity="16MiB", max_blocks=64) as plane:
        for number in range(40):
            name = f"name/{number}"
            assert [plane.put(name, 0).version for _ in range(3)] == [1, 2, 3]
            del plane[name]
        assert plane.put("name/0", 0).version == 4


def test_versions_of_all_names_go_up_whatever_rows_they_get(plane: shmplane.Plane) -> None:
    chance, highest = random.Random(3), dict[str, int]()
    for _ in range(4_000):
        name = f"name/{chance.randrange(40)}"
        if name in plane and chance.random() < 0.6:
            del plane[name]
        else:
            version = plane.put(name, b"x").version
            assert version > highest.get(name, 0)
            highest[name] = version
