"""What does it cost to get a file into a plane, and how much memory does that take besides the block?

Ours: ``plane.load`` of one name, over and over, so that memory is warm; the kernel has the file in its cache. Baseline:
reading the file as its own library does, and putting what was read. Peer: reading alone. Of npy also when the kernel has
none of the file; and what it costs to sum up tensors that another process has loaded, beside the format's own loader.
For memory: the most private memory of this process over what it had before, as another process sees it every millisecond.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

import shmplane
from bench.cases.mapped_files import drop_cache
from bench.harness import Contestant, Row, Scale, compare, interleave

#: at most this much private memory for each byte of the file: nothing of it is held twice
MOST_HELD = {"npy": 0.1, "safetensors": 0.1, "arrow": 0.2, "parquet": 0.5, "csv": 0.5}


def run(scale: Scale) -> Iterator[Row]:
    nbytes = scale.pick(1_000_000_000, 100_000_000)
    # Not in shared memory: there a file is memory, and not on a disk.
    with tempfile.TemporaryDirectory(prefix="shmplane-bench-", dir="/var/tmp") as directory:
        for suffix, (write, read) in _formats().items():
            path = Path(directory, f"file.{suffix}")
            write(path, nbytes)
            yield from _load(path, read, scale)
            path.unlink()


def _load(path: Path, read: Callable[[Path], Any], scale: Scale) -> Iterator[Row]:
    suffix, nbytes = path.suffix[1:], path.stat().st_size
    what = f"load {nbytes / 1e6:,.0f} MB of {suffix}"
    with shmplane.Plane.temporary(capacity=12 * nbytes + (256 << 20), recycle=6 * nbytes) as plane:

        def load() -> None:
            plane.load("x", path).close()

        def put() -> None:
            plane.put("y", read(path)).close()

        contestants = {"ours": load, "read and put": put, "read": lambda: read(path)}
        times = interleave({name: Contestant(act) for name, act in contestants.items()}, scale.rounds, warm_up=2)
        yield compare(what, times, target=1.0, baseline="read and put")
        if suffix == "npy":
            cold = {name: Contestant(act, before=lambda: drop_cache(path)) for name, act in contestants.items()}
            yield compare(f"{what}, cold", interleave(cold, scale.rounds), target=1.0, baseline="read and put")
        if suffix == "safetensors":
            looks = {
                "ours": lambda: _sum(plane["x"]),
                "load_file": lambda: _sum(read(path)),
                "safe_open": lambda: _sum_one_by_one(path),
            }
            times = interleave({name: Contestant(act) for name, act in looks.items()}, scale.rounds)
            yield compare(f"sum of {nbytes / 1e6:,.0f} MB of loaded tensors", times, target=0.5, baseline="load_file")
        held = {name: _held(act) / 1e6 for name, act in contestants.items()}
        most = MOST_HELD[suffix] * nbytes / 1e6 + 64
        yield Row(f"{what}: memory besides the block", held.pop("ours"), "MB", most, peers=held)


def _formats() -> dict[str, tuple[Callable[[Path, int], None], Callable[[Path], Any]]]:
    found: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], Any]]] = {"npy": (_write_npy, np.load)}
    try:
        numpy: Any = importlib.import_module("safetensors.numpy")
    except ImportError:  # an optional dependency of the benchmark
        pass
    else:
        found["safetensors"] = (lambda path, nbytes: numpy.save_file(_tensors(nbytes), path), numpy.load_file)
    found["arrow"] = (
        lambda path, nbytes: pa.feather.write_feather(_table(nbytes), path, compression="uncompressed"),
        lambda path: pa.feather.read_table(path, memory_map=False),
    )
    found["parquet"] = (
        lambda path, nbytes: pa.parquet.write_table(_table(nbytes), path),
        lambda path: pa.parquet.read_table(path, memory_map=False),
    )
    found["csv"] = (lambda path, nbytes: pa.csv.write_csv(_table(nbytes // 2), path), pa.csv.read_csv)
    return found


def _sum(tensors: Any) -> float:
    return sum(float(tensor.sum()) for tensor in tensors.values())


def _sum_one_by_one(path: Path) -> float:
    """As who maps the file does, and takes one tensor after the other."""
    with importlib.import_module("safetensors").safe_open(path, "np") as file:
        return sum(float(file.get_tensor(name).sum()) for name in file.keys())  # noqa: SIM118 - it is no mapping


def _write_npy(path: Path, nbytes: int) -> None:
    np.save(path, np.random.default_rng(7).random(nbytes // 8))


def _tensors(nbytes: int) -> dict[str, Any]:
    return {f"layer {number}": np.full((nbytes // 400, 4), number, "f4") for number in range(25)}


def _table(nbytes: int) -> pa.Table:
    rows = nbytes // 40
    random = np.random.default_rng(7)
    return pa.table(
        {
            "time": np.datetime64("2026-01-01", "us") + np.arange(rows),
            "price": random.random(rows),
            "size": random.random(rows),
            "symbol": pa.array(np.array([f"symbol-{number:05}" for number in range(5_000)]))
            .take(pa.array(random.integers(0, 5_000, rows)))
            .cast(pa.string()),
        }
    )


def _held(act: Callable[[], Any]) -> int:
    """The most private bytes of this process during a call, over those before."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    watcher = context.Process(target=_watch, args=(there, multiprocessing.current_process().pid))
    watcher.start()
    there.close()
    before = here.recv()
    act()
    here.send(None)
    most: int = here.recv()
    watcher.join()
    return max(most - int(before), 0)


def _watch(pipe: Any, pid: int) -> None:
    pipe.send(_private(pid))
    most = 0
    while not pipe.poll():
        most = max(most, _private(pid))
        time.sleep(0.001)
    pipe.send(most)


def _private(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("RssAnon:")[2].split()[0]) * 1024
