"""Rows, cells and segments: whatever is taken and given back, nothing is given twice and every byte is accounted for."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from shmplane import PlaneFull
from shmplane.manifest import (
    CELL_NBYTES,
    CREATING,
    DOOMED,
    FREE,
    LIVE,
    USED,
    WARM,
    Limits,
    Manifest,
    NeedSlab,
    Place,
    Transaction,
)
from tests.manifest.conftest import CAPACITY, LIMITS, MIB, make
from tests.support.inside import transaction_for


@pytest.fixture
def tx(manifest: Manifest) -> Transaction:
    made: Transaction = transaction_for(manifest, 0)
    return made


def small(tx: Transaction, nbytes: int) -> int:
    """A cell, with a slab made for it when there is none."""
    try:
        return tx.begin_small(nbytes)
    except NeedSlab:
        tx.space.finish_slab(tx.space.make_slab_for(nbytes).segment_row)
    return tx.begin_small(nbytes)


def large(tx: Transaction, nbytes: int) -> tuple[int, Place]:
    row, place = tx.begin_large(nbytes)
    tx.space.finish(place.segment_row)
    return row, place


def remove_files(tx: Transaction) -> list[int]:
    """What is done after the lock is released; the ids of the files."""
    removed = list(tx.space.doomed)
    for doomed in tx.space.doomed.values():
        tx.space.forget_segment(doomed.segment_row, doomed.segment_id)
    tx.space.doomed.clear()
    return removed


def test_a_class_without_a_slab_has_no_cell(tx: Transaction) -> None:
    with pytest.raises(NeedSlab):
        tx.begin_small(100)


@pytest.mark.parametrize("nbytes", [1, 64, 65, 1000, 60_000])
def test_a_small_block_gets_a_cell_that_holds_it(tx: Transaction, nbytes: int) -> None:
    row = small(tx, nbytes)
    assert nbytes <= tx.blocks.cell[row] in CELL_NBYTES
    assert tx.blocks.offset[row] % 64 == 0


def test_a_cell_that_was_given_back_is_taken_next(tx: Transaction) -> None:
    first, second = small(tx, 100), small(tx, 100)
    assert first != second
    tx.abandon_small(first)
    assert small(tx, 100) == first


def test_a_large_block_gets_whole_pages_of_its_own(tx: Transaction) -> None:
    _, place = large(tx, 100_000)
    assert place.fresh
    assert place.nbytes == 102_400
    assert tx.header.used_nbytes[0] == place.nbytes


def test_freed_memory_stays_warm_and_is_taken_again(tx: Transaction) -> None:
    row, place = large(tx, 100_000)
    tx.abandon(row)
    assert tx.segments.state[place.segment_row] == WARM
    assert (tx.header.used_nbytes[0], tx.header.recycled_nbytes[0]) == (0, place.nbytes)
    _, again = large(tx, 90_000)
    assert again.segment_id == place.segment_id
    assert not again.fresh


def test_a_process_takes_what_it_filled_last_before_what_another_one_did(tx: Transaction) -> None:
    other = transaction_for(tx.manifest, 1)
    places = {tx: large(tx, MIB // 4), other: large(other, MIB // 4)}
    for its, (row, _) in places.items():  # so that of the other one is the youngest
        its.abandon(row)
    assert {its: large(its, MIB // 4)[1].segment_id for its in places} == {
        its: place.segment_id for its, (_, place) in places.items()
    }


def test_the_youngest_is_taken_of_what_others_filled_and_is_ones_own_from_then_on(tx: Transaction) -> None:
    others = transaction_for(tx.manifest, 1), transaction_for(tx.manifest, 2)
    made = [large(its, MIB // 4) for its in (tx, tx)]
    for row, _ in made:
        tx.abandon(row)
    row, place = large(others[0], MIB // 4)
    assert place.segment_id == made[1][1].segment_id
    others[0].abandon(row)
    assert large(tx, MIB // 4)[1].segment_id == made[0][1].segment_id
    assert large(others[0], MIB // 4)[1].segment_id == place.segment_id


def test_warm_memory_that_is_much_too_large_is_left_alone(tx: Transaction) -> None:
    row, place = large(tx, 200_000)
    tx.abandon(row)
    _, other = large(tx, 100_000)
    assert other.segment_id != place.segment_id


def test_a_segment_that_was_never_finished_is_not_kept(tx: Transaction) -> None:
    row, place = tx.begin_large(100_000)
    tx.abandon(row)
    assert tx.segments.state[place.segment_row] == DOOMED
    assert remove_files(tx) == [place.segment_id]
    assert tx.segments.state[place.segment_row] == FREE


def test_a_segment_that_others_may_have_open_is_not_kept(tx: Transaction) -> None:
    row, place = large(tx, 100_000)
    tx.segments.exported[place.segment_row] = 1
    tx.abandon(row)
    assert tx.segments.state[place.segment_row] == DOOMED


def test_no_more_is_kept_warm_than_recycle_says(tx: Transaction) -> None:
    rows = [large(tx, 300_000)[0] for _ in range(6)]
    for row in rows:
        tx.abandon(row)
        assert tx.header.recycled_nbytes[0] <= MIB
    assert tx.header.recycled_nbytes[0] > 0


def test_warm_memory_makes_room_before_a_plane_is_full(tx: Transaction) -> None:
    row, warm = large(tx, MIB)
    tx.abandon(row)
    large(tx, CAPACITY - 100_000)
    assert remove_files(tx) == [warm.segment_id]


def test_what_does_not_fit_is_refused_and_changes_nothing(tx: Transaction) -> None:
    large(tx, CAPACITY // 2)
    before = tx.header.used_nbytes[0], tx.header.live_blocks[0], tx.manifest.segments_high
    with pytest.raises(PlaneFull, match="capacity=") as caught:
        tx.begin_large(CAPACITY)
    assert caught.value.needed == CAPACITY
    assert (tx.header.used_nbytes[0], tx.header.live_blocks[0], tx.manifest.segments_high) == before


def test_ids_of_segments_are_never_used_again(tx: Transaction) -> None:
    seen: set[int] = set()
    for _ in range(20):
        row, place = tx.begin_large(100_000)
        assert place.segment_id not in seen
        seen.add(place.segment_id)
        tx.abandon(row)
        remove_files(tx)
    assert tx.manifest.segments_high < 20


def test_rows_that_own_cells_are_taken_from_them_when_rows_run_short(tx: Transaction) -> None:
    for row in [small(tx, 64) for _ in range(LIMITS.max_blocks - 1)]:
        tx.abandon_small(row)
    taken = {large(tx, 4096)[0] for _ in range(LIMITS.max_blocks)}
    assert taken == set(range(LIMITS.max_blocks))
    with pytest.raises(PlaneFull, match="max_blocks="):
        large(tx, 4096)


def test_an_idle_slab_gives_its_memory_and_its_rows_back(tx: Transaction) -> None:
    for row in [small(tx, 1000) for _ in range(5)]:
        tx.abandon_small(row)
    warm = tx.header.recycled_nbytes[0]
    assert tx.space.remove_idle_slabs() == warm > 0
    assert tx.header.recycled_nbytes[0] == 0
    with pytest.raises(NeedSlab):
        tx.begin_small(1000)
    assert len(remove_files(tx)) == 1


def test_a_slab_with_a_live_cell_stays(tx: Transaction) -> None:
    kept, other = small(tx, 1000), small(tx, 1000)
    tx.abandon_small(other)
    assert tx.space.remove_idle_slabs() == 0
    assert tx.segments.cells[tx.blocks.segment[kept] - 1] == 1


class Allocating(RuleBasedStateMachine):
    """Any order of taking and giving back, with few rows and little capacity, so that everything runs short."""

    path: Path
    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.manifest = make(self.path, Limits(max_blocks=24, max_processes=1), capacity=MIB, recycle=MIB // 4)
        self.tx: Transaction = transaction_for(self.manifest, 0)
        self.small: set[int] = set()
        self.large: set[int] = set()
        self.full = 0

    def teardown(self) -> None:
        self.manifest.close()
        self.path.unlink()

    @rule(target=taken, nbytes=st.sampled_from([1, 64, 100, 200, 3000, 20_000, 70_000]))
    def take_small(self, nbytes: int) -> int:
        try:
            row = small(self.tx, nbytes)
        except (PlaneFull, NeedSlab):
            return -1
        assert row not in self.small | self.large
        assert nbytes <= self.tx.blocks.cell[row]
        self.small.add(row)
        return row

    @rule(target=taken, nbytes=st.integers(1, MIB // 2))
    def take_large(self, nbytes: int) -> int:
        try:
            row, place = large(self.tx, nbytes)
        except PlaneFull:
            return -1
        assert row not in self.small | self.large
        assert nbytes <= place.nbytes
        self.large.add(row)
        return row

    @rule(row=consumes(taken))
    def give_back(self, row: int) -> None:
        if row in self.small:
            self.small.remove(row)
            self.tx.abandon_small(row)
        elif row in self.large:
            self.large.remove(row)
            self.tx.abandon(row)

    @rule(nbytes=st.integers(0, MIB))
    def trim(self, nbytes: int) -> None:
        before = self.tx.header.recycled_nbytes[0]
        freed = self.tx.space.trim(nbytes)
        assert before - self.tx.header.recycled_nbytes[0] == freed
        assert freed >= min(nbytes, before)

    @precondition(lambda self: self.tx.space.doomed)
    @rule()
    def remove_files(self) -> None:
        remove_files(self.tx)

    @invariant()
    def no_two_blocks_share_a_byte(self) -> None:
        blocks = self.tx.blocks
        cells = sorted((blocks.segment[row], blocks.offset[row], blocks.cell[row]) for row in self.small)
        for (segment, start, nbytes), (other, after, _) in itertools.pairwise(cells):
            assert segment != other or start + nbytes <= after
        alone = [blocks.segment[row] for row in self.large]
        assert len(set(alone)) == len(alone)
        assert not set(alone) & {segment for segment, _, _ in cells}

    @invariant()
    def a_cell_lies_in_a_slab_that_is_in_use(self) -> None:
        blocks, segments = self.tx.blocks, self.tx.segments
        for row in self.small:
            segment = blocks.segment[row] - 1
            assert segments.state[segment] == USED
            assert blocks.offset[row] + blocks.cell[row] <= segments.bump[segment] <= segments.nbytes[segment]

    @invariant()
    def every_byte_is_accounted_for(self) -> None:
        tx = self.tx
        used = recycled = 0
        in_use = {tx.blocks.segment[row] - 1 for row in self.small | self.large}
        for row, nbytes in enumerate(tx.segments.nbytes[: tx.manifest.segments_high].tolist()):
            if row in in_use:
                used += nbytes
            elif tx.segments.state[row] in (USED, WARM):
                recycled += nbytes
        assert (tx.header.used_nbytes[0], tx.header.recycled_nbytes[0]) == (used, recycled)
        assert used + recycled + tx.space.free_nbytes() == tx.header.capacity[0]
        assert tx.space.free_nbytes() >= 0


Allocating.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


@pytest.fixture(autouse=True, scope="module")
def _where_the_machine_lies(tmp_path_factory: pytest.TempPathFactory) -> None:
    Allocating.path = tmp_path_factory.mktemp("allocating") / "manifest"


TestAllocating = Allocating.TestCase


def test_states_of_blocks_are_left_to_the_transaction(tx: Transaction) -> None:
    """A row with a cell is FREE until it is published; one with a segment is CREATING, so that recovery finds it."""
    assert tx.blocks.state[small(tx, 100)] == FREE
    row, _ = tx.begin_large(100_000)
    assert tx.blocks.state[row] == CREATING != LIVE
