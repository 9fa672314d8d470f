"""Do eight processes on one cache get more done together than one alone?

Ours: the time for each operation of all eight together, as a ratio to that of one process alone, which does the same on the
same cache: ``get`` of 10,000 keys of 1 KB in random order, ``set`` over them, and nine gets to a set. 1.0 is the throughput of
one; one divided by the number of cores is the best there can be. Peer: diskcache, its eight beside its one.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import shmplane
from bench.harness import Row, Scale, show_seconds

KEYS = 10_000
PROCESSES = 8
VALUE = b"v" * 1000
#: of ten operations, how many are sets; and what to reach
MIXES: list[tuple[str, int, float | None]] = [("gets", 0, 1.0), ("nine gets to a set", 1, None), ("sets", 10, None)]
OURS, PEER = "ours", "diskcache"


def run(scale: Scale) -> Iterator[Row]:
    seconds = scale.pick(1000, 100) / 1000
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as made, _open(OURS, made) as cache:
        peers = [OURS]
        _fill(cache)
        with contextlib.suppress(ImportError), _open(PEER, made) as theirs:
            with theirs.transact():
                _fill(theirs)
            peers.append(PEER)
        with Workers(made, peers) as workers:
            for what, sets, target in MIXES:
                yield _measure(workers, what, sets, target, seconds=seconds, rounds=5 if scale.quick else 9)


def _measure(workers: Workers, what: str, sets: int, target: float | None, *, seconds: float, rounds: int) -> Row:
    ratios: dict[str, list[float]] = {who: [] for who in workers.peers}
    alone: list[float] = []
    for _ in range(rounds):
        for who in workers.peers:
            one = workers.seconds_an_operation(1, who, sets, seconds)
            ratios[who].append(workers.seconds_an_operation(PROCESSES, who, sets, seconds) / one)
            if who == OURS:
                alone.append(one)
    return Row(
        f"8 processes on one cache, {what}",
        statistics.median(ratios[OURS]),
        "x",
        target,
        ours=show_seconds(statistics.median(ratios[OURS]) * statistics.median(alone)),
        baseline=f"one process {show_seconds(statistics.median(alone))}",
        peers={who: statistics.median(its) for who, its in ratios.items() if who != OURS},
        rounds=tuple(ratios[OURS]),
    )


def _open(who: str, directory: str) -> Any:
    if who == OURS:
        return shmplane.Cache(Path(directory) / who, memory="64MiB", disk="256MiB")
    import diskcache

    return diskcache.Cache(str(Path(directory) / who), size_limit=1 << 30, timeout=60)


def _fill(cache: Any) -> None:
    for number in range(KEYS):
        cache[f"key {number}"] = VALUE


class Workers:
    """Processes that do operations for a while when they are told, and say how many they did."""

    def __init__(self, directory: str, peers: list[str]) -> None:
        self.peers = peers
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(PROCESSES)]
        self._ours = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=_work, args=(directory, peers, number, theirs))
            for number, (_, theirs) in enumerate(pipes)
        ]

    def seconds_an_operation(self, processes: int, who: str, sets: int, seconds: float) -> float:
        """Of all together."""
        for pipe in self._ours[:processes]:
            pipe.send((who, sets, seconds))
        count: int = sum(pipe.recv() for pipe in self._ours[:processes])
        return seconds / count

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        for pipe in self._ours:
            pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        for pipe, process in zip(self._ours, self._processes, strict=True):
            pipe.send(None)
            process.join(10)
            process.kill()


def _work(directory: str, peers: list[str], number: int, pipe: Any) -> None:
    names = [f"key {key}" for key in range(KEYS)]
    random.Random(number).shuffle(names)
    with contextlib.ExitStack() as stack:
        caches = {who: stack.enter_context(_open(who, directory)) for who in peers}
        for cache in caches.values():
            for name in names:
                cache.get(name)
        pipe.send("ready")
        following = itertools.cycle(names)
        while (asked := pipe.recv()) is not None:
            who, sets, seconds = asked
            cache = caches[who]
            pipe.send(_operate(cache.get, cache.set, following, sets, seconds))


def _operate(get: Callable[..., Any], put: Callable[..., Any], names: Iterator[str], sets: int, seconds: float) -> int:
    count, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        for turn in range(10):
            name = next(names)
            if turn < sets:
                put(name, VALUE)
            else:
                get(name)
        count += 10
    return count
