"""Names and sizes: what may be said, for any text."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shmplane.names import MAX_BLOCK_NAME_NBYTES, check_block_name, check_plane_name, parse_nbytes

PLANE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
NOT_STR = st.none() | st.integers() | st.binary() | st.floats() | st.lists(st.text())

plane_names = st.text(PLANE_LETTERS, min_size=1, max_size=64).filter(lambda name: name[0] != ".")


@given(plane_names)
def test_a_plane_name_comes_back_as_it_is(name: str) -> None:
    assert check_plane_name(name) == name


@given(st.text(max_size=80))
@example("")
@example(".")
@example("..")
@example(".hidden")
@example("a/b")
@example("market\n")
@example("Größe")
@example("٣")  # a digit, but not an ASCII one
@example("a" * 65)
def test_any_other_plane_name_is_a_value_error(name: str) -> None:
    assume(not name or len(name) > 64 or name.startswith(".") or any(letter not in PLANE_LETTERS for letter in name))
    with pytest.raises(ValueError, match="plane name"):
        check_plane_name(name)


@given(NOT_STR)
def test_a_plane_name_that_is_not_text_is_a_type_error(name: object) -> None:
    with pytest.raises(TypeError):
        check_plane_name(name)


@given(st.text(max_size=150))
@example("prices/2026")
@example("a:b")
@example("Größe")
@example(" ")
@example("\x7f")
@example("\x85")
@example("\ud800")
@example("é" * 60)
@example("é" * 61)
def test_a_block_name_is_its_utf8_or_a_value_error(name: str) -> None:
    control = any(unicodedata.category(letter) == "Cc" for letter in name)
    surrogate = any(unicodedata.category(letter) == "Cs" for letter in name)
    valid = not control and not surrogate and 0 < len(name.encode()) <= MAX_BLOCK_NAME_NBYTES
    if valid:
        assert check_block_name(name) == name.encode()
    else:
        with pytest.raises(ValueError, match="block"):
            check_block_name(name)


@given(NOT_STR)
def test_a_block_name_that_is_not_text_is_a_type_error(name: object) -> None:
    with pytest.raises(TypeError):
        check_block_name(name)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_size_in_bytes_stays_what_it_is(nbytes: int) -> None:
    assert parse_nbytes(nbytes) == nbytes


@given(
    st.integers(min_value=0, max_value=4095),
    st.sampled_from(["", "k", "m", "g", "t", "p"]),
    st.sampled_from(["", "b", "ib"]),
    st.booleans(),
)
def test_units_count_in_1000s_or_1024s(number: int, prefix: str, unit: str, upper: bool) -> None:
    assume(prefix or unit != "ib")
    text = f"{number}{prefix}{unit}"
    step = 1024 if unit == "ib" else 1000
    assert parse_nbytes(text.upper() if upper else text) == number * step ** " kmgtp".index(prefix or " ")


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("512MiB", 512 << 20),
        ("4GiB", 4 << 30),
        ("10GB", 10_000_000_000),
        ("64KiB", 65_536),
        (" 1.5 GiB ", 3 << 29),
        ("0", 0),
    ],
)
def test_sizes_of_the_documentation(text: str, nbytes: int) -> None:
    assert parse_nbytes(text) == nbytes


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e9", "1 000", "12iB", "1.MiB", "MiB 5", "5 bytes", "nan", "٣"])
def test_other_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="capacity"):
        parse_nbytes(text, "capacity")


@given(st.integers(max_value=-1))
def test_a_negative_size_is_a_value_error(nbytes: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        parse_nbytes(nbytes)


@given(st.booleans() | st.floats() | st.none() | st.binary())
def test_what_is_neither_number_nor_text_is_a_type_error(size: object) -> None:
    with pytest.raises(TypeError):
        parse_nbytes(size)


def test_an_integer_of_numpy_is_a_size() -> None:
    assert parse_nbytes(np.int64(5)) == 5
    assert type(parse_nbytes(np.uint8(5))) is int
    with pytest.raises(TypeError):
        parse_nbytes(np.float64(5))


@given(st.integers(min_value=2**53, max_value=2**60))
def test_large_sizes_as_text_are_exact(nbytes: int) -> None:
    assert parse_nbytes(str(nbytes)) == nbytes
