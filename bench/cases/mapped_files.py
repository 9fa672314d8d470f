"""What does it cost to go through a file once, and to look at some of its pages, cold and warm?

Ours: the sum of all windows of ``map_file(path, access="sequential").windows("8MiB")`` when the kernel has none of the file,
of ``map_file(path).windows("8MiB")`` when it has all; and single numbers of an array with ``access="random"``.
Baseline: reading the file in the same pieces into one buffer. Peers: the sum of an ``np.memmap``, and of
``pyarrow.memory_map``, in the same pieces. For residency: how much of the file is mapped at most, and how much of it the
kernel read for the numbers that were looked at; each beside ``np.memmap``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, compare, interleave

PIECE_NBYTES = 8 << 20
LOOKS = 1_500


def run(scale: Scale) -> Iterator[Row]:
    nbytes = scale.pick(1 << 30, 128 << 20)
    # Not in shared memory: a file there is never cold.
    with tempfile.TemporaryDirectory(prefix="shmplane-bench-", dir="/var/tmp") as directory:
        path = Path(directory, "numbers.bin")
        _write(path, nbytes)
        rounds = scale.pick(5, 5)
        readers = _readers(path)
        yield _compare(f"sum of {nbytes / 1e6:,.0f} MB, warm", readers, rounds)
        cold = {**readers, "ours": lambda: _sum(shmplane.map_file(path, access="sequential").windows(PIECE_NBYTES))}
        yield _compare(f"sum of {nbytes / 1e6:,.0f} MB, cold", cold, rounds, before=lambda: drop_cache(path))
        yield _mapped_at_most(path, nbytes)
        yield from _random(path, nbytes, rounds)


def _compare(
    what: str, readers: dict[str, Callable[[], Any]], rounds: int, *, before: Callable[[], Any] | None = None
) -> Row:
    contestants = {name: Contestant(reader, before=before) for name, reader in readers.items()}
    return compare(what, interleave(contestants, rounds), target=None, baseline="read")


def _readers(path: Path) -> dict[str, Callable[[], Any]]:
    def read() -> int:
        buffer = np.empty(PIECE_NBYTES, np.uint8)
        total = 0
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer.data):
                total += int(buffer[:count].view(np.uint64).sum())
        return total

    def memmap() -> int:
        return _sum(_pieces(np.memmap(path, np.uint8, "r")))

    def arrow() -> int:
        with pa.memory_map(str(path)) as file:
            return _sum(_pieces(np.frombuffer(file.read_buffer(), np.uint8)))

    def ours() -> int:
        return _sum(shmplane.map_file(path).windows(PIECE_NBYTES))

    return {"ours": ours, "read": read, "np.memmap": memmap, "pyarrow": arrow}


def _pieces(array: Any) -> Iterator[Any]:
    for start in range(0, len(array), PIECE_NBYTES):
        yield array[start : start + PIECE_NBYTES]


def _sum(pieces: Iterator[Any]) -> int:
    return sum(int(np.frombuffer(piece, np.uint64).sum()) for piece in pieces)


def _mapped_at_most(path: Path, nbytes: int) -> Row:
    """Pages of the file in this process's page tables, at their most."""
    most = max(_rss_after(window) for window in shmplane.map_file(path).windows(PIECE_NBYTES))
    before = _rss()
    whole = np.memmap(path, np.uint8, "r")
    theirs = max(_rss_after(piece) for piece in _pieces(whole)) - before
    del whole
    what = f"mapped at most, walking through {nbytes / 1e6:,.0f} MB"
    return Row(what, (most - before) / 1e6, "MB", 2.5 * PIECE_NBYTES / 1e6, peers={"np.memmap": theirs / 1e6})


def _rss_after(piece: Any) -> int:
    np.frombuffer(piece, np.uint64).sum()
    return _rss()


def _rss() -> int:
    """Bytes of files that are mapped here and in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[2]) * mmap.PAGESIZE


def _random(path: Path, nbytes: int, rounds: int) -> Iterator[Row]:
    offsets = np.random.default_rng(0).integers(0, nbytes // 8, LOOKS)

    def ours() -> None:
        shmplane.map_file(path, access="random").array(np.uint64)[offsets].sum()

    def theirs() -> None:
        np.memmap(path, np.uint64, "r")[offsets].sum()

    contestants = {"ours": ours, "np.memmap": theirs}
    read: dict[str, list[int]] = {name: [] for name in contestants}

    def contestant(name: str) -> Contestant:
        after = lambda: read[name].append(_cached_nbytes(path))  # noqa: E731
        return Contestant(contestants[name], before=lambda: drop_cache(path), after=after)

    times = interleave({name: contestant(name) for name in contestants}, rounds)
    what = f"{LOOKS:,} numbers of {nbytes / 1e6:,.0f} MB, cold"
    yield absolute(what, times, unit="ms", target=None)
    megabytes = {name: statistics.median(found) / 1e6 for name, found in read.items()}
    yield Row(
        f"{what}: read", megabytes.pop("ours"), "MB", 2 * LOOKS * mmap.PAGESIZE / 1e6, peers=megabytes
    )  # fmt: skip


def _write(path: Path, nbytes: int) -> None:
    with shmplane.map_file(path, "w+", nbytes=nbytes) as mapped:
        for number, window in enumerate(mapped.windows(PIECE_NBYTES)):
            np.frombuffer(window, np.uint64)[:] = number
        mapped.flush()


def drop_cache(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _cached_nbytes(path: Path) -> int:
    """How much of the file the kernel has in memory."""
    nbytes = path.stat().st_size
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), nbytes) as pages:
        flags = (ctypes.c_ubyte * -(-nbytes // mmap.PAGESIZE))()
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), flags)
        return int((np.frombuffer(bytes(flags), np.uint8) & 1).sum()) * mmap.PAGESIZE
