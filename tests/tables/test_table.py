"""Tables: columns of words over plain memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane.tables import WORD_NBYTES, Column, Table, Text, column, columns, fingerprint, text, view_column


class Ships(Table):
    state: Column = column("1: afloat")
    crew: tuple[Column, ...] = columns(3, "who is aboard")
    name: Text = text(2, "UTF-8")
    length: Column = column("B of the name")


ROWS = 5
START = 3


def memory(rows: int = ROWS) -> memoryview:
    return memoryview(bytearray((START + rows * Ships.row_words + 2) * WORD_NBYTES)).cast("Q")


@pytest.fixture
def words() -> memoryview:
    return memory()


@pytest.fixture
def ships(words: memoryview) -> Ships:
    return Ships(words, START, ROWS)


def test_a_declaration_says_how_wide_a_row_is() -> None:
    assert Ships.row_words == 1 + 3 + 2 + 1
    assert list(Ships.describe()) == [
        ("state", 1, "1: afloat"),
        ("crew", 3, "who is aboard"),
        ("name", 2, "UTF-8"),
        ("length", 1, "B of the name"),
    ]


def test_a_declared_column_is_no_attribute_of_the_class() -> None:
    assert not hasattr(Ships, "state")


@given(
    stores=st.lists(st.tuples(st.integers(0, 4), st.integers(0, ROWS - 1), st.integers(0, 2**64 - 1)), max_size=40),
)
def test_each_word_is_of_one_column_and_one_row(stores: list[tuple[int, int, int]]) -> None:
    ships = Ships(memory(), START, ROWS)
    places = [ships.state, *ships.crew, ships.length]
    known = {(which, row): 0 for which in range(len(places)) for row in range(ROWS)}
    for which, row, word in stores:
        places[which][row] = word
        known[which, row] = word
    assert {(which, row): place[row] for which, place in enumerate(places) for row in range(ROWS)} == known
    assert [place.tolist() for place in places] == [
        [known[which, row] for row in range(ROWS)] for which in range(len(places))
    ]


def test_nothing_outside_of_the_table_is_touched(words: memoryview, ships: Ships) -> None:
    for place in (ships.state, *ships.crew, ships.length):
        for row in range(ROWS):
            place[row] = 2**64 - 1
    for row in range(ROWS):
        ships.name.write(row, b"\xff" * ships.name.room)
    touched = [index for index, word in enumerate(words) if word]
    assert touched == list(range(START, START + ROWS * Ships.row_words))


@pytest.mark.parametrize("row", [ROWS, -ROWS - 1])
def test_a_row_that_is_not_there_is_refused(ships: Ships, row: int) -> None:
    with pytest.raises(IndexError):
        ships.length[row] = 1


@pytest.mark.parametrize("word", [-1, 2**64])
def test_what_no_word_can_hold_is_refused(ships: Ships, word: int) -> None:
    with pytest.raises(ValueError, match="format"):
        ships.state[0] = word


def test_a_slice_of_a_column_is_a_column(ships: Ships) -> None:
    for row in range(ROWS):
        ships.length[row] = row
    part = ships.length[1:4]
    assert part.tolist() == [1, 2, 3]
    part[0] = 9
    assert ships.length[1] == 9


@given(names=st.lists(st.binary(max_size=16), min_size=ROWS, max_size=ROWS))
def test_texts_of_neighbours_do_not_run_into_each_other(names: list[bytes]) -> None:
    ships = Ships(memory(), START, ROWS)
    for row, name in enumerate(names):
        ships.name.write(row, name)
    assert [ships.name.read(row, len(name)) for row, name in enumerate(names)] == names
    assert ships.state.tolist() == ships.length.tolist() == [0] * ROWS


def test_a_length_that_was_written_over_reads_no_further_than_the_text(ships: Ships) -> None:
    ships.name.write(0, b"a" * 16)
    ships.length[0] = 2**60
    assert ships.name.read(0, ships.length[0]) == b"a" * 16


def test_a_span_is_where_rows_lie(ships: Ships) -> None:
    width = Ships.row_words * WORD_NBYTES
    assert ships.span(0, 1) == (START * WORD_NBYTES, width)
    assert ships.span(2, 3) == (START * WORD_NBYTES + 2 * width, 3 * width)


def test_a_column_is_a_view_of_every_nth_word(words: memoryview) -> None:
    found = view_column(words, 2, 5, 3)
    found[1] = 7
    assert len(found) == 3
    assert words[7] == 7


def _table(*names: str, **widths: int) -> type[Table]:
    declared = {name: column("meaning") for name in names} | {name: text(width, "") for name, width in widths.items()}
    return type("Drawn", (Table,), declared)


def test_a_fingerprint_is_of_names_order_and_widths_and_of_no_meaning() -> None:
    drawn = fingerprint([_table("a", "b", c=2)])
    assert drawn == fingerprint([_table("a", "b", c=2)])
    others = [_table("b", "a", c=2)], [_table("a", "b", c=3)], [_table("a", c=2)], [_table("a", "d", c=2)]
    assert len({drawn, *map(fingerprint, others), fingerprint([_table("a", "b", c=2), _table()])}) == 6
    assert 0 < drawn < 2**64
