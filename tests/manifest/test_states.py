"""Name words: a block row and a version in one word."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shmplane.manifest.states import MAX_BLOCKS, pack_name_word, row_of_name_word, version_matches

rows = st.integers(0, MAX_BLOCKS - 1)
versions = st.integers(0, 2**40 - 1)


@given(row=rows, version=versions)
def test_a_word_says_its_row_and_knows_its_version(row: int, version: int) -> None:
    word = pack_name_word(row, version)
    assert 0 < word < 2**64
    assert row_of_name_word(word) == row
    assert version_matches(word, version)
    assert not version_matches(word, version + 1)


@given(one=st.tuples(rows, versions), other=st.tuples(rows, versions))
def test_two_publications_never_have_the_same_word(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (pack_name_word(*one) == pack_name_word(*other)) == (one == other)


def test_the_empty_word_has_no_row() -> None:
    assert row_of_name_word(0) == -1
