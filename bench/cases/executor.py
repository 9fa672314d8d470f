"""What does it cost to have work done in other processes, beside doing it here?

Two workers. Ours: ``ProcessPoolExecutor``; baseline: the same work in this process. All results are kept until the last is
there. Peers: the standard library's executor, joblib with loky (arguments in memory-mapped files, results in a pipe), Ray where
it is installed. Tiny tasks are compared with the standard library's.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave

WORKERS = 2
#: takes a list of arguments, returns the list of results
Mapper = Callable[[Callable[[Any], Any], list[Any]], list[Any]]


def run(scale: Scale) -> Iterator[Row]:
    megabyte = 1_000_000
    large = scale.pick(50, 10) * megabyte
    with _mappers() as mappers:
        arrays = [np.full(large // 8, float(number)) for number in range(16)]
        yield _beside_serial(
            f"16 x {large // megabyte} MB in and out, 2 workers", mappers, double, arrays, scale, target=1.3
        )
        small = [np.full(megabyte // 8, float(number)) for number in range(64)]
        yield _beside_serial("64 x 1 MB in and out, 2 workers", mappers, double, small, scale)
        frame = _frame(scale.pick(300_000, 50_000))
        if frame is not None:
            yield _beside_serial("8 x a DataFrame with strings, 2 workers", mappers, with_fee, [frame] * 8, scale)
        tiny = list(range(scale.pick(2_000, 300)))
        both = {name: mappers[name] for name in ("ours", "stdlib")}
        times = interleave(
            {name: Contestant(lambda mapper=mapper: mapper(same, tiny)) for name, mapper in both.items()},  # type: ignore[misc]
            scale.rounds,
        )
        yield compare("a task that does nothing", times, target=1.1, baseline="stdlib")


def _beside_serial(
    what: str, mappers: dict[str, Mapper], work: Any, values: list[Any], scale: Scale, *, target: float | None = None
) -> Row:
    def with_all(mapper: Mapper) -> Callable[[], None]:
        return lambda: _drop(mapper(work, values))

    contestants = {name: Contestant(with_all(mapper)) for name, mapper in mappers.items()}
    contestants["serial"] = Contestant(with_all(lambda work, values: [work(value) for value in values]))
    return compare(what, interleave(contestants, scale.rounds), target=target, baseline="serial")


def _drop(results: list[Any]) -> None:
    results.clear()


def same(value: Any) -> Any:
    return value


def double(array: Any) -> Any:
    return array * 2


def with_fee(frame: Any) -> Any:
    return frame.assign(fee=frame["price"] * 0.01)


def _frame(rows: int) -> Any:
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError:
        return None
    random = np.random.default_rng(7)
    words = np.array([f"symbol-{number:04}" for number in range(5_000)], dtype=object)
    return pandas.DataFrame(
        {"symbol": pandas.array(words[random.integers(0, 5_000, rows)], dtype="str"), "price": random.random(rows)}
    )


@contextlib.contextmanager
def _mappers() -> Iterator[dict[str, Mapper]]:
    context: Any = multiprocessing.get_context("forkserver")
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(shmplane.ProcessPoolExecutor(WORKERS, context))
        theirs = stack.enter_context(futures.ProcessPoolExecutor(WORKERS, context))
        found: dict[str, Mapper] = {
            "ours": lambda work, values: list(ours.map(work, values)),
            "stdlib": lambda work, values: list(theirs.map(work, values)),
        }
        joblib, ray = _imported("joblib"), _imported("ray")
        if joblib is not None:
            parallel = joblib.Parallel(n_jobs=WORKERS, backend="loky")
            found["joblib"] = lambda work, values: list(parallel(joblib.delayed(work)(value) for value in values))
            stack.callback(lambda: joblib.externals.loky.get_reusable_executor().shutdown(wait=True))
        if ray is not None:
            ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=4 << 30)
            stack.callback(ray.shutdown)

            def by_ray(work: Any, values: list[Any]) -> list[Any]:
                remote = ray.remote(work)
                return list(ray.get([remote.remote(value) for value in values]))

            found["Ray"] = by_ray
        yield found


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
