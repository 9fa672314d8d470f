"""Reading costs no memory: at most 1 MiB is allocated for a view of 64 MiB, and a reader's private memory stays small."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import Plane
from tests.support.processes import run_in_child

pytestmark = pytest.mark.guard_ignores("descriptors", reason="memray keeps a pipe from its first use on")

MIB = 1 << 20
NBYTES = 64 * MIB


def limit_memory(limit: str) -> pytest.MarkDecorator:
    """The limit of pytest-memray on what the test's own body allocates, where the plugin is there."""
    if importlib.util.find_spec("pytest_memray") is None:
        return pytest.mark.skip(reason="needs pytest-memray")
    return pytest.mark.limit_memory(limit)


def make_array() -> Any:
    return np.zeros(NBYTES // 8)


def make_table() -> Any:
    rows = NBYTES // 32  # 8 bytes a number, 4 an offset, 11 of text: 62 MiB
    words = pa.array(["\0" * 11])
    return pa.table({"n": np.zeros(rows), "x": np.zeros(rows), "s": words.take(pa.array(np.zeros(rows, "i4")))})


def make_frame() -> Any:
    return pytest.importorskip("pandas").DataFrame({f"x{number}": np.zeros(NBYTES // 64) for number in range(8)})


def make_polars() -> Any:
    return pytest.importorskip("polars").DataFrame({"n": np.zeros(NBYTES // 8)})


def make_bytes() -> Any:
    return bytes(NBYTES)


def touch(value: Any) -> int:
    """Read every page of what a value shows, without making anything of its size."""
    if isinstance(value, memoryview):
        return int(np.frombuffer(value, "u1")[::4096].max())
    if isinstance(value, np.ndarray):
        return int(value.ravel()[::512].max())
    if isinstance(value, pa.Table):
        buffers = [buffer for column in value.columns for chunk in column.chunks for buffer in chunk.buffers()]
        for buffer in filter(None, buffers):
            np.frombuffer(buffer, "u1")[::4096].max()
        return 0
    return sum(touch(value[name].to_numpy()) for name in value.columns)


@pytest.fixture
def reading(request: pytest.FixtureRequest) -> Iterator[Plane]:
    """A plane with the value under ``x``, put by another process; what libraries load and cache once is there."""
    make: Callable[[], Any] = request.param
    with Plane.temporary() as plane:
        plane["warm"] = make()[:16]
        touch(plane["warm"])
        if make is make_array:
            plane.get("warm", as_="pandas")
        run_in_child(put_it, plane, make)
        yield plane


@pytest.fixture
def mapped(reading: Plane) -> Plane:
    """The same, mapped into this process, which no longer leases it."""
    touch(reading["x"])
    deadline = time.monotonic() + 5
    while reading.stats().leases and time.monotonic() < deadline:
        time.sleep(0.002)
    return reading


def put_it(plane: Plane, make: Callable[[], Any]) -> None:
    plane["x"] = make()


with_each_kind = pytest.mark.parametrize(
    "reading",
    [make_array, make_table, make_frame, make_polars, make_bytes],
    indirect=True,
    ids=lambda make: make.__name__,
)


@limit_memory("65 MB")
@with_each_kind
def test_the_first_view_of_64_mib_allocates_less_than_1_mib_beside_its_mapping(reading: Plane) -> None:
    # A mapping counts in full, whatever is resident of it.
    assert touch(reading["x"]) == 0


@limit_memory("1 MB")
@with_each_kind
def test_a_view_of_64_mib_allocates_less_than_1_mib(mapped: Plane) -> None:
    assert touch(mapped["x"]) == 0


@limit_memory("65 MB")
@pytest.mark.parametrize("reading", [make_array], indirect=True, ids=["make_array"])
def test_private_pages_for_a_dlpack_consumer_allocate_less_than_1_mib_beside_their_mapping(mapped: Plane) -> None:
    # The kernel copies the pages that are written; the mapping counts in full.
    with mapped.attach("x") as block:
        assert touch(np.from_dlpack(block)) == 0


@limit_memory("1 MB")
@with_each_kind
def test_a_view_in_every_form_allocates_less_than_1_mib(mapped: Plane) -> None:
    with mapped.attach("x") as block:
        views: list[Any] = [block.value(), block.buffer()]
        if block.kind == "array":
            views += [block.array(), block.table(), block.to_pandas(), np.asarray(block)]
        if block.kind == "table":
            views += [block.table(), block.table(block.table().column_names[:1]), pa.table(block)]
    views += [mapped["x"] for _ in range(10)]
    del views
