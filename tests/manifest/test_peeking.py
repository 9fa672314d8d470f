"""What is read of a name without the lock is what its block is, or refused under it: whatever happened in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import shmplane
from tests.support.inside import core_of, leases_of, look, spill_all, tables_of, use_name_rows_again_at
from tests.support.requires import require_core


def _use_row_for_another_name(plane: Any) -> None:
    use_name_rows_again_at(plane, 0)
    del plane["a"]
    plane["b"] = b"another" * 9


MEANWHILE: dict[str, Callable[[Any], object]] = {
    "put over": lambda plane: plane.__setitem__("a", b"new" * 9),
    "deleted": lambda plane: plane.delete("a"),
    "deleted and put": lambda plane: (plane.delete("a"), plane.__setitem__("a", b"new" * 9)),
    "renamed": lambda plane: plane.rename("a", "b"),
    "renamed there and back": lambda plane: (plane.rename("a", "b"), plane.rename("b", "a")),
    "its row has another name": _use_row_for_another_name,
    "moved": spill_all,
}


@pytest.fixture
def plane(tmp_path: Any) -> Any:
    require_core()
    with shmplane.Plane.temporary(capacity="1MiB", max_blocks=64, max_processes=4, spill=tmp_path / "spill") as plane:
        plane["a"] = b"old" * 9
        plane["a"] = b"old" * 9
        yield plane


def peek(plane: Any, name: str = "a") -> Any:
    return tables_of(plane).peek(name.encode())


def lease(plane: Any, found: Any) -> object:
    """By the core, as ``lease_by_core`` does with what was read."""
    name_row, word, facts = found
    return core_of(plane).lease(name_row, word, facts.row, facts.moves, facts.segment_id, object())


def test_what_is_read_without_the_lock_is_what_is_read_under_it(plane: Any) -> None:
    name_row, word, facts = peek(plane)
    tx = tables_of(plane)
    assert (name_row, facts.row) == look(plane, lambda tx: tx.current(b"a"))
    assert (word, facts) == (tx.names.word[name_row], tx.facts(facts.row))
    assert lease(plane, (name_row, word, facts)) is True
    assert leases_of(plane).pop(facts.row)
    tx.manifest.lease_row(0)[facts.row] = 0


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_what_has_changed_since_is_not_leased(plane: Any, meanwhile: str) -> None:
    found = peek(plane)
    MEANWHILE[meanwhile](plane)
    assert lease(plane, found) is None
    assert not leases_of(plane)


@pytest.mark.parametrize("name", ["nothing", "goes"])
def test_what_is_not_there_or_goes_at_a_time_is_not_read(plane: Any, name: str) -> None:
    plane.put("goes", b"x", ttl=1000.0).close()
    assert peek(plane, name) is None


def test_a_row_that_has_another_name_by_now_is_not_taken_for_this_one(
    plane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the row is used again right after it was found."""
    index = tables_of(plane).index
    row = index.find(b"a")
    _use_row_for_another_name(plane)
    assert index.find(b"b") == row
    with monkeypatch.context() as patch:
        patch.setattr(index, "find", lambda name: row)
        assert peek(plane) is None


def test_what_was_read_while_it_moved_is_not_leased(plane: Any) -> None:
    """The count of moves goes up first, so the old place may have been read after it."""
    name_row, word, facts = peek(plane)
    spill_all(plane)
    moves = tables_of(plane).header.moves[0]
    assert lease(plane, (name_row, word, facts._replace(moves=moves))) is None
    assert lease(plane, peek(plane)) is True
    leases_of(plane).clear()
    plane.gc()


def test_a_block_that_shows_others_is_looked_up_under_the_lock(plane: Any) -> None:
    plane["pages"] = bytes(100_000)
    with plane.edit("pages") as draft:
        draft.array[0] = 1
    assert peek(plane, "pages") is None
    assert plane["pages"][0] == 1
