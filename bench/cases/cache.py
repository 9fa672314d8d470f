"""How long does a hit in the cache take, in a process that did not write the item, and how long a set?

Ours: ``cache.get`` of 10,000 keys of 1 KB in random order, whose results are dropped; of an array of 100 MB; of an Arrow table
of 94 MB that is held; such an array from disk, in a cache whose memory is smaller; ``cache.set`` of 1 KB. Baseline: none, the
figures are times. Peers in the same run and file system, each as its users would use it: diskcache, joblib.Memory (over a tenth
of the keys, mapped), LMDB (looked at where it lies, no syncing), cachetools (one process only: what it has it wrote itself).
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import multiprocessing
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, interleave
from bench.peers import lmdb

KEYS = 10_000
LARGE_NBYTES = 100_000_000
#: of joblib, which takes half a millisecond a call
SLOW_KEYS = 1_000

Get = Callable[[str], Any]
Set = Callable[[str, bytes], Any]


def run(scale: Scale) -> Iterator[Row]:
    context = multiprocessing.get_context("spawn")
    has_written, may_end = context.Event(), context.Event()
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as made:
        directory = Path(made)
        writer = context.Process(target=_write, args=(directory, has_written, may_end))
        writer.start()
        try:
            while not has_written.wait(0.1):
                if not writer.is_alive():
                    raise RuntimeError("the process that writes the items died")
            yield from _read(directory, scale)
        finally:
            may_end.set()
            writer.join()


# The process that writes


def _write(directory: Path, has_written: Any, may_end: Any) -> None:
    names = [f"key {number}" for number in range(KEYS)]
    with _open_ours(directory) as cache, _open_small(directory) as small:
        for name in names:
            cache[name] = value_of(name)
        cache["array"], cache["table"] = array_of("array"), _table()
        small["array"] = array_of("array")
        for write in (_write_diskcache, _write_joblib, _write_lmdb):
            with contextlib.suppress(ImportError):
                write(directory, names)
        has_written.set()
        may_end.wait()


def _open_ours(directory: Path) -> shmplane.Cache:
    return shmplane.Cache(directory / "ours", memory="512MiB", disk="1GiB")


def _open_small(directory: Path) -> shmplane.Cache:
    """An array goes past its memory, so each hit is one on disk."""
    return shmplane.Cache(directory / "small", memory="16MiB", disk="512MiB")


def value_of(name: str) -> bytes:
    return name.encode().ljust(1000, b".")


def array_of(name: str) -> Any:  # noqa: ARG001 - one name, one array
    return np.arange(LARGE_NBYTES // 8)


def _table() -> pa.Table:
    return pa.table({f"c{number}": np.arange(1_468_750) for number in range(8)})


def _write_diskcache(directory: Path, names: list[str]) -> None:
    with _open_diskcache(directory) as theirs:
        with theirs.transact():
            for name in names:
                theirs[name] = value_of(name)
        theirs["array"], theirs["table"] = array_of("array"), _table()
        np.save(directory / "array.npy", array_of("array"))
        with open(directory / "array.npy", "rb") as file:
            theirs.set("file", file, read=True)
        (directory / "array.npy").unlink()


def _open_diskcache(directory: Path) -> Any:
    import diskcache

    return diskcache.Cache(str(directory / "diskcache"), size_limit=1 << 32)


def _write_joblib(directory: Path, names: list[str]) -> None:
    small, large = _open_joblib(directory)
    for name in names[:SLOW_KEYS]:
        small(name)
    large("array")


def _open_joblib(directory: Path) -> tuple[Get, Get]:
    import joblib

    memory = joblib.Memory(str(directory / "joblib"), mmap_mode="r", verbose=0)
    return memory.cache(value_of), memory.cache(array_of)


def _write_lmdb(directory: Path, names: list[str]) -> None:
    with _open_lmdb(directory) as environment, environment.begin(write=True) as transaction:
        for name in names:
            transaction.put(name.encode(), value_of(name))
        transaction.put(b"array", array_of("array").tobytes())


def _open_lmdb(directory: Path, **options: Any) -> Any:
    if lmdb is None:
        raise ImportError("lmdb")
    return lmdb.open(str(directory / "lmdb"), map_size=1 << 30, sync=False, **options)


# The process that reads


def _read(directory: Path, scale: Scale) -> Iterator[Row]:
    names = [f"key {number}" for number in range(KEYS)]
    random.Random(1).shuffle(names)
    with _open_ours(directory) as cache, _open_small(directory) as small, contextlib.ExitStack() as stack:
        peers = Peers(directory, stack)
        contestants = {"ours": _each(cache.get, names)}
        contestants |= {name: _each(get, names) for name, get in peers.small.items()}
        if peers.slow is not None:
            slow = [name for name in names if int(name[4:]) < SLOW_KEYS]
            contestants["joblib.Memory"] = _each(peers.slow, slow)
        times = interleave(contestants, scale.rounds)
        yield absolute("cache hit 1 KB, random keys, dropped", times, unit="us", target=3)

        hits = {"ours": Contestant(lambda: cache.get("array"), number=50)} | _large(peers.arrays, "array")
        yield absolute("cache hit 100 MB array", interleave(hits, scale.rounds), unit="us", target=30)

        held = cache["table"]
        hits = {"ours": Contestant(lambda: cache.get("table"), number=50)} | _large(peers.tables, "table")
        yield absolute("cache hit 94 MB Arrow table, held", interleave(hits, scale.rounds), unit="us", target=10)
        del held

        hits = {"ours": Contestant(lambda: small.get("array"), number=5)} | _large(peers.mapped, "array")
        yield absolute("disk-tier hit 100 MB", interleave(hits, scale.rounds), unit="us", target=300)

        sets = {"ours": _each_set(cache.set, names, scale)}
        sets |= {name: _each_set(put, names, scale) for name, put in peers.sets.items()}
        times = interleave(sets, scale.rounds)
        yield absolute("cache set 1 KB over a key, on disk and in memory", times, unit="us", target=None)


def _each(get: Get, names: list[str]) -> Contestant:
    """Key after key, in the same order for all."""
    following = itertools.cycle(names)
    return Contestant(lambda: get(next(following)), number=len(names))


def _each_set(put: Set, names: list[str], scale: Scale) -> Contestant:
    following, value = itertools.cycle(names), os.urandom(1000)
    return Contestant(lambda: put(next(following), value), number=scale.pick(1000, 200))


def _large(gets: dict[str, Get], name: str) -> dict[str, Contestant]:
    return {peer: Contestant(partial(get, name), number=1 if peer == "diskcache" else 5) for peer, get in gets.items()}


class Peers:
    """What those have that are installed, by name, for each row."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.small: dict[str, Get] = {}
        self.slow: Get | None = None
        self.arrays: dict[str, Get] = {}
        self.tables: dict[str, Get] = {}
        self.mapped: dict[str, Get] = {}
        self.sets: dict[str, Set] = {}
        for add in (self._add_diskcache, self._add_lmdb, self._add_joblib, self._add_cachetools):
            with contextlib.suppress(ImportError):
                add(directory, stack)

    def _add_diskcache(self, directory: Path, stack: contextlib.ExitStack) -> None:
        theirs = stack.enter_context(_open_diskcache(directory))
        self.small["diskcache"] = self.arrays["diskcache"] = self.tables["diskcache"] = theirs.get
        self.sets["diskcache"] = theirs.set

        def get_mapped(name: str) -> Any:  # noqa: ARG001 - there is one
            with theirs.get("file", read=True) as file:
                mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return np.frombuffer(mapping, np.int64, offset=128)

        self.mapped["diskcache + mmap"] = get_mapped

    def _add_lmdb(self, directory: Path, stack: contextlib.ExitStack) -> None:
        environment = stack.enter_context(_open_lmdb(directory))

        def get(name: str) -> bytes:
            with environment.begin() as transaction:
                return transaction.get(name.encode())  # type: ignore[no-any-return]

        def get_array(name: str) -> Any:
            with environment.begin(buffers=True) as transaction:
                return np.frombuffer(transaction.get(name.encode()), np.int64)

        def put(name: str, value: bytes) -> None:
            with environment.begin(write=True) as transaction:
                transaction.put(name.encode(), value)

        self.small["LMDB"], self.arrays["LMDB"], self.mapped["LMDB"] = get, get_array, get_array
        self.sets["LMDB"] = put

    def _add_joblib(self, directory: Path, stack: contextlib.ExitStack) -> None:  # noqa: ARG002 - nothing is open
        self.slow, self.arrays["joblib.Memory"] = _open_joblib(directory)
        self.mapped["joblib.Memory"] = self.arrays["joblib.Memory"]

    def _add_cachetools(self, directory: Path, stack: contextlib.ExitStack) -> None:  # noqa: ARG002 - it has no directory
        import cachetools

        theirs: Any = cachetools.LRUCache(KEYS)
        for number in range(KEYS):
            theirs[f"key {number}"] = value_of(f"key {number}")
        self.small["cachetools (one process)"] = theirs.get
