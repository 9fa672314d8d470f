"""Size classes of warm memory: pure functions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shmplane.system import PAGE_NBYTES, SIZE_CLASSES, class_nbytes, fits, size_class_of


@given(nbytes=st.integers(0, 2**62), more=st.integers(0, 2**40))
def test_classes_ascend_with_the_size(nbytes: int, more: int) -> None:
    assert 0 <= size_class_of(nbytes) <= size_class_of(nbytes + more) < SIZE_CLASSES


def test_there_are_four_classes_for_each_doubling() -> None:
    assert [size_class_of(size << 20) for size in (4, 5, 6, 7, 8)] == [
        size_class_of(4 << 20) + step for step in range(5)
    ]


@given(needed=st.integers(1, 2**50), spare=st.integers(0, 2**50))
def test_what_fits_lies_in_the_needed_sizes_class_or_in_one_of_the_next_two(needed: int, spare: int) -> None:
    """So that a search looks into three classes and misses nothing."""
    segment = needed + spare
    if fits(segment, needed):
        assert size_class_of(needed) <= size_class_of(segment) <= size_class_of(needed) + 2


@given(segment=st.integers(1, 2**50), needed=st.integers(1, 2**50))
def test_a_segment_that_fits_holds_it_and_wastes_at_most_a_quarter(segment: int, needed: int) -> None:
    assert fits(segment, needed) == (needed <= segment and segment - needed <= segment / 4)


@given(nbytes=st.integers(1, 2**50))
def test_the_size_of_a_class_is_whole_pages_and_wastes_at_most_a_quarter_above_the_smallest(nbytes: int) -> None:
    size = class_nbytes(nbytes)
    assert size % PAGE_NBYTES == 0
    assert nbytes <= size
    assert size - nbytes < PAGE_NBYTES or fits(size, nbytes)
    assert class_nbytes(size) == size
    assert size_class_of(size - 1) <= size_class_of(size)


@given(nbytes=st.integers(16384, 2**50))
def test_pieces_of_one_class_hold_what_is_rounded_to_it(nbytes: int) -> None:
    """So that a kept piece need not be compared with what is needed."""
    size = class_nbytes(nbytes)
    assert size_class_of(size) == size_class_of(size + 1)
    assert size == 4096 or size_class_of(size - 1) < size_class_of(size)
