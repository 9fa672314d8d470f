"""Sizes of cells and slabs: pure functions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shmplane.manifest.space import (
    CELL_NBYTES,
    LARGEST_SLAB_NBYTES,
    class_of,
    slab_nbytes,
)

LARGEST = CELL_NBYTES[-1]


def test_cells_ascend_in_whole_cache_lines() -> None:
    assert list(CELL_NBYTES) == sorted(set(CELL_NBYTES))
    assert all(cell % 64 == 0 for cell in CELL_NBYTES)


@given(nbytes=st.integers(1, LARGEST))
def test_a_block_gets_the_smallest_cell_that_holds_it(nbytes: int) -> None:
    index = class_of(nbytes)
    assert nbytes <= CELL_NBYTES[index]
    assert index == 0 or nbytes > CELL_NBYTES[index - 1]


@given(nbytes=st.integers(257, LARGEST))
def test_a_cell_wastes_at_most_a_fifth(nbytes: int) -> None:
    cell = CELL_NBYTES[class_of(nbytes)]
    assert (cell - nbytes) * 5 <= cell + 5 * 64


@given(index=st.integers(0, len(CELL_NBYTES) - 1), slabs=st.integers(0, 100))
def test_a_slab_is_whole_pages_with_room_for_two_cells(index: int, slabs: int) -> None:
    nbytes = slab_nbytes(CELL_NBYTES[index], slabs)
    assert nbytes % 4096 == 0
    assert 2 * CELL_NBYTES[index] <= nbytes <= LARGEST_SLAB_NBYTES


@given(index=st.integers(0, len(CELL_NBYTES) - 1), slabs=st.integers(0, 100))
def test_slabs_of_a_class_never_become_smaller(index: int, slabs: int) -> None:
    assert slab_nbytes(CELL_NBYTES[index], slabs) <= slab_nbytes(CELL_NBYTES[index], slabs + 1)
