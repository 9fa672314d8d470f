"""What does it cost to put a tree of 1,000 arrays, as a state_dict is one, beyond the copy of its bytes, and to get it?

Ours: ``plane["x"] = tree`` over and over, less ``plane["y"] = array`` of as many bytes in the same round; and ``plane["x"]``
when its lease has ended and is taken anew. Tensors of torch, where it is installed, else arrays of NumPy.
Peer: ``pickle`` protocol 5, ``dumps`` and ``loads``, which is what a queue does before it even sends.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import pickle
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, Times, interleave

LEAVES = 1_000


def run(scale: Scale) -> Iterator[Row]:
    tree, nbytes = _tree(scale.pick(100_000, 10_000))
    flat = np.zeros(nbytes // 8)
    pickled = pickle.dumps(tree, 5)
    with shmplane.Plane.temporary(capacity="1GiB") as plane:

        def put() -> None:
            plane["x"] = tree

        def copy() -> None:
            plane["y"] = flat

        # A collection would look at all objects of the libraries that are loaded, which is not what is asked.
        gc.collect()
        gc.freeze()
        try:
            putting = interleave(
                {
                    "ours": Contestant(put, 5),
                    "copy": Contestant(copy, 5),
                    "pickle 5": Contestant(lambda: pickle.dumps(tree, 5)),
                },
                scale.rounds,
                warm_up=2,
            )
            yield _row(f"put {LEAVES:,} tensors, beyond the copy", putting, 2.0, baseline="copy", note=_what(tree))
            getting = interleave(
                {
                    "ours": Contestant(lambda: plane["x"], before=plane.gc),
                    "pickle 5": Contestant(lambda: pickle.loads(pickled)),
                },
                scale.rounds,
            )
            yield _row(f"get {LEAVES:,} tensors, lease anew", getting, 3.0, note=_what(tree))
            if _has_torch():
                getting = interleave({"ours": Contestant(lambda: plane.get("x", as_="torch"))}, scale.rounds)
                yield _row(f'get {LEAVES:,} tensors as_="torch"', getting, None)
        finally:
            gc.unfreeze()


def _row(what: str, times: Times, target: float | None, *, baseline: str = "", note: str = "") -> Row:
    """Milliseconds, of which those of the baseline are none of ours."""
    beyond = [(ours - other) * 1e3 for ours, other in zip(times["ours"], times.get(baseline, [0.0] * 99), strict=False)]
    copied = f"copy {statistics.median(times[baseline]) * 1e3:.3g} ms" if baseline else ""
    peers = {name: statistics.median(times[name]) * 1e3 for name in times if name == "pickle 5"}
    return Row(
        what, statistics.median(beyond), "ms", target, baseline=copied, peers=peers, note=note, rounds=tuple(beyond)
    )


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _what(tree: dict[str, Any]) -> str:
    return "" if _has_torch() else f"{type(next(iter(tree.values()))).__name__}s of NumPy: torch is not installed"


def _tree(mean_nbytes: int) -> tuple[dict[str, Any], int]:
    """Names and sizes as those of a model: every other leaf is small."""
    random = np.random.default_rng(1)
    arrays = {
        f"layers.{at // 2}.attention.{'weight' if at % 2 else 'bias'}": random.random(
            (64, mean_nbytes // 4 // 32 - 8 * (at % 7)) if at % 2 else (256,), np.float32
        )
        for at in range(LEAVES)
    }
    nbytes = sum(array.nbytes for array in arrays.values())
    if _has_torch():
        torch: Any = importlib.import_module("torch")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, nbytes
    return arrays, nbytes
