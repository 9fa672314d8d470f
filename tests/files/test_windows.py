"""Windows and advice: what they show, and how much of the file is in memory meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane import FileTruncated, map_file
from tests.files.residency import cached_nbytes, drop_cache, mapped_nbytes
from tests.support.requires import require

MIB = 1 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 MiB on the disk, if the temporary directory is there."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    np.arange(4 * MIB, dtype="u8").tofile(path)
    drop_cache(path)
    return path


@pytest.fixture
def on_disk(large: Path) -> Path:
    drop_cache(large)
    require(cached_nbytes(large) == 0, "the temporary directory is in memory")
    return large


@given(size=st.integers(1, 3000), step=st.integers(1, 3000), nbytes=st.integers(0, 9000))
def test_windows_show_the_bytes_of_the_file(size: int, step: int, nbytes: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, nbytes).astype("u1").tobytes()
    fd = os.memfd_create("data")
    try:
        os.pwrite(fd, data, 0)
        modes: list[Any] = ["r", "r+", "c"]
        for mode in modes:
            found = [bytes(window) for window in map_file(f"/proc/self/fd/{fd}", mode).windows(size, step)]
            assert found == _expected(data, size, step)
    finally:
        os.close(fd)


def _expected(data: bytes, size: int, step: int) -> list[bytes]:
    found = []
    for start in range(0, len(data), step):
        found.append(data[start : start + size])
        if start + size >= len(data):
            break
    return found


@pytest.mark.parametrize("size", [0, -1, "0B"])
def test_windows_of_no_bytes_are_refused_at_the_call(large: Path, size: Any) -> None:
    with pytest.raises(ValueError, match="window"):
        map_file(large).windows(size)
    with pytest.raises(ValueError, match=r"step|window"):
        map_file(large).windows(10, size)
    with pytest.raises(TypeError):
        map_file(large).windows(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("access", ["normal", "sequential", "random"])
def test_what_was_left_behind_is_not_mapped_any_more(large: Path, mode: Any, access: Any) -> None:
    most = total = 0
    for window in map_file(large, mode, access=access).windows(2 * MIB):
        total += int(np.frombuffer(window, "u8").sum())
        most = max(most, mapped_nbytes(large))
    assert total == sum(range(4 * MIB))
    assert 2 * MIB <= most <= 4 * MIB
    assert mapped_nbytes(large) <= MIB


@pytest.mark.parametrize("hide", [False, True])
def test_a_file_that_was_cut_anywhere_ends_the_walk_at_the_next_window(tmp_path: Path, hide: bool) -> None:
    path = tmp_path / "cut"
    np.arange(MIB, dtype="u8").tofile(path)
    windows = map_file(path).windows(MIB)
    next(windows)
    os.truncate(path, 4 * MIB)
    if hide:
        path.unlink()
    with pytest.raises(FileTruncated):
        next(windows)


def test_a_loop_that_is_left_in_the_middle_leaves_no_pages(large: Path) -> None:
    mapped = map_file(large)
    for window in mapped.windows(2 * MIB):
        np.frombuffer(window, "u8").sum()
        if mapped_nbytes(large) >= 2 * MIB:
            break
    del window
    assert mapped_nbytes(large) <= MIB
    assert mapped.nbytes == 32 * MIB


def test_a_window_that_is_kept_stays_right(large: Path) -> None:
    kept = list(map_file(large).windows(5 * MIB))
    assert [np.frombuffer(window, "u8")[0] * 8 for window in kept] == [number * 5 * MIB for number in range(7)]


def test_what_is_written_through_windows_is_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "w"
    written = map_file(path, "w+", nbytes=8 * MIB)
    for number, window in enumerate(written.windows(MIB)):
        np.frombuffer(window, "u1")[:] = number
    assert np.fromfile(path, "u1")[::MIB].tolist() == list(range(8))
    private = map_file(path, "c")
    for window in private.windows(MIB):
        np.frombuffer(window, "u1")[:] += 100
    assert private.array("u1")[::MIB].tolist() == list(range(100, 108))
    assert np.fromfile(path, "u1")[::MIB].tolist() == list(range(8))


def test_a_sequential_walk_keeps_little_in_the_cache_either(on_disk: Path) -> None:
    most = 0
    for number, window in enumerate(map_file(on_disk, access="sequential").windows(2 * MIB)):
        np.frombuffer(window, "u8").sum()
        if number % 4 == 3:
            most = max(most, cached_nbytes(on_disk))
    assert 0 < most <= 16 * MIB


def test_random_access_reads_little_more_than_what_is_touched(on_disk: Path) -> None:
    offsets = np.random.default_rng(0).choice(4 * MIB, 200, replace=False)
    array = map_file(on_disk, access="random").array("u8")
    assert [int(array[offset]) for offset in offsets] == offsets.tolist()
    assert cached_nbytes(on_disk) <= 400 * 4096


def test_willneed_reads_ahead_without_being_touched(on_disk: Path) -> None:
    mapped = map_file(on_disk)
    assert mapped_nbytes(on_disk) == 0
    mapped.advise("willneed", 0, 2 * MIB)
    assert np.frombuffer(next(mapped.windows(2 * MIB)), "u8")[-1] == MIB // 4 - 1
    assert cached_nbytes(on_disk) >= 2 * MIB


def test_advice_on_pages_that_are_not_needed_gives_them_back(large: Path) -> None:
    mapped = map_file(large)
    array = mapped.array("u1")
    array.max()
    assert mapped_nbytes(large) == 32 * MIB
    mapped.advise("dontneed", MIB)
    assert mapped_nbytes(large) == MIB
    assert array[-8] == (4 * MIB - 1) % 256


def test_private_pages_survive_any_advice(large: Path) -> None:
    mapped = map_file(large, "c")
    mapped.array("u1")[::4096] = 77
    mapped.advise("dontneed")
    assert (mapped.array("u1")[::4096] == 77).all()


@pytest.mark.parametrize("arguments", [("fast",), ("random", -1), ("random", 0, -1), ("random", 33 * MIB)])
def test_bad_advice_is_refused(large: Path, arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"access|outside"):
        map_file(large).advise(*arguments)
