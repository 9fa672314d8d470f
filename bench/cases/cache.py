"""How long does a hit in the cache take, in a process that did not write the item?

Ours: ``cache.get`` of 10,000 keys of 1 KB in random order, whose results are dropped, of an array of 100 MB and of an Arrow
table of 94 MB (held); then such an array from disk, since it is larger than memory. Baseline: none, the figures are times.
Peers in the same run: diskcache, joblib.Memory and LMDB, each with what its users would store, in the same file system.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, interleave
from bench.peers import lmdb

KEYS = 10_000
LARGE_NBYTES = 100_000_000


def open_cache(directory: Path) -> shmplane.Cache:
    return shmplane.Cache(directory / "ours", memory="512MiB", disk="1GiB")


def _large() -> dict[str, Any]:
    rows = 1_468_750
    return {
        "array": np.arange(LARGE_NBYTES // 8),
        "table": pa.table({f"c{number}": np.arange(rows) for number in range(8)}),
    }


def _write(directory: Path, keys: int, has_written: Any, may_end: Any) -> None:
    """The other process."""
    value, large = os.urandom(1000), _large()
    with open_cache(directory) as cache, contextlib.ExitStack() as peers:
        for number in range(keys):
            cache[f"key {number}"] = value
        cache.set_many(large)
        with contextlib.suppress(ImportError):
            import diskcache

            theirs = peers.enter_context(diskcache.Cache(str(directory / "diskcache"), size_limit=1 << 32))
            with theirs.transact():
                for number in range(keys):
                    theirs[f"key {number}"] = value
            theirs["array"] = large["array"]
        if lmdb is not None:
            environment = lmdb.open(str(directory / "lmdb"), map_size=1 << 30)
            with environment.begin(write=True) as transaction:
                for number in range(keys):
                    transaction.put(f"key {number}".encode(), value)
            environment.close()
        has_written.set()
        may_end.wait()


def run(scale: Scale) -> Iterator[Row]:
    keys = scale.pick(KEYS, 2_000)
    context = multiprocessing.get_context("spawn")
    has_written, may_end = context.Event(), context.Event()
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as made:
        directory = Path(made)
        writer = context.Process(target=_write, args=(directory, keys, has_written, may_end))
        writer.start()
        try:
            has_written.wait()
            yield from _read(directory, keys, scale)
        finally:
            may_end.set()
            writer.join()


def _read(directory: Path, keys: int, scale: Scale) -> Iterator[Row]:
    asked = [f"key {number}" for number in range(keys)]
    random.Random(1).shuffle(asked)
    with open_cache(directory) as cache, contextlib.ExitStack() as stack:
        contestants = {"ours": _each(cache.get, asked)}
        peers = _peers(directory, stack)
        contestants |= {name: _each(get, asked) for name, get in peers.items()}
        times = interleave(contestants, scale.rounds)
        yield absolute("cache hit 1 KB, random keys, dropped", times, unit="us", target=3)

        large = {"ours": Contestant(lambda: cache.get("array"), number=50)}
        if "diskcache" in peers:
            large["diskcache"] = Contestant(lambda: peers["diskcache"]("array"))
        yield absolute("cache hit 100 MB array", interleave(large, scale.rounds), unit="us", target=30)

        held = cache["table"]
        times = interleave({"ours": Contestant(lambda: cache.get("table"), number=50)}, scale.rounds)
        yield absolute("cache hit 94 MB Arrow table, held", times, unit="us", target=10)
        del held
    yield from _from_disk(scale)


def _from_disk(scale: Scale) -> Iterator[Row]:
    """What is larger than memory goes past it, and is mapped by each get."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-cache-") as made,
        shmplane.Cache(Path(made) / "disk", memory="16MiB", disk="512MiB") as small,
    ):
        small["array"] = np.arange(LARGE_NBYTES // 8)
        times = interleave({"ours": Contestant(lambda: small.get("array"), number=5)}, scale.rounds)
        yield absolute("disk-tier hit 100 MB", times, unit="us", target=300)


def _each(get: Callable[[str], Any], keys: list[str]) -> Contestant:
    """Key after key, in the same order for all."""
    following = itertools.cycle(keys)
    return Contestant(lambda: get(next(following)), number=len(keys))


def _peers(directory: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[str], Any]]:
    found: dict[str, Callable[[str], Any]] = {}
    if (directory / "diskcache").exists():
        import diskcache

        found["diskcache"] = stack.enter_context(diskcache.Cache(str(directory / "diskcache"), size_limit=1 << 32)).get
    if lmdb is not None:
        environment = stack.enter_context(lmdb.open(str(directory / "lmdb"), readonly=True, map_size=1 << 30))

        def get(key: str) -> bytes:
            with environment.begin() as transaction:
                return transaction.get(key.encode())  # type: ignore[no-any-return]

        found["LMDB"] = get
    with contextlib.suppress(ImportError):
        import joblib

        memory = joblib.Memory(str(directory / "joblib"), verbose=0)
        remembered = memory.cache(_same)
        found["joblib.Memory"] = lambda key: remembered(key[-1])
    return found


def _same(key: str) -> bytes:
    return key.encode() * 1000
