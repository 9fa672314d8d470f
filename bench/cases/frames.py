"""What does it cost to hand a DataFrame of 2 million rows with strings to another process, and to have it there?

Ours: ``plane.put`` and ``plane.delete`` of one name, in a loop; and ``plane[name]`` with a look at each column, when the
lease has ended and is taken anew (two frames take turns, and another process watches that at most one lease stands).
Baseline: ``pickle`` protocol 5, ``dumps`` and ``loads``, which is what a pipe or a queue does before it even sends.
Peers: joblib's ``dump`` and ``load`` (``mmap_mode="r"``) on the same file system; Ray's ``put`` and ``get``, if it is
installed.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import shmplane
from bench.cases.get import watch_leases
from bench.harness import Contestant, Row, Scale, compare, interleave
from bench.peers import SHARED_MEMORY

ROWS = 2_000_000


class Peer(NamedTuple):
    """Another way to hand a frame over: ``get`` returns what ``put`` was last given."""

    put: Callable[[], Any]
    get: Callable[[], Any]


def run(scale: Scale) -> Iterator[Row]:
    try:
        frame = _frame()
    except ImportError:
        return
    number = scale.pick(50, 10)
    pickled = pickle.dumps(frame, 5)
    with (
        shmplane.Plane.temporary(capacity="2GiB") as plane,
        tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix="shmplane-bench-") as directory,
        _ray(frame) as ray,
    ):
        peers = {name: peer for name, peer in (("joblib", _joblib(frame, directory)), ("Ray", ray)) if peer}

        def put_and_delete() -> None:
            plane.put("x", frame)
            plane.delete("x")

        putting = interleave(
            {
                "ours": Contestant(put_and_delete),
                "pickle 5": Contestant(lambda: pickle.dumps(frame, 5)),
                **{name: Contestant(peer.put) for name, peer in peers.items()},
            },
            scale.rounds,
            warm_up=3,
        )
        yield compare("DataFrame of 2 M rows, put, steady", putting, target=None, baseline="pickle 5")

        names = ["trades", "more trades"]
        for name in names:
            plane[name] = frame
        if not plane["trades"].equals(frame):
            raise RuntimeError("the frame came back changed")
        turn = itertools.cycle(names).__next__
        standing: list[int] = []
        with watch_leases(plane) as standing_leases:
            getting = interleave(
                {
                    "ours": Contestant(
                        lambda: _look(plane[turn()]), number, after=lambda: standing.append(standing_leases())
                    ),
                    "pickle 5": Contestant(lambda: _look(pickle.loads(pickled))),
                    **{name: Contestant(partial(_look_at, peer)) for name, peer in peers.items()},
                },
                scale.rounds,
            )
        note = "both leases still stood, so not all were anew" if max(standing) > 1 else ""
        yield compare("DataFrame of 2 M rows, get again", getting, target=None, baseline="pickle 5", note=note)


def _look(frame: Any) -> None:
    """The last value of each column: what is had lazily must be had."""
    for name in frame.columns:
        frame[name].iloc[-1]


def _look_at(peer: Peer) -> None:
    _look(peer.get())


def _frame() -> Any:
    pandas: Any = importlib.import_module("pandas")
    random = np.random.default_rng(7)
    words = np.array([f"symbol-{number:04}" for number in range(5_000)], dtype=object)
    return pandas.DataFrame(
        {
            "time": np.datetime64("2026-01-01", "us") + np.arange(ROWS),
            "symbol": pandas.array(words[random.integers(0, len(words), ROWS)], dtype="str"),
            "price": random.random(ROWS),
            "size": random.integers(0, 1_000, ROWS),
        }
    )


def _joblib(frame: Any, directory: str) -> Peer | None:
    try:
        joblib: Any = importlib.import_module("joblib")
    except ImportError:
        return None
    path = os.path.join(directory, "frame.joblib")
    joblib.dump(frame, path)
    return Peer(lambda: joblib.dump(frame, path), lambda: joblib.load(path, mmap_mode="r"))


@contextlib.contextmanager
def _ray(frame: Any) -> Iterator[Peer | None]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        yield None
        return
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 30)
    try:
        kept = ray.put(frame)
        yield Peer(lambda: ray.put(frame), lambda: ray.get(kept))
    finally:
        ray.shutdown()
