"""One process puts a DataFrame with strings; four others read all of it, in next to no memory of their own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

import shmplane
from shmplane import Plane
from tests.support.processes import Child, run_in_child

ROWS = 500_000
READERS = 4
MOST_PRIVATE_NBYTES = 2_000_000


def make_frame(library: str, rows: int) -> Any:
    """Times, text of 5 to 20 bytes, floats and integers."""
    random = np.random.default_rng(7)
    words = np.array([f"symbol-{number * 7 ** (number % 15)}" for number in range(10_000)], dtype=object)
    columns = {
        "time": np.datetime64("2026-01-01", "us") + np.arange(rows),
        "symbol": words[random.integers(0, len(words), rows)],
        "price": random.random(rows),
        "size": random.integers(0, 1000, rows),
    }
    frame = importlib.import_module(library).DataFrame
    return frame(columns) if library == "polars" else frame(columns).astype({"symbol": "str"})


def puts_a_frame(plane: Plane, library: str) -> int:
    with plane.put("trades", make_frame(library, ROWS)) as block:
        return block.nbytes


def reads_a_frame(plane: Plane) -> Iterator[Any]:
    for name in shmplane.__all__:
        getattr(shmplane, name)
    read_all(plane["warm"])  # imports the library, and what it loads when it first meets such a frame
    before = psutil.Process().memory_full_info().uss
    frame = plane["trades"]
    seen = read_all(frame)
    yield seen
    # Now that all of them have read it, what they share counts for none.
    yield psutil.Process().memory_full_info().uss - before
    assert read_all(frame) == seen


def read_all(frame: Any) -> tuple[str, float, int, int]:
    """Sums of the numbers, and the bytes of text, each page of which is read."""
    text = pa.chunked_array(frame["symbol"])
    buffers = [buffer for chunk in text.chunks for buffer in chunk.buffers() if buffer is not None]
    for buffer in buffers:
        if buffer.size:
            np.frombuffer(buffer, "u1")[::512].max()
    nbytes = sum(buffer.size for buffer in buffers)
    return str(frame["time"].max()), round(float(frame["price"].sum()), 3), int(frame["size"].sum()), nbytes


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_four_readers_of_a_frame_with_strings_need_less_than_2_mb_each(plane: Plane, library: str) -> None:
    pytest.importorskip(library)
    plane["warm"] = make_frame(library, 100)
    nbytes = run_in_child(puts_a_frame, plane, library)
    assert nbytes > 40 * ROWS
    readers = [Child(reads_a_frame, plane, method="spawn") for _ in range(READERS)]
    try:
        seen = {reader.next() for reader in readers}
        assert plane.stats().leases == READERS
        private = [reader.next() for reader in readers]
        for reader in readers:
            reader.result()
    finally:
        for reader in readers:
            reader.__exit__(None, None, None)
    print(f"{library}: {nbytes:,} B, read with {', '.join(f'{one:,}' for one in private)} B of private memory")
    assert len(seen) == 1
    assert max(private) < MOST_PRIVATE_NBYTES
