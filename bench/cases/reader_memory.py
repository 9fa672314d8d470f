"""How much private memory does one more reader of 1 GB need?

Ours: the unique set size (USS) of a new process after it opened the plane and read the whole array, less what
it was after the imports. Another process has read the same pages before, so they count as shared.
Baseline: the process itself after ``import``. Peer: LMDB, read in the same way.
"""

from __future__ import annotations

import importlib
import multiprocessing
import pickle
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil

import shmplane
from bench.harness import Row, Scale
from bench.peers import SHARED_MEMORY, open_lmdb

NBYTES = 1_000_000_000


def run(scale: Scale) -> Iterator[Row]:
    source = np.zeros(NBYTES, np.uint8)
    with shmplane.Plane.temporary(capacity="2GiB") as plane:
        plane.put("x", source).close()
        view = plane["x"]
        _read_all(view)
        handle = pickle.dumps(plane)
        ours = [_in_new_process(_read_ours, handle) for _ in range(scale.rounds)]
    peers = {}
    with open_lmdb(NBYTES + (64 << 20)) as lmdb:
        if lmdb and not scale.quick:
            lmdb.put(b"x", source)
            with lmdb.env.begin(buffers=True) as transaction:
                _read_all(np.frombuffer(transaction.get(b"x"), np.uint8))
                theirs = [_in_new_process(_read_lmdb, lmdb.env.path()) for _ in range(scale.rounds)]
            peers["LMDB"] = statistics.median(theirs)
    yield Row(
        "private memory of one more reader of 1 GB",
        statistics.median(ours), "MB", 1.0, baseline="after import", peers=peers, rounds=tuple(ours),
    )  # fmt: skip


def _in_new_process(read: Any, where: Any) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, read, where))
    process.start()
    sender.close()
    megabytes: float = receiver.recv()  # EOFError when the process died
    process.join()
    return megabytes


def _measure(sender: Any, read: Any, where: Any) -> None:
    importlib.import_module("pyarrow")
    for name in shmplane.__all__:  # loaded at first use; part of `import`, not of reading
        getattr(shmplane, name)
    before = psutil.Process().memory_full_info().uss
    held = read(where)
    after = psutil.Process().memory_full_info().uss
    del held
    sender.send((after - before) / 1e6)


def _read_ours(handle: bytes) -> Any:
    plane: shmplane.Plane = pickle.loads(handle)
    view = plane["x"]
    _read_all(view)
    return plane, view


def _read_lmdb(path: str) -> Any:
    lmdb: Any = importlib.import_module("lmdb")
    assert path.startswith(SHARED_MEMORY)
    env = lmdb.open(path, map_size=NBYTES + (64 << 20), readonly=True)
    transaction = env.begin(buffers=True)
    view = np.frombuffer(transaction.get(b"x"), np.uint8)
    _read_all(view)
    return env, transaction, view


def _read_all(view: Any) -> None:
    """Touch every page."""
    int(view[::1024].max())
