"""What does a search for hyperparameters cost, whose data every worker needs?

scikit-learn's ``GridSearchCV(n_jobs=2)`` over joblib's backends, on a frame of two columns of strings and eight of numbers.
Ours: the frame is copied into the plane once; baseline: loky, joblib's own, which maps numbers from files and pickles strings
into each task. The workers are there already. Memory: the highest sum, in a first search, of what all processes have for
themselves and what is in shared memory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.harness import Contestant, Row, Scale, compare, interleave

_LOOK_EVERY_S = 0.02
_MB = 1_000_000


def run(scale: Scale) -> Iterator[Row]:
    if importlib.util.find_spec("sklearn") is None or importlib.util.find_spec("joblib") is None:
        return
    searches = _searches(scale.pick(200_000, 20_000))
    try:
        highest = {name: _highest_during(search) / _MB for name, search in searches.items()}
        contestants = {name: Contestant(search) for name, search in searches.items()}
        times = interleave(contestants, scale.rounds, warm_up=0)
        yield compare("GridSearchCV(n_jobs=2), a frame with strings", times, target=1.0, baseline="loky")
        yield Row("its memory", highest["ours"], "MB", highest["loky"], peers={"loky": highest["loky"]})
    finally:
        _end_ours()
        _end_loky()


def _searches(rows: int) -> dict[str, Callable[[], Any]]:
    joblib: Any = importlib.import_module("joblib")
    importlib.import_module("shmplane.integrations.joblib")
    frame, wanted = _data(rows)

    def with_backend(backend: str) -> Callable[[], Any]:
        def search() -> Any:
            with joblib.parallel_config(backend, n_jobs=2):
                return _search().fit(frame, wanted).best_score_

        return search

    return {"ours": with_backend("shmplane"), "loky": with_backend("loky")}


def _data(rows: int) -> tuple[Any, Any]:
    pandas: Any = importlib.import_module("pandas")
    random = np.random.default_rng(7)
    words = np.array([f"symbol-{number:04}" for number in range(200)], dtype=object)
    texts = {f"s{n}": pandas.array(words[random.integers(0, 200, rows)], dtype="str") for n in range(2)}
    return pandas.DataFrame({**texts, **{f"x{n}": random.random(rows) for n in range(8)}}), random.random(rows)


def _search() -> Any:
    compose, linear, select, pipeline, preprocessing = (
        importlib.import_module(f"sklearn.{name}")
        for name in ("compose", "linear_model", "model_selection", "pipeline", "preprocessing")
    )
    columns = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(handle_unknown="ignore"), ["s0", "s1"]), remainder="passthrough"
    )
    steps = pipeline.make_pipeline(columns, linear.Ridge(solver="sparse_cg", max_iter=5, tol=0.01))
    return select.GridSearchCV(steps, {"ridge__alpha": [0.1, 1.0, 10.0]}, cv=3)


def _end_ours() -> None:
    importlib.import_module("shmplane.integrations.joblib").end_workers()


def _end_loky() -> None:
    importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)


def _highest_during(search: Callable[[], Any]) -> int:
    """B, at the highest moment of a search, above what there was before; the first search starts workers."""
    before, highest, done = _in_use(), 0, threading.Event()

    def look() -> None:
        nonlocal highest
        while not done.wait(_LOOK_EVERY_S):
            highest = max(highest, _in_use() - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        search()
    finally:
        done.set()
        watcher.join()
    return highest


def _in_use() -> int:
    """B that this process and its children have for themselves, and that are in shared memory."""
    me = psutil.Process()
    shared = os.statvfs("/dev/shm")
    found = (shared.f_blocks - shared.f_bfree) * shared.f_frsize
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(OSError):
            found += _anonymous(Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii"))
    return found


def _anonymous(rollup: str) -> int:
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss_Anon:"))
