"""Mapped files and buffers under Ctrl-C, at a sample of bytecodes: the exception comes out and nothing is left."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shmplane import BufferPool, map_file
from tests.support.tracing import Bytecodes

POINTS = 150


def sweep(act: Callable[[], object], left: Callable[[], object]) -> None:
    """Interrupt ``act`` at each of many points; ``left()`` is afterwards what it was before."""
    act()
    gc.collect()
    before = left()
    counter = Bytecodes()
    counter.arm(-1)
    act()
    count = counter.disarm()
    assert count > 100
    came = 0
    for at in range(1, count + 1, max(1, count // POINTS)):
        bytecodes = Bytecodes(interrupt=True)
        try:
            bytecodes.arm(at)
            act()
            for _ in range(3):
                time.sleep(0)  # what came at the very end comes out here
        except KeyboardInterrupt:
            came += 1
        finally:
            bytecodes.disarm()
        gc.collect()
        assert left() == before, f"after bytecode {at} of {count}"
    assert came >= POINTS


@pytest.fixture(autouse=True)
def _unclosed_files_may_warn():
    """A file object whose ``with`` was not reached closes its descriptor as garbage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def held_of(directory: Path) -> tuple[int, int, list[str]]:
    """Descriptors, mappings and unfinished files."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").count(str(directory))
    unfinished = [name for name in os.listdir(directory) if name.endswith(".new")]
    return len(os.listdir("/proc/self/fd")), maps, unfinished


def test_a_file_that_is_mapped_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5_000.0))

    def act() -> None:
        with map_file(path, "r+", access="random") as mapped:
            mapped.array()
            for window in mapped.windows(16_384):
                assert len(window)
            mapped.flush()

    sweep(act, lambda: held_of(tmp_path))


def test_a_file_that_is_made_and_grown_leaves_nothing(tmp_path: Path) -> None:
    def act() -> None:
        mapped = map_file(tmp_path / "new", "w+", nbytes=8192)
        mapped.resize(16_384)

    sweep(act, lambda: held_of(tmp_path))


def test_a_buffer_comes_back() -> None:
    pool = BufferPool("1MiB")

    def act() -> None:
        with pool.buffer(5_000) as buffer:
            buffer[0] = 1

    def out() -> int:
        return pool.stats().out

    sweep(act, out)
    act()
    assert pool.stats().out_nbytes == 0
