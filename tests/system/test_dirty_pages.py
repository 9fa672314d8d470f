"""Which pages of a private mapping were written: three ways, the same answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shmplane.system import DIRTY_METHODS, PAGE_NBYTES, Mapping, dirty, dirty_runs
from tests.support.forked import run_forked
from tests.support.requires import require

PAGES = 3000


@pytest.fixture
def source() -> Iterator[int]:
    fd = os.memfd_create("source")
    os.pwrite(fd, bytes(range(256)) * (PAGES * PAGE_NBYTES // 256), 0)
    yield fd
    os.close(fd)


def private(fd: int) -> tuple[Mapping, Any]:
    mapping = Mapping(PAGES * PAGE_NBYTES, writable=True)
    mapping.lay(fd, mapping.nbytes, private=True)
    return mapping, np.frombuffer(mapping.view, np.uint8)


def clean(fd: int) -> Any:
    mapping = Mapping(PAGES * PAGE_NBYTES)
    mapping.lay(fd, mapping.nbytes)
    return lambda: mapping.view


def pages_in(runs: Any) -> list[int]:
    return [page for first, count in runs.tolist() for page in range(first, first + count)]


@pytest.fixture(params=DIRTY_METHODS)
def method(request: pytest.FixtureRequest, source: int) -> str:
    name: str = request.param
    mapping, _ = private(source)
    try:
        dirty_runs(mapping, clean(source), method=name)
    except OSError as error:
        require(False, f"{name} on this kernel: {error}")
    return name


def test_an_untouched_mapping_has_no_dirty_page(source: int, method: str) -> None:
    mapping, array = private(source)
    assert array[::PAGE_NBYTES].sum() == 0  # reading is not touching
    assert dirty_runs(mapping, clean(source), method=method).shape == (0, 2)


@pytest.mark.parametrize("count", [1, 2, 40, 511, 512, 513, 1500])
def test_exactly_the_written_pages_are_found(source: int, method: str, count: int) -> None:
    """From 512 regions on, the scan's own report of where it stopped cannot be trusted."""
    mapping, array = private(source)
    written = np.sort(np.random.default_rng(count).choice(PAGES, count, replace=False))
    array[written * PAGE_NBYTES + 17] ^= 0xFF
    runs = dirty_runs(mapping, clean(source), method=method)
    assert pages_in(runs) == written.tolist()
    assert (runs[1:, 0] > runs[:-1, 0] + runs[:-1, 1]).all(), "runs that touch are one"


def test_every_second_page_and_all_pages(source: int, method: str) -> None:
    mapping, array = private(source)
    array[:: 2 * PAGE_NBYTES] ^= 1
    assert pages_in(dirty_runs(mapping, clean(source), method=method)) == list(range(0, PAGES, 2))
    array[:] ^= 1
    assert dirty_runs(mapping, clean(source), method=method).tolist() == [[0, PAGES]]


def test_more_regions_than_one_call_returns(source: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "_REGIONS", 7)
    mapping, array = private(source)
    array[:: 3 * PAGE_NBYTES] ^= 1
    assert pages_in(dirty_runs(mapping, clean(source))) == list(range(0, PAGES, 3))


def test_a_kernel_without_the_scan_is_asked_by_pagemap_and_one_without_both_is_not_asked(
    source: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping, array = private(source)
    array[5 * PAGE_NBYTES] ^= 1
    monkeypatch.setattr(dirty, "_PAGEMAP_SCAN", 0xC0606611)
    with pytest.raises(OSError, match="Errno"):
        dirty_runs(mapping, clean(source), method="scan")
    assert pages_in(dirty_runs(mapping, clean(source))) == [5]
    monkeypatch.setattr(dirty, "_PAGEMAP", "/proc/self/there-is-no-such-file")
    assert pages_in(dirty_runs(mapping, clean(source))) == [5]


def test_a_page_written_with_what_it_had_is_dirty_for_the_kernel_alone(source: int, method: str) -> None:
    mapping, array = private(source)
    array[PAGE_NBYTES] = array[PAGE_NBYTES]
    assert pages_in(dirty_runs(mapping, clean(source), method=method)) == ([] if method == "compare" else [1])


def test_a_forked_child_sees_its_own_pages(source: int, method: str) -> None:
    mapping, array = private(source)
    array[0] ^= 1

    def write() -> None:
        array[9 * PAGE_NBYTES] ^= 1
        assert pages_in(dirty_runs(mapping, clean(source), method=method)) == [0, 9]

    run_forked(write)
    assert pages_in(dirty_runs(mapping, clean(source), method=method)) == [0]
