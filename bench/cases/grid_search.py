"""What does a search for hyperparameters cost, whose data every worker needs?

scikit-learn's ``GridSearchCV(n_jobs=2)`` over joblib's backends: of a linear model over a frame of two columns of strings and
eight of numbers, and of a forest over the numbers. Ours: the data are copied into the plane once; baseline: loky, joblib's own,
which maps numbers from files and pickles strings into each task. The quick run leaves the forest out.

Time: both in one process, in turn; the workers are there already.
Memory: of one search in a process of its own, which did the same search without workers before, so that what it imports
itself is in neither figure. It is the highest sum, looked at every 10 ms, of the anonymous memory (``Pss_Anon``) of that
process and of all processes below it, trackers included, and of the directory in shared memory in which both keep their data:
the plane of ours, the memory-mapped files of loky. No page is in it twice: one of a private image is anonymous once it was
written, and no more than the plane's before.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.harness import Contestant, Row, Scale, compare, interleave
from bench.peers import SHARED_MEMORY

_LOOK_EVERY_S = 0.01
_MB = 1_000_000
_BACKENDS = {"ours": "shmplane", "loky": "loky"}
_MODELS = {"linear": "GridSearchCV(n_jobs=2), a frame with strings", "forest": "GridSearchCV(n_jobs=2) of a forest"}


def run(scale: Scale) -> Iterator[Row]:
    if importlib.util.find_spec("sklearn") is None or importlib.util.find_spec("joblib") is None:
        return
    rows = scale.pick(200_000, 20_000)
    for model, what in list(_MODELS.items())[: scale.pick(2, 1)]:
        search = _search(model, rows)
        contestants = {name: Contestant(_over(backend, search)) for name, backend in _BACKENDS.items()}
        try:
            times = interleave(contestants, scale.rounds)
        finally:
            _end_workers()
        yield compare(what, times, target=1.0, baseline="loky")
        yield _memory(f"{what}: memory", model, rows, scale.pick(5, 1))  # which load does not change


def _memory(what: str, model: str, rows: int, rounds: int) -> Row:
    found: dict[str, list[float]] = {name: [] for name in _BACKENDS}
    for _ in range(rounds):
        for name, backend in _BACKENDS.items():
            found[name].append(_in_new_process(backend, model, rows))
    theirs = statistics.median(found["loky"])
    ours = tuple(found["ours"])
    return Row(what, statistics.median(ours), "MB", theirs, peers={"loky": theirs}, rounds=ours)


# The searches


def _over(backend: str, search: Callable[[], Any]) -> Callable[[], Any]:
    joblib: Any = importlib.import_module("joblib")
    importlib.import_module("shmplane.integrations.joblib")

    def search_over() -> None:
        with joblib.parallel_config(backend, n_jobs=2):
            search()

    return search_over


def _search(model: str, rows: int) -> Callable[[], Any]:
    select: Any = importlib.import_module("sklearn.model_selection")
    frame, wanted = _data(rows)
    data: Any
    if model == "linear":
        estimator, grid, data = _linear(), {"ridge__alpha": [0.1, 1.0, 10.0]}, frame
    else:
        ensemble: Any = importlib.import_module("sklearn.ensemble")
        estimator = ensemble.RandomForestRegressor(n_estimators=4, max_depth=8, random_state=7)
        grid, data = {"max_features": [0.3, 0.6, 1.0]}, frame.iloc[:, 2:].to_numpy()
    return lambda: select.GridSearchCV(estimator, grid, cv=3).fit(data, wanted)


def _data(rows: int) -> tuple[Any, Any]:
    pandas: Any = importlib.import_module("pandas")
    random = np.random.default_rng(7)
    words = np.array([f"symbol-{number:04}" for number in range(200)], dtype=object)
    texts = {f"s{n}": pandas.array(words[random.integers(0, 200, rows)], dtype="str") for n in range(2)}
    return pandas.DataFrame({**texts, **{f"x{n}": random.random(rows) for n in range(8)}}), random.random(rows)


def _linear() -> Any:
    compose, linear, pipeline, preprocessing = (
        importlib.import_module(f"sklearn.{name}") for name in ("compose", "linear_model", "pipeline", "preprocessing")
    )
    columns = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(handle_unknown="ignore"), ["s0", "s1"]), remainder="passthrough"
    )
    return pipeline.make_pipeline(columns, linear.Ridge(solver="sparse_cg", max_iter=5, tol=0.01))


def _end_workers() -> None:
    importlib.import_module("shmplane.integrations.joblib").end_workers()
    importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)


# Memory


def _in_new_process(backend: str, model: str, rows: int) -> float:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY, prefix="shmplane-bench-") as root:
        command = [sys.executable, "-m", __name__, backend, model, str(rows), root]
        # Both have their files in shared memory anyway; in a directory of their own they can be told from all others.
        environment = {**os.environ, "SHMPLANE_ROOT": root, "JOBLIB_TEMP_FOLDER": root}
        run = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return float(run.stdout) / _MB


def _measure(backend: str, model: str, rows: int, root: Path) -> None:
    search = _search(model, rows)
    over = _over(backend, search)
    search()
    print(_highest_during(over, root))
    if backend == "shmplane":
        importlib.import_module("shmplane.integrations.joblib").end_workers()


def _highest_during(search: Callable[[], Any], root: Path) -> int:
    """B, at the highest moment of a search, above what there was before."""
    before, highest, done = _in_use(root), 0, threading.Event()

    def look() -> None:
        nonlocal highest
        while not done.wait(_LOOK_EVERY_S):
            highest = max(highest, _in_use(root) - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        search()
    finally:
        done.set()
        watcher.join()
    return highest


def _in_use(root: Path) -> int:
    """B that this process and those below it have for themselves, and that files in the directory have."""
    me = psutil.Process()
    found = 0
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_blocks * 512
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(OSError):
            found += _anonymous(Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii"))
    return found


def _anonymous(rollup: str) -> int:
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss_Anon:"))


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
