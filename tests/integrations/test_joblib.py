"""The backend of joblib: in a process of its own each, since workers and loky's tracker stay until their process ends."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest

from tests.support.processes import run_in_child, run_python

pytest.importorskip("joblib")

SIZE = 50_000


def _total(array: Any, number: int = 0) -> float:
    return float(array.sum()) + number


def _double(array: Any) -> Any:
    array *= 2
    return array


def _pid(_: int) -> int:
    return os.getpid()


def _loaded(array: Any) -> list[str]:
    array += 1
    return [
        name
        for name in ("pyarrow", "pandas", "shmplane.plane.plane", "joblib._parallel_backends")
        if name in sys.modules
    ]


def _fail(number: int) -> int:
    if number == 3:
        raise ValueError("number 3")
    return number


def _nested(number: int) -> list[float]:
    import joblib

    kinds = joblib.Parallel(n_jobs=2)(joblib.delayed(_kind_of_backend)(number) for _ in range(2))
    found: list[float] = [number, len(set(kinds))]
    return found


def _kind_of_backend(_: int) -> str:
    import joblib.parallel

    return type(joblib.parallel.get_active_backend()[0]).__name__


def _search() -> float:
    """What a search for the best hyperparameter finds, whose data are above the threshold."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    samples = np.random.default_rng(0).random((2_000, 10))
    return float(GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3).fit(samples, samples.sum(axis=1)).best_score_)


def _calls() -> dict[str, Any]:
    import joblib

    import shmplane.integrations.joblib as backend

    array = np.ones(SIZE)
    found: dict[str, Any] = {}
    with joblib.parallel_config("shmplane", n_jobs=2):
        call = joblib.Parallel()
        found["totals"] = call(joblib.delayed(_total)(array, number) for number in range(8))
        found["doubled"] = [float(one.sum()) for one in call(joblib.delayed(_double)(array) for _ in range(4))]
        batched = joblib.Parallel(batch_size=4)(joblib.delayed(_double)(array[:]) for _ in range(8))
        found["doubled in batches"] = [float(one.sum()) for one in batched]
        found["untouched"] = float(array.sum())
        found["lambdas"] = call(joblib.delayed(lambda number: number + SIZE)(number) for number in range(3))
        found["pids"] = set(call(joblib.delayed(_pid)(number) for number in range(8)))
        found["again"] = set(joblib.Parallel()(joblib.delayed(_pid)(number) for number in range(8)))
        found["nested"] = call(joblib.delayed(_nested)(number) for number in range(2))
        try:
            call(joblib.delayed(_fail)(number) for number in range(8))
        except ValueError as error:
            found["error"] = str(error)
        found["after"] = call(joblib.delayed(_total)(array) for _ in range(2))
        generated = joblib.Parallel(return_as="generator")(joblib.delayed(_total)(array, n) for n in range(4))
        found["generated"] = list(generated)
        found["searched"] = _search()
    found["searched alone"] = _search()
    with joblib.parallel_backend("shmplane", n_jobs=2, on_worker_death="retry", threshold=0):
        found["retry"] = joblib.Parallel()(joblib.delayed(_total)(array, number) for number in range(4))
    with joblib.parallel_config("shmplane", n_jobs=1):
        found["alone"] = joblib.Parallel()(joblib.delayed(_pid)(number) for number in range(2)) == [os.getpid()] * 2
    backend.end_workers()
    return found


def test_calls_are_as_with_joblibs_own_backend() -> None:
    found = run_in_child(_calls, method="spawn", deadline=150)
    assert found["totals"] == [SIZE + number for number in range(8)]
    assert found["doubled"] == [2 * SIZE] * 4
    assert found["doubled in batches"] == [2 * SIZE] * 8
    assert found["untouched"] == SIZE
    assert found["lambdas"] == [SIZE, SIZE + 1, SIZE + 2]
    assert found["again"] & found["pids"]
    assert [one[0] for one in found["nested"]] == [0, 1]
    assert found["error"] == "number 3"
    assert found["after"] == [SIZE] * 2
    assert found["generated"] == found["retry"] == [SIZE, SIZE + 1, SIZE + 2, SIZE + 3]
    assert found["alone"]
    assert found["searched"] == found["searched alone"]


def _lean() -> dict[str, Any]:
    import joblib

    import shmplane.integrations.joblib as backend

    with joblib.parallel_config("shmplane", n_jobs=2):
        loaded = joblib.Parallel()(joblib.delayed(_loaded)(np.ones(SIZE)) for _ in range(4))
    from joblib.externals.loky.backend import resource_tracker

    found = {
        "loaded": {name for names in loaded for name in names},
        "loky's tracker": resource_tracker._resource_tracker._fd,
    }
    backend.end_workers()
    return found


def test_workers_have_what_their_task_needs_and_no_tracker_of_lokys_beside_them() -> None:
    found = run_in_child(_lean, method="spawn", deadline=150)
    assert found["loaded"] == {"joblib._parallel_backends"}
    assert found["loky's tracker"] is None


SCRIPT = """
import joblib, numpy as np, os
import shmplane.integrations.joblib

def total(array):  # of the main module, which has no guard: workers must not import it
    return float(array.sum()), os.environ["OMP_NUM_THREADS"]

with joblib.parallel_config("shmplane", n_jobs=2, inner_max_num_threads=1):
    print(joblib.Parallel()(joblib.delayed(total)(np.ones(100_000) * n) for n in range(3)))
"""


def test_functions_of_a_script_without_a_guard_run_in_the_environment_that_loky_gives() -> None:
    found = run_python(SCRIPT).stdout
    assert eval(found) == [(0.0, "1"), (100_000.0, "1"), (200_000.0, "1")]
    assert run_python(SCRIPT.replace('"shmplane"', '"loky"')).stdout == found
