"""Copy-on-write edits of arrays: what was touched is copied, whoever reads the old version sees nothing."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmplane
from shmplane.plane.drafts import array_draft, pages
from shmplane.plane.memory.extents import MAX_EXTENTS
from shmplane.system import DIRTY_METHODS, PAGE_NBYTES, dirty
from tests.plane.versions import edit, faults, settle
from tests.support.forked import run_forked
from tests.support.inside import extents_of, look, references_of, row_of
from tests.support.processes import Child, run_in_child

PAGE = PAGE_NBYTES
ITEMS = PAGE // 8  #: float64 items in a page


@pytest.fixture
def array() -> Any:
    return np.random.default_rng(3).random(300 * ITEMS + 17)


# What a commit publishes


def test_an_edit_is_a_new_version_and_the_old_one_stays_as_it_was(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    old, old_block = plane["x"], plane.attach("x")
    with edit(plane, "x") as draft:
        draft.array[1000] = -1.0
        draft.array[-1] = -2.0
    assert draft.block.version == 2
    assert (old == array).all()
    assert (old_block.array() == array).all()
    expected = array.copy()
    expected[[1000, -1]] = -1.0, -2.0
    assert (plane["x"] == expected).all()
    assert (draft.block.array() == expected).all()


def test_only_touched_pages_are_copied(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    before = settle(plane).used_nbytes
    with edit(plane, "x") as draft:
        draft.array[0] = draft.array[200 * ITEMS] = 1.0
        assert draft.dirty_nbytes == 2 * PAGE
    assert draft.dirty_nbytes == 2 * PAGE
    del draft
    assert settle(plane).used_nbytes - before < 100_000 < array.nbytes


def test_another_process_sees_the_edit(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    with edit(plane, "x") as draft:
        draft.array[7] = 42.0
    assert run_in_child(_item, plane, 7) == 42.0


def _item(plane: shmplane.Plane, index: int) -> float:
    return float(plane["x"][index])


@pytest.mark.parametrize(
    "dtype", ["u1", "i2", "<f8", ">f4", "c16", "?", "M8[ns]", "S5", "U3", [("a", "i4"), ("b", "f8", 2)]]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (40, 5), (70_000,), (300, 3, 50)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_dtype_shape_and_order_is_kept(
    plane: shmplane.Plane, dtype: Any, shape: tuple[int, ...], order: Any
) -> None:
    value = np.zeros(shape, dtype, order=order)
    plane["x"] = value
    with edit(plane, "x") as draft:
        assert (draft.array.dtype, draft.array.shape) == (value.dtype, value.shape)
        assert draft.array.flags.writeable
        assert draft.array.flags.f_contiguous == value.flags.f_contiguous
        draft.array[...] = np.ones((), "u1").astype(dtype)
    expected = np.zeros_like(value)
    expected[...] = np.ones((), "u1").astype(dtype)
    found = plane["x"]
    assert found.dtype == value.dtype
    assert found.flags.f_contiguous == value.flags.f_contiguous
    assert found.flags.c_contiguous == value.flags.c_contiguous
    assert found.tobytes() == expected.tobytes()


def test_bytes_are_edited_as_an_array_and_stay_bytes(plane: shmplane.Plane) -> None:
    for nbytes in (100, 200_000):
        plane["x"] = b"a" * nbytes
        with edit(plane, "x") as draft:
            draft.array[5] = ord("b")
        assert draft.block.kind == "bytes"
        assert bytes(plane["x"]) == b"aaaaab" + b"a" * (nbytes - 6)


def test_an_edit_of_an_edit_of_an_edit(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    expected, versions = array.copy(), []
    for number in range(40):
        with edit(plane, "x") as draft:
            at = slice(number * 7 * ITEMS, number * 7 * ITEMS + 3)
            draft.array[at] = expected[at] = number
        versions.append((draft.block, expected.copy()))
    for block, value in versions:
        assert (block.array() == value).all()
    assert not faults(plane)


def test_thousands_of_edits_in_a_row(plane: shmplane.Plane) -> None:
    expected = np.zeros(200 * ITEMS)
    plane["x"] = expected
    random = np.random.default_rng(11)
    for number in range(2_000):
        at = random.integers(0, len(expected), 2)
        expected[at] = number
        with edit(plane, "x") as draft:
            draft.array[at] = number
        if number % 100 == 0:
            assert (plane["x"] == expected).all()
    assert (plane["x"] == expected).all()
    assert plane.attach("x").version == 2_001
    draft = None
    assert settle(plane).used_nbytes <= 2 * expected.nbytes + (1 << 20)
    assert not faults(plane)


def test_a_view_that_was_kept_stays_private_and_readable(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    with edit(plane, "x") as draft:
        kept = draft.array
        kept[0] = 1.0
    kept[1] = 2.0
    assert plane["x"][1] == array[1]
    del draft
    for _ in range(3):
        plane["x"] = np.zeros_like(array)  # the base's memory would be used again if nobody leased it
    plane.gc()
    assert (kept[2:] == array[2:]).all()


@pytest.mark.parametrize("nbytes", [800, 400_000])
def test_an_edit_that_touched_nothing_publishes_nothing(plane: shmplane.Plane, nbytes: int) -> None:
    plane["x"] = np.arange(nbytes // 8)
    with edit(plane, "x") as draft:
        assert draft.array.sum() > 0
        assert draft.dirty_nbytes == 0
    assert draft.block.version == 1
    assert plane.attach("x").version == 1


@pytest.mark.parametrize("method", DIRTY_METHODS)
def test_every_way_to_find_dirty_pages_publishes_the_same(
    plane: shmplane.Plane, array: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dirty, "DIRTY_METHODS", (method,))
    plane["x"] = array
    for turn in range(3):
        with edit(plane, "x") as draft:
            draft.array[turn :: 37 * ITEMS] += 1.0
            array[turn :: 37 * ITEMS] += 1.0
            assert draft.dirty_nbytes == 9 * PAGE
        assert (plane["x"] == array).all()


def test_a_large_part_of_an_array_is_written_whole(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    with edit(plane, "x") as draft:
        draft.array[: len(array) * 2 // 3] = 0.0
    assert not references_of(draft.block)
    array[: len(array) * 2 // 3] = 0.0
    assert (plane["x"] == array).all()


def test_more_pieces_than_a_reader_may_have_mappings_are_joined(plane: shmplane.Plane) -> None:
    pages = 6 * MAX_EXTENTS
    expected = np.zeros(pages * ITEMS)
    plane["x"] = expected
    for first in range(0, 12, 4):
        with edit(plane, "x") as draft:
            draft.array[first * ITEMS :: 12 * ITEMS] = first + 1
        expected[first * ITEMS :: 12 * ITEMS] = first + 1
        assert len(extents_of(draft.block)) <= MAX_EXTENTS
        assert (plane["x"] == expected).all()
    assert not faults(plane)


# Ends


def _write_and(draft: Any, act: Any) -> None:
    with draft:
        draft.array[0] = 1.0
        act()


def test_an_exception_discards(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    draft = edit(plane, "x")
    with pytest.raises(ZeroDivisionError):
        _write_and(draft, lambda: 1 // 0)
    assert plane.attach("x").version == 1
    with pytest.raises(shmplane.ClosedError):
        draft.array  # noqa: B018
    with pytest.raises(shmplane.ClosedError):
        draft.block  # noqa: B018


def test_commit_and_discard_end_a_draft(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    draft = edit(plane, "x")
    draft.array[0] = 1.0
    block = draft.commit()
    assert (block.version, draft.block) == (2, block)
    for use in (draft.commit, draft.discard, lambda: draft.array, draft.__enter__):
        with pytest.raises(shmplane.ClosedError):
            use()
    draft = edit(plane, "x")
    draft.discard()
    draft.discard()
    for use in (draft.commit, lambda: draft.array, lambda: draft.block):
        with pytest.raises(shmplane.ClosedError):
            use()
    assert "discarded" in repr(draft)


def test_a_commit_inside_the_block_is_the_only_one(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    with edit(plane, "x") as draft:
        draft.array[0] = 1.0
        draft.commit()
    with edit(plane, "x") as draft:
        draft.array[0] = 2.0
        draft.discard()
    assert plane.attach("x").version == 2


@pytest.mark.parametrize("nbytes", [800, 400_000])
def test_a_name_that_moved_on_is_a_conflict_that_changes_nothing(plane: shmplane.Plane, nbytes: int) -> None:
    plane["x"] = np.zeros(nbytes // 8)
    first, second = edit(plane, "x"), edit(plane, "x")
    first.array[0], second.array[0] = 1.0, 2.0
    first.commit()
    before = settle(plane).used_nbytes
    with pytest.raises(shmplane.Conflict) as caught:
        second.commit()
    assert caught.value.facts == {"name": "x", "expected": 1, "found": 2}
    assert plane["x"][0] == 1.0
    assert settle(plane).used_nbytes == before
    assert not faults(plane)
    second.discard()


@pytest.mark.parametrize("how", ["put", "delete", "delete and put", "rename away", "rename over"])
def test_whatever_moves_a_name_is_a_conflict(plane: shmplane.Plane, array: Any, how: str) -> None:
    plane["x"] = array
    plane["other"] = array
    draft = edit(plane, "x")
    draft.array[0] = 1.0
    if how == "put":
        plane["x"] = array
    elif how.startswith("delete"):
        del plane["x"]
        if how == "delete and put":
            plane["x"] = array
    elif how == "rename away":
        plane.rename("x", "y")
    else:
        plane.rename("other", "x")
    with pytest.raises(shmplane.Conflict):
        draft.commit()
    draft.discard()


@pytest.mark.parametrize(("touched", "every"), [(2, 1), (5, 2), (40, 1)])
def test_a_name_that_moves_on_while_the_pages_are_written_gives_the_room_back(
    plane: shmplane.Plane, array: Any, touched: int, every: int
) -> None:
    """Room at the end of the youngest block of pages: for a short edit, a planned one, and one that has a new block too."""
    plane["x"] = array
    with edit(plane, "x") as draft:
        draft.array[0] = 1.0
    keeper = plane.attach("x")  # keeps the block of pages
    draft, before = edit(plane, "x"), settle(plane)
    draft.array[: touched * every * ITEMS : every * ITEMS] = 2.0
    modules: list[Any] = [pages, array_draft]
    prepare = modules[0].prepare

    def moved_meanwhile(*args: Any) -> Any:
        for module in modules:
            module.prepare = prepare
        prepared = prepare(*args)
        plane["x"] = b"moved"
        return prepared

    for module in modules:
        module.prepare = moved_meanwhile
    try:
        with pytest.raises(shmplane.Conflict):
            draft.commit()
    finally:
        for module in modules:
            module.prepare = prepare
    assert bytes(plane["x"]) == b"moved"
    taken = look(plane, lambda tx: [tx.blocks.stored_nbytes[row] for row in tx.references(row_of(keeper))])
    assert taken[-1] == PAGE, "only the first edit's page is taken"
    after = settle(plane)
    assert after.blocks == before.blocks + 1
    assert not faults(plane)
    draft.discard()


def test_a_conflict_at_the_end_of_the_block_discards_the_draft(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    draft = edit(plane, "x")
    with pytest.raises(shmplane.Conflict):
        _write_and(draft, lambda: plane.put("x", array))
    with pytest.raises(shmplane.ClosedError):
        draft.commit()


# Bad input


def test_what_cannot_be_edited(plane: shmplane.Plane) -> None:
    with pytest.raises(shmplane.BlockNotFound):
        edit(plane, "missing")
    with pytest.raises(TypeError):
        plane.edit(3)  # type: ignore[arg-type]
    plane.mutable("m", (3,), "f8")
    with pytest.raises(shmplane.UnsupportedValue, match="mutable"):
        edit(plane, "m")
    plane.put("p", {1, 2}, codec="pickle")
    with pytest.raises(shmplane.UnsupportedValue, match="pickle"):
        edit(plane, "p")


def test_a_full_plane_in_the_middle_of_a_commit_publishes_nothing_and_leaks_nothing() -> None:
    with shmplane.Plane.temporary(capacity="4MiB") as plane:
        plane["x"] = np.zeros(300 * ITEMS)
        draft = edit(plane, "x")
        draft.array[: 100 * ITEMS] = 1.0
        plane["filler"] = np.zeros(300 * ITEMS)
        plane.trim()
        plane.resize(plane.stats().used_nbytes + 100_000)
        before = plane.stats()
        with pytest.raises(shmplane.PlaneFull):
            draft.commit()
        plane.gc()
        plane.trim()
        assert plane.stats().used_nbytes == before.used_nbytes
        assert plane.attach("x").version == 1
        assert not faults(plane)
        del plane["filler"]
        assert draft.commit().version == 2  # the draft is still there
        assert plane["x"][: 100 * ITEMS].all()


def test_a_destroyed_plane_refuses_the_commit(plane_root: Path) -> None:
    plane = shmplane.Plane("p", root=str(plane_root), capacity="8MiB")
    plane["x"] = np.zeros(300 * ITEMS)
    draft = edit(plane, "x")
    draft.array[0] = 1.0
    plane.destroy()
    with pytest.raises(shmplane.ClosedError):
        draft.commit()
    assert draft.array[0] == 1.0
    draft.discard()


# Processes and threads


def test_a_forked_child_may_write_its_draft_but_not_commit_it(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    draft = edit(plane, "x")
    draft.array[0] = 1.0

    def write_and_commit() -> None:
        draft.array[1] = 2.0
        assert draft.array[0] == 1.0
        with pytest.raises(shmplane.ClosedError):
            draft.commit()

    run_forked(write_and_commit)
    assert draft.array[1] == array[1]
    assert draft.commit().array()[0] == 1.0


def test_a_draft_of_a_killed_process_leaves_nothing(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    before = settle(plane).used_nbytes
    with Child(_hold_a_draft, plane) as child:
        assert child.next() == "editing"
        child.kill()
    assert settle(plane).used_nbytes == before
    assert plane.stats().leases == 0
    assert not faults(plane)


def _hold_a_draft(plane: shmplane.Plane) -> Any:
    draft = edit(plane, "x")
    draft.array[0] = 1.0
    yield "editing"


def test_threads_that_edit_until_they_get_through_lose_no_change(plane: shmplane.Plane) -> None:
    plane["x"] = np.zeros(100 * ITEMS)

    def add_ones() -> None:
        for _ in range(20):
            while True:
                try:
                    with edit(plane, "x") as draft:
                        draft.array[::ITEMS] += 1.0
                    break
                except shmplane.Conflict:
                    continue

    threads = [threading.Thread(target=add_ones) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (plane["x"][::ITEMS] == 80.0).all()
    assert plane.attach("x").version == 81
    assert not faults(plane)


# What a composed block is to everything else


def test_a_composed_block_travels_as_a_handle(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    with edit(plane, "x") as draft:
        draft.array[3] = 9.0
    copy = pickle.loads(pickle.dumps(draft.block))
    assert copy.array()[3] == 9.0
    assert (copy.nbytes, copy.shape, copy.dtype) == (array.nbytes, array.shape, array.dtype)
    assert run_in_child(_item_of_block, draft.block) == 9.0


def _item_of_block(block: shmplane.Block) -> float:
    return float(block.array()[3])


def test_a_composed_block_is_reachable_by_the_standard_library() -> None:
    with shmplane.Plane.temporary(root="/dev/shm", capacity="16MiB") as plane:
        value = np.arange(300 * ITEMS, dtype=float)
        plane["x"] = value
        with edit(plane, "x") as draft:
            draft.array[3] = value[3] = 9.0
        shared = draft.block.shared_memory()
        found = np.frombuffer(shared.buf, "f8", len(value), draft.block.shm_offset)
        assert (found == value).all()
        del found
        shared.close()
        draft.block.close()


def test_a_composed_block_survives_the_death_of_its_makers_and_the_delete_of_its_base(
    plane: shmplane.Plane, array: Any
) -> None:
    plane["x"] = array
    with Child(_edit_and_wait, plane) as child:
        assert child.next() == "edited"
        child.kill()
    plane.gc()
    view = plane["x"]
    assert view[0] == 5.0
    del plane["x"]
    for _ in range(3):
        plane["y"] = np.zeros_like(array)
    assert view[0] == 5.0
    assert (view[1:] == array[1:]).all()
    del view
    assert settle(plane).used_nbytes < 2 * array.nbytes
    assert not faults(plane)


def _edit_and_wait(plane: shmplane.Plane) -> Any:
    with edit(plane, "x") as draft:
        draft.array[0] = 5.0
    yield "edited"


def test_a_draft_that_is_over_does_not_keep_the_old_version(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    draft, other = edit(plane, "x"), edit(plane, "x")
    draft.array[:] = 0.0
    block = draft.commit()
    other.discard()
    assert settle(plane).used_nbytes < 1.5 * array.nbytes
    assert block.version == draft.block.version == 2


def test_freeing_a_chain_frees_all_of_it(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    for number in range(10):
        with edit(plane, "x") as draft:
            draft.array[number * ITEMS] = number
    draft = None
    del plane["x"]
    assert settle(plane).used_nbytes == 0
    assert plane.stats().blocks == 0
    assert not faults(plane)


def test_blocks_of_pages_are_listed_as_such(plane: shmplane.Plane, array: Any) -> None:
    plane["x"] = array
    with edit(plane, "x") as draft:
        draft.array[0] = 1.0
    assert sorted((info.kind, info.name is None) for info in plane.blocks()) == [
        ("array", False),
        ("array", True),
        ("pages", True),
    ]
    assert draft.block.leases == 1


# The bound on memory


@pytest.mark.parametrize("touched", [1, 3, 40, 90, 150])
@pytest.mark.parametrize("kept", ["the last", "all"])
def test_the_memory_that_a_chain_of_edits_holds_is_at_most_twice_what_lives(touched: int, kept: str) -> None:
    """Live are, of the last version alone, its bytes; of all versions, the first one's and every page that was changed."""
    pages, constant = 256, 512 * 1024
    with shmplane.Plane.temporary(capacity="512MiB", recycle=0) as plane:
        value = np.zeros(pages * ITEMS)
        plane["x"] = value
        live, versions = value.nbytes, [plane.attach("x")]
        random = np.random.default_rng(touched)
        for number in range(120):
            with edit(plane, "x") as draft:
                chosen = random.choice(pages, touched, replace=False)
                draft.array[chosen * ITEMS] = value[chosen * ITEMS] = number
            if kept == "all":
                versions.append(draft.block)
                live += touched * PAGE
            else:
                versions[:] = [draft.block]
            del draft
            if number % 8 == 0:
                assert settle(plane).used_nbytes <= 2 * live + constant, f"after {number + 1} edits"
        assert (versions[-1].array() == value).all()
        assert not faults(plane)
        versions.clear()
